/**
 * The IOTLB: one device's table from IOVA to window offset, laid out in the window so that kernels and TypeScript read the
 * same bytes. An open-addressed hash of 2 MiB chunks: a chunk that one extent of a mapping covers completely is one entry, and so is one
 * of which a single part of 128 KiB is there, as of most chunks of a guest that is much larger than the window; any other chunk has a
 * table of its 512 pages of 4 KiB. A look-up reads one line for the first two kinds, two for the last.
 *
 * It is a cache: what is mapped for the device but not in the window at present has no entry, or a value of 0. Entries come and
 * go while readers run: a value is in place before its key, and what a value named stays where it was until every reader has
 * been quiescent. A reader takes the hash table in force once per burst; a bigger one may be put in its place at any time.
 *
 * ```
 * handle, what a device is known by:
 * 0             4     window offset of the hash table in force
 * 4             4     generation: grows with every change of what is mapped (not of what is cached)
 *
 * hash table:
 * 0             4     mask: slots - 1 (slots is a power of two)
 * 4             4     multiplier of the key's low word, odd and random
 * 8             4     multiplier of the key's high word, odd and random
 * 12            4     shift: 32 - log2(slots)
 * 16 + 16*slot  8     key: (iova >> 21) + 1; 0 = empty, the probe ends here
 * 24 + 16*slot  4     value: window offset | flags (low 11 bits); 0 = nothing of the chunk is in the window
 * 28 + 16*slot  4     used: set by readers, cleared by the clock that evicts; bit n: pages [32n, 32n+32) of a chunk with a page
 *                     table, bit 0: a chunk without one
 *
 * value without flags: window offset of the chunk's first byte (4 KiB aligned), READ / WRITE apply to the whole chunk
 * value with PART:     window offset of the part's first byte; bits 4 to 7 say which part (IOVA bits 17 to 20), READ / WRITE apply to it
 * value with TABLE:    window offset of 512 u32, one per page: window offset of the page | READ | WRITE; 0 = not in the window
 * slot of a key: (low word * multiplier + high word * multiplier, modulo 2^32) >>> shift, then linear probing
 * ```
 *
 * The multipliers are random because the keys are the consumer's: who knows the hash can make every key share one slot.
 */

/** Bytes of a handle; a whole cache line. */
export const IOTLB_BYTES = 64;
/** Slots of a new hash table. */
export const IOTLB_MIN_SLOTS = 512;
/** A hash table doubles when it has fewer slots than this for each key: in a fuller one every third look-up guesses wrong where its probe ends. */
export const IOTLB_SLOTS_PER_KEY = 4;
/** Bytes before slot 0 of a hash table. */
export const IOTLB_HEADER_BYTES = 16;
/** Bytes of a slot: key u64, value u32, used u32. */
export const IOTLB_ENTRY_BYTES = 16;
/** Byte offset in a hash table: what the low word of a key is multiplied by. */
export const IOTLB_LOW_MULTIPLIER = 4;
/** Byte offset in a hash table: what the high word of a key is multiplied by. */
export const IOTLB_HIGH_MULTIPLIER = 8;
/** Byte offset in a hash table: how far the sum of both is shifted right to be a slot's number. */
export const IOTLB_SHIFT = 12;
/** Byte offset in a slot: where the chunk is, or its table of pages. */
export const IOTLB_VALUE = 8;
/** Byte offset in a slot: bits that look-ups set, for the clock of eviction. */
export const IOTLB_USED = 12;
/** Pages that one bit of `used` stands for: 2 to this power. */
export const IOTLB_USED_SHIFT = 5;

/** Logarithm of `CHUNK_BYTES`: `iova >> CHUNK_SHIFT` is the number of a chunk. */
export const CHUNK_SHIFT = 21;
/** Bytes of a chunk, what one slot of the table stands for: 2 MiB, a huge page. */
export const CHUNK_BYTES: number = 1 << CHUNK_SHIFT;
/** Logarithm of `PAGE_BYTES`. */
export const PAGE_SHIFT = 12;
/** Grain of DMA regions and of the dirty log: 4 KiB. */
export const PAGE_BYTES: number = 1 << PAGE_SHIFT;
/** Logarithm of `PART_BYTES`. */
export const PART_SHIFT = 17;
/** What a value with PART stands for: 128 KiB, what comes into a full window at a time, and what a bit of `used` stands for. */
export const PART_BYTES: number = 1 << PART_SHIFT;
/** Parts of a chunk. */
export const PARTS_PER_CHUNK: number = 1 << (CHUNK_SHIFT - PART_SHIFT);
/** Entries of the page table of a chunk that no single mapping covers. */
export const PAGES_PER_CHUNK: number = 1 << (CHUNK_SHIFT - PAGE_SHIFT);

/** Device may read. */
export const IOTLB_READ = 1;
/** Device may write. */
export const IOTLB_WRITE = 2;
/** The value names a page table, not a chunk. */
export const IOTLB_TABLE = 4;
/** The value is of one part of the chunk, all that is in the window of it. */
export const IOTLB_PART = 8;
/** Where the number of that part begins in the value. */
export const IOTLB_PART_SHIFT = 4;
/** Everything below is flags. */
export const IOTLB_OFFSET_MASK = 0xfffff800;

const SLOT_WORDS = IOTLB_ENTRY_BYTES / 4;
const HEADER_WORDS = IOTLB_HEADER_BYTES / 4;
const VALUE_WORD = IOTLB_VALUE / 4;
const USED_WORD = IOTLB_USED / 4;

