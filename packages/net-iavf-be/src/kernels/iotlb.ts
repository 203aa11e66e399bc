/**
 * IOVA to window offset. One burst uses one device and one permission, so both are set once; the last chunk that was hit is
 * kept, because the buffers of a ring mostly lie in few chunks. The variables are WebAssembly globals: private to the instance.
 *
 * The table is a cache: an address that it does not have may be mapped for the device all the same. So where somebody brings in
 * what is missing (`setAsking`), such an address ends the burst before its packet, `missed`, and is a fault only when the answer
 * was no (`deny`). An address whose entry forbids the access is a fault at once.
 */
import {
  AHEAD_ENTRIES, AHEAD_ENTRY_BYTES, AHEAD_PAGE, AHEAD_SLOT, CHUNK_BYTES, CHUNK_SHIFT, IOTLB_ENTRY_BYTES, IOTLB_HEADER_BYTES,
  IOTLB_HIGH_MULTIPLIER, IOTLB_LOW_MULTIPLIER, IOTLB_OFFSET_MASK, IOTLB_PART, IOTLB_PART_SHIFT,
  IOTLB_SHIFT, IOTLB_TABLE, IOTLB_USED, IOTLB_USED_SHIFT, IOTLB_VALUE, PAGE_BYTES, PAGE_SHIFT, PAGES_PER_CHUNK, PART_BYTES, PART_SHIFT, PARTS_PER_CHUNK,
} from './layout';
import { copy } from '../../../../tools/kernels/src/kernels/copy';
import { zero } from './zero';

let table: u32 = 0;
let permission: u32 = 0;
let cachedKey: u64 = 0;
let cachedBase: u32 = 0;
let asking: bool = false;
/** Number of a page plus one. */
let deniedPage: u64 = 0;
let missAddress: u64 = 0;

/** Bytes from the address translated last to the end of its chunk or page. */
export let span: u32 = 0;
/** The burst needs an address that has to be brought in first. */
export let missed: bool = false;

/** Whether a burst ends at what the table does not have, instead of taking it for a fault. */
export function setAsking(on: bool): void {
  asking = on;
}

/** What the table does not have of this page is a fault; until it is called again. `any` = 0: of no page. */
export function deny(high: u32, low: u32, any: u32): void {
  deniedPage = any != 0 ? (((<u64>high << 32) | <u64>low) >> PAGE_SHIFT) + 1 : 0;
}

/** The address that ended the burst. */
export function missHigh(): u32 {
  return <u32>(missAddress >> 32);
}
export function missLow(): u32 {
  return <u32>missAddress;
}

/** The packet in hand ends otherwise: the burst goes on. */
@inline
export function forgetMiss(): void {
  missed = false;
}

/** At the start of every burst: the table may have changed since the last one. */
@inline
export function useIotlb(iotlb: u32, access: u32): void {
  table = load<u32>(iotlb);
  permission = access;
  cachedKey = 0;
  aheadCount = 0;
  missed = false;
}

/** Window offset of `iova`, 0 = not there with the permission of this burst (or `missed`). Sets `span`. */
@inline
export function translate(iova: u64): u32 {
  // GUEST: any 64-bit address; the key is exact, so nothing outside the table's chunks is ever reached.
  if ((iova >> CHUNK_SHIFT) + 1 == cachedKey) {
    const within = <u32>iova & (CHUNK_BYTES - 1);
    span = CHUNK_BYTES - within;
    return cachedBase + within;
  }
  return lookUp(iova);
}

/** Whether the address translated last lies in a chunk that is mapped as a whole. */
@inline
export function isWholeChunk(iova: u64): bool {
  return (iova >> CHUNK_SHIFT) + 1 == cachedKey;
}

function lookUp(iova: u64): u32 {
  if (aheadCount != 0 && load<u64>(ahead) == iova) return takeAhead(iova);
  const key: u64 = (iova >> CHUNK_SHIFT) + 1;
  const mask = load<u32>(table);
  let slot = (<u32>key * load<u32>(table, IOTLB_LOW_MULTIPLIER) + <u32>(key >> 32) * load<u32>(table, IOTLB_HIGH_MULTIPLIER)) >> load<u32>(table, IOTLB_SHIFT);
  for (let probes: u32 = 0; probes <= mask; ++probes) {
    const entry = table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
    const found = load<u64>(entry);
    if (found == 0) break;
    if (found == key) return resolve(iova, key, entry);
    slot = (slot + 1) & mask;
  }
  return absent(iova);
}

