/**
 * The IOTLB: one device's table from IOVA to window offset, laid out in the window so that kernels and TypeScript read the
 * same bytes. An open-addressed hash of 2 MiB chunks: a chunk that one mapping covers completely is one entry; any other
 * chunk has a table of its 512 pages of 4 KiB. A look-up is one load for the first kind, two for the second.
 *
 * Written only while the device's readers are quiescent, so neither side needs a lock.
 *
 * ```
 * offset        size  field
 * 0             4     mask: slots - 1 (slots is a power of two)
 * 4             4     generation: grows with every change
 * 8             8     reserved
 * 16 + 16*slot  8     key: (iova >> 21) + 1; 0 = empty, the probe ends here
 * 24 + 16*slot  4     value: window offset | flags (low 11 bits)
 * 28 + 16*slot  4     reserved
 *
 * value without TABLE: window offset of the chunk's first byte (4 KiB aligned), READ / WRITE apply to the whole chunk
 * value with TABLE:    window offset of 512 u32, one per page: window offset of the page | READ | WRITE; 0 = not mapped
 * slot of a key: (imul(low 32 bits of key, 0x9E3779B1) >>> 12) & mask, then linear probing
 * ```
 */

/** Slots of the hash table; a power of two. */
export const IOTLB_SLOTS = 8192;
/** Load factor at most one half: a probe is short, and an empty slot always ends it. */
export const IOTLB_MAX_KEYS = 4096;
/** Bytes before slot 0: mask, generation, reserved. */
export const IOTLB_HEADER_BYTES = 16;
/** Bytes of a slot: key u64, value u32, reserved. */
export const IOTLB_ENTRY_BYTES = 16;
/** Bytes of a whole table, page tables of chunks not included. */
export const IOTLB_BYTES: number = IOTLB_HEADER_BYTES + IOTLB_SLOTS * IOTLB_ENTRY_BYTES;
/** Multiplier of the hash: 2^32 divided by the golden ratio (Knuth's multiplicative hashing). */
export const IOTLB_HASH = 0x9e3779b1;
/** Low bits of the product that do not choose the slot. */
export const IOTLB_HASH_SHIFT = 12;

/** Logarithm of `CHUNK_BYTES`: `iova >> CHUNK_SHIFT` is the number of a chunk. */
export const CHUNK_SHIFT = 21;
/** Bytes of a chunk, what one slot of the table stands for: 2 MiB, a huge page. */
export const CHUNK_BYTES: number = 1 << CHUNK_SHIFT;
/** Logarithm of `PAGE_BYTES`. */
export const PAGE_SHIFT = 12;
/** Grain of DMA regions and of the dirty log: 4 KiB. */
export const PAGE_BYTES: number = 1 << PAGE_SHIFT;
/** Entries of the page table of a chunk that no single mapping covers. */
export const PAGES_PER_CHUNK: number = 1 << (CHUNK_SHIFT - PAGE_SHIFT);

/** Device may read. */
export const IOTLB_READ = 1;
/** Device may write. */
export const IOTLB_WRITE = 2;
/** The value names a page table, not a chunk. */
export const IOTLB_TABLE = 4;
/** Everything below is flags. */
export const IOTLB_OFFSET_MASK = 0xfffff800;

const SLOT_WORDS = IOTLB_ENTRY_BYTES / 4;
const HEADER_WORDS = IOTLB_HEADER_BYTES / 4;

/** Writes the header of an empty table; its bytes are zero already. `iotlb` is its window offset, `u32` the whole window. */
export function iotlbInit(u32: Uint32Array, iotlb: number): void {
  u32[iotlb >>> 2] = IOTLB_SLOTS - 1;
  u32[(iotlb >>> 2) + 1] = 0;
}

function slotOf(keyLo: number, mask: number): number {
  return (Math.imul(keyLo, IOTLB_HASH) >>> IOTLB_HASH_SHIFT) & mask;
}

/** Word index of the key's slot, or of the empty slot where it belongs. */
function findSlot(u32: Uint32Array, iotlb: number, keyHi: number, keyLo: number): number {
  const mask = u32[iotlb >>> 2]!;
  let slot = slotOf(keyLo, mask);
  for (;;) {
    const word = (iotlb >>> 2) + HEADER_WORDS + slot * SLOT_WORDS;
    const lo = u32[word]!;
    const hi = u32[word + 1]!;
    if ((lo === keyLo && hi === keyHi) || (lo === 0 && hi === 0)) return word;
    slot = (slot + 1) & mask;
  }
}