/** The window as writers of the table see it: a key is published by one store of 64 bits. */
export interface IotlbMemory {
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

/** Bytes of a hash table. */
export function iotlbTableBytes(slots: number): number {
  return IOTLB_HEADER_BYTES + slots * IOTLB_ENTRY_BYTES;
}

/** Writes the header of an empty hash table, whose bytes are zero already. `seed`: two random numbers below 2^32. */
export function iotlbInitTable(u32: Uint32Array, table: number, slots: number, seed: readonly [number, number]): void {
  const word = table >>> 2;
  u32[word] = slots - 1;
  u32[word + IOTLB_LOW_MULTIPLIER / 4] = seed[0] | 1;
  u32[word + IOTLB_HIGH_MULTIPLIER / 4] = seed[1] | 1;
  u32[word + IOTLB_SHIFT / 4] = Math.clz32(slots) + 1;
}

/** Multiply-shift hashing of both words: for any two keys the chance of one slot is about 2 / slots, whoever chose them. */
function slotOf(u32: Uint32Array, table: number, keyHi: number, keyLo: number): number {
  const word = table >>> 2;
  return (Math.imul(keyLo, u32[word + IOTLB_LOW_MULTIPLIER / 4]!) + Math.imul(keyHi, u32[word + IOTLB_HIGH_MULTIPLIER / 4]!)) >>> u32[word + IOTLB_SHIFT / 4]!;
}

/** Word index of the key's slot, or of the empty slot where it belongs. */
function findSlot(u32: Uint32Array, table: number, keyHi: number, keyLo: number): number {
  const mask = u32[table >>> 2]!;
  let slot = slotOf(u32, table, keyHi, keyLo);
  for (;;) {
    const word = (table >>> 2) + HEADER_WORDS + slot * SLOT_WORDS;
    const lo = u32[word]!;
    const hi = u32[word + 1]!;
    if ((lo === keyLo && hi === keyHi) || (lo === 0 && hi === 0)) return word;
    slot = (slot + 1) & mask;
  }
}

function wordOf(u32: Uint32Array, table: number, chunk: number): number {
  const key = chunk + 1;
  return findSlot(u32, table, Math.floor(key / 2 ** 32), key >>> 0);
}

/** The value of chunk number `chunk` (IOVA >> 21), 0 where the table has none. */
export function iotlbGet(u32: Uint32Array, table: number, chunk: number): number {
  return u32[wordOf(u32, table, chunk) + VALUE_WORD]!;
}

/** Sets a chunk's value; readers may be running. The caller keeps most of the table empty. */
export function iotlbSet({ u32, u64 }: IotlbMemory, table: number, chunk: number, value: number): void {
  const word = wordOf(u32, table, chunk);
  Atomics.store(u32, word + VALUE_WORD, value);
  if (u32[word] === 0 && u32[word + 1] === 0) Atomics.store(u64, word >>> 1, BigInt(chunk + 1));
}

/** Which of `bits` are set in a chunk's used word; they are clear afterwards. A reader's bit that comes in between may get lost. */
export function iotlbTakeUsed(u32: Uint32Array, table: number, chunk: number, bits: number): number {
  const word = wordOf(u32, table, chunk) + USED_WORD;
  const used = u32[word]! & bits;
  if (used !== 0) u32[word]! &= ~bits;
  return used;
}

/** Removes a chunk; no reader may be running. Later entries of the same probe run move up, so that no look-up ends at the gap. */
export function iotlbDelete(u32: Uint32Array, table: number, chunk: number): void {
  const first = (table >>> 2) + HEADER_WORDS;
  const mask = u32[table >>> 2]!;
  let hole = wordOf(u32, table, chunk);
  if (u32[hole] === 0 && u32[hole + 1] === 0) return;
  let slot = (hole - first) / SLOT_WORDS;
  for (;;) {
    slot = (slot + 1) & mask;
    const word = first + slot * SLOT_WORDS;
    if (u32[word] === 0 && u32[word + 1] === 0) break;
    const home = slotOf(u32, table, u32[word + 1]!, u32[word]!);
    const holeSlot = (hole - first) / SLOT_WORDS;
    // The entry may move to the hole unless its home lies behind the hole on the way to the entry.
    if (((slot - home) & mask) < ((slot - holeSlot) & mask)) continue;
    u32.copyWithin(hole, word, word + SLOT_WORDS);
    hole = word;
  }
  u32.fill(0, hole, hole + SLOT_WORDS);
}

/**
 * The twin of the kernels' look-up: window offset of [iova, iova + length) if every byte of it is in the window with all of
 * `access` (IOTLB_READ, IOTLB_WRITE) and lies contiguous there; 0 otherwise. Numbers only, no allocation.
 * `iotlb` is the handle, `iovaHi` and `iovaLo` the unsigned halves of the address, `length` at least 1.
 */
export function iotlbTranslate(u32: Uint32Array, iotlb: number, iovaHi: number, iovaLo: number, length: number, access: number): number {
  const table = u32[iotlb >>> 2]!;
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
    const value = u32[findSlot(u32, table, keyHi, keyLo) + VALUE_WORD]!;
    let entry = value;
    let within = lo & (CHUNK_BYTES - 1);
    let room = CHUNK_BYTES - within;
    if ((value & IOTLB_TABLE) !== 0) {
      entry = u32[((value & IOTLB_OFFSET_MASK) >>> 2) + (within >>> PAGE_SHIFT)]!;
      within &= PAGE_BYTES - 1;
      room = PAGE_BYTES - within;
    } else if ((value & IOTLB_PART) !== 0) {
      if (within >>> PART_SHIFT !== ((value >>> IOTLB_PART_SHIFT) & (PARTS_PER_CHUNK - 1))) return 0;
      within &= PART_BYTES - 1;
      room = PART_BYTES - within;
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