@inline
function resolve(iova: u64, key: u64, entry: u32): u32 {
  const value = load<u32>(entry, IOTLB_VALUE);
  if (value & IOTLB_TABLE) {
    const index = <u32>(iova >> PAGE_SHIFT) & (PAGES_PER_CHUNK - 1);
    const page = load<u32>((value & IOTLB_OFFSET_MASK) + (index << 2));
    if (page == 0) return absent(iova);
    if ((page & permission) == 0) return 0;
    use(entry, 1 << (index >> IOTLB_USED_SHIFT));
    const within = <u32>iova & (PAGE_BYTES - 1);
    span = PAGE_BYTES - within;
    return (page & IOTLB_OFFSET_MASK) + within;
  }
  if (value & IOTLB_PART) {
    const part = <u32>(iova >> PART_SHIFT) & (PARTS_PER_CHUNK - 1);
    if (part != partOf(value)) return absent(iova);
    if ((value & permission) == 0) return 0;
    use(entry, 1 << part);
    const within = <u32>iova & (PART_BYTES - 1);
    span = PART_BYTES - within;
    return (value & IOTLB_OFFSET_MASK) + within;
  }
  if (value == 0) return absent(iova);
  if ((value & permission) == 0) return 0;
  use(entry, 1);
  cachedKey = key;
  cachedBase = value & IOTLB_OFFSET_MASK;
  const within = <u32>iova & (CHUNK_BYTES - 1);
  span = CHUNK_BYTES - within;
  return cachedBase + within;
}

/** Which part of its chunk a value with PART has. */
@inline
function partOf(value: u32): u32 {
  return (value >> IOTLB_PART_SHIFT) & (PARTS_PER_CHUNK - 1);
}

/** Exported so that no compiler leaves the reads out. */
export let lookedAhead: u32 = 0;

/** The next translation that `lookAhead` has made, and how many there are. */
let ahead: u32 = 0;
let aheadCount: u32 = 0;

/**
 * For the buffers of `count` descriptors of `1 << shift` bytes from `head` on, where they do not all lie in one chunk: asks for the
 * lines in which the table has them and for the first line of each, and keeps what is not in a whole chunk. One after the other, a frame
 * whose buffer lies anywhere in a big guest waits for up to three lines, each of which says where the next one is, and for the walks to
 * their pages; in a short loop those of many frames come together. GUEST: every address is fetched again when its turn comes. `kept`: where
 * they are kept; no other lcore may use it meanwhile.
 */