/** The chunk's value, 0 where the table has none. */
export function iotlbGet(u32: Uint32Array, iotlb: number, chunk: number): number {
  const key = chunk + 1;
  const word = findSlot(u32, iotlb, Math.floor(key / 2 ** 32), key >>> 0);
  return u32[word + 2]!;
}

/** Sets the value of chunk number `chunk` (IOVA >> 21). The caller keeps the number of keys within IOTLB_MAX_KEYS. */
export function iotlbSet(u32: Uint32Array, iotlb: number, chunk: number, value: number): void {
  const key = chunk + 1;
  const word = findSlot(u32, iotlb, Math.floor(key / 2 ** 32), key >>> 0);
  u32[word] = key >>> 0;
  u32[word + 1] = Math.floor(key / 2 ** 32);
  u32[word + 2] = value;
}

/** Removes a chunk. Later entries of the same probe run move up, so that no look-up ends at the gap. */
export function iotlbDelete(u32: Uint32Array, iotlb: number, chunk: number): void {
  const key = chunk + 1;
  const first = (iotlb >>> 2) + HEADER_WORDS;
  const mask = u32[iotlb >>> 2]!;
  let hole = findSlot(u32, iotlb, Math.floor(key / 2 ** 32), key >>> 0);
  if (u32[hole] === 0 && u32[hole + 1] === 0) return;
  let slot = (hole - first) / SLOT_WORDS;
  for (;;) {
    slot = (slot + 1) & mask;
    const word = first + slot * SLOT_WORDS;
    if (u32[word] === 0 && u32[word + 1] === 0) break;
    const home = slotOf(u32[word]!, mask);
    const holeSlot = (hole - first) / SLOT_WORDS;
    // The entry may move to the hole unless its home lies behind the hole on the way to the entry.
    if (((slot - home) & mask) < ((slot - holeSlot) & mask)) continue;
    u32.copyWithin(hole, word, word + SLOT_WORDS);
    hole = word;
  }
  u32.fill(0, hole, hole + SLOT_WORDS);
}

/**
 * The twin of the kernels' look-up: window offset of [iova, iova + length) if every byte of it is mapped with all of `access`
 * (IOTLB_READ, IOTLB_WRITE) and lies contiguous in the window; 0 otherwise. Numbers only, no allocation.
 * `iovaHi`, `iovaLo` are the unsigned halves of the address, `length` at least 1.
 */
export function iotlbTranslate(u32: Uint32Array, iotlb: number, iovaHi: number, iovaLo: number, length: number, access: number): number {
  let hi = iovaHi;
  let lo = iovaLo;
  let left = length;
  let start = 0;
  let next = 0;
  while (left > 0) {
    if (hi > 0xffffffff) return 0;
    let keyLo = ((lo >>> CHUNK_SHIFT) | (hi << (32 - CHUNK_SHIFT))) >>> 0;
    let keyHi = hi >>> CHUNK_SHIFT;
    keyLo = (keyLo + 1) >>> 0;
    if (keyLo === 0) keyHi++;
    const value = u32[findSlot(u32, iotlb, keyHi, keyLo) + 2]!;
    let entry = value;
    let within = lo & (CHUNK_BYTES - 1);
    let room = CHUNK_BYTES - within;
    if ((value & IOTLB_TABLE) !== 0) {
      entry = u32[((value & IOTLB_OFFSET_MASK) >>> 2) + (within >>> PAGE_SHIFT)]!;
      within &= PAGE_BYTES - 1;
      room = PAGE_BYTES - within;
    }
    if (entry === 0 || (entry & access) !== access) return 0;
    const offset = ((entry & IOTLB_OFFSET_MASK) >>> 0) + within;
    if (start === 0) start = offset;
    else if (offset !== next) return 0;
    if (room > left) room = left;
    next = offset + room;
    left -= room;
    lo += room;
    if (lo > 0xffffffff) {
      lo -= 0x1_0000_0000;
      hi++;
    }
  }
  return start;
}

/** `iotlbTranslate` of a bigint address; undefined where it has none. */
export function iotlbLookup(u32: Uint32Array, iotlb: number, iova: bigint, length: number, access: number): number | undefined {
  const offset = iotlbTranslate(u32, iotlb, Number(iova >> 32n), Number(iova & 0xffffffffn), length, access);
  return offset === 0 ? undefined : offset;
}