export function lookAhead(kept: u32, ring: u32, length: u32, head: u32, count: u32, shift: u32): void {
  aheadCount = 0;
  const last = head + count - 1;
  if (load<u64>(ring + (head << shift)) >> CHUNK_SHIFT == load<u64>(ring + ((last >= length ? last - length : last) << shift)) >> CHUNK_SHIFT) return;
  const low = load<u32>(table, IOTLB_LOW_MULTIPLIER);
  const high = load<u32>(table, IOTLB_HIGH_MULTIPLIER);
  const right = load<u32>(table, IOTLB_SHIFT);
  const access = permission;
  ahead = kept;
  let entry = ahead;
  let sum: u32 = 0;
  for (count = min<u32>(count, AHEAD_ENTRIES); count != 0; --count) {
    const iova = load<u64>(ring + (head << shift));
    if (++head == length) head = 0;
    const key: u64 = (iova >> CHUNK_SHIFT) + 1;
    const slot = table + IOTLB_HEADER_BYTES + ((<u32>key * low + <u32>(key >> 32) * high) >> right) * IOTLB_ENTRY_BYTES;
    if (load<u64>(slot) != key) continue; // not there, or in a later slot
    const value = load<u32>(slot, IOTLB_VALUE);
    if (value & (IOTLB_TABLE | IOTLB_PART)) {
      let page: u32;
      if (value & IOTLB_TABLE) {
        page = load<u32>((value & IOTLB_OFFSET_MASK) + ((<u32>(iova >> PAGE_SHIFT) & (PAGES_PER_CHUNK - 1)) << 2));
      } else {
        if ((<u32>(iova >> PART_SHIFT) & (PARTS_PER_CHUNK - 1)) != partOf(value)) continue;
        page = value + (<u32>iova & (PART_BYTES - PAGE_BYTES));
      }
      if ((page & access) == 0) continue;
      store<u64>(entry, iova);
      store<u64>(entry, <u64>(page & IOTLB_OFFSET_MASK) | (<u64>slot << 32), AHEAD_PAGE);
      entry += AHEAD_ENTRY_BYTES;
      sum += load<u8>((page & IOTLB_OFFSET_MASK) + (<u32>iova & (PAGE_BYTES - 1)));
    } else {
      sum += load<u8>((value & IOTLB_OFFSET_MASK) + (<u32>iova & (CHUNK_BYTES - 1)));
    }
  }
  aheadCount = (entry - ahead) / AHEAD_ENTRY_BYTES;
  lookedAhead = sum;
}

/** The translation that is next in turn; each is good for one look-up in the same burst. */
@inline
function takeAhead(iova: u64): u32 {
  const page = load<u32>(ahead, AHEAD_PAGE);
  use(load<u32>(ahead, AHEAD_SLOT), 1 << ((<u32>(iova >> PAGE_SHIFT) & (PAGES_PER_CHUNK - 1)) >> IOTLB_USED_SHIFT));
  ahead += AHEAD_ENTRY_BYTES;
  --aheadCount;
  const within = <u32>iova & (PAGE_BYTES - 1);
  span = PAGE_BYTES - within;
  return page + within;
}

/** For the clock that evicts; stored only once per round of it, so that lcores share the line in peace. A lost bit costs nothing but time. */
@inline
function use(entry: u32, bit: u32): void {
  const used = load<u32>(entry, IOTLB_USED);
  if ((used & bit) == 0) store<u32>(entry, used | bit, IOTLB_USED);
}

function absent(iova: u64): u32 {
  if (asking && (iova >> PAGE_SHIFT) + 1 != deniedPage) {
    missed = true;
    missAddress = iova;
  }
  return 0;
}

@inline
function wraps(iova: u64, bytes: u32): bool {
  return bytes != 0 && iova + bytes - 1 < iova;
}

/** Is every byte of [iova, iova + bytes) there? A range that wraps at 2^64 is not. */
export function isMapped(iova: u64, bytes: u32): bool {
  if (wraps(iova, bytes)) return false;
  while (bytes != 0) {
    if (translate(iova) == 0) return false;
    if (span >= bytes) return true;
    iova += span;
    bytes -= span;
  }
  return true;
}

/** Guest memory to the window; false = something in between is not there (what came before it has been copied). */
export function copyFromGuest(to: u32, iova: u64, bytes: u32): bool {
  if (wraps(iova, bytes)) return false;
  while (bytes != 0) {
    const from = translate(iova);
    if (from == 0) return false;
    const part = min<u32>(bytes, span);
    copy(to, from, part);
    to += part;
    iova += part;
    bytes -= part;
  }
  return true;
}

/** The window to guest memory that `isMapped` has approved; false = part of it has been evicted since. */
export function copyToGuest(iova: u64, from: u32, bytes: u32): bool {
  while (bytes != 0) {
    const to = translate(iova);
    if (to == 0) return false;
    const part = min<u32>(bytes, span);
    copy(to, from, part);
    from += part;
    iova += part;
    bytes -= part;
  }
  return true;
}

/** As `copyToGuest`, zeroes. */
export function zeroGuest(iova: u64, bytes: u32): bool {
  while (bytes != 0) {
    const to = translate(iova);
    if (to == 0) return false;
    const part = min<u32>(bytes, span);
    zero(to, part);
    iova += part;
    bytes -= part;
  }
  return true;
}
