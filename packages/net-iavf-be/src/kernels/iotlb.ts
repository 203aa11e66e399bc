/**
 * IOVA to window offset. One burst uses one device and one permission, so both are set once; the last chunk that was hit is
 * kept, because the buffers of a ring mostly lie in few chunks. The variables are WebAssembly globals: private to the instance.
 */
import {
  CHUNK_BYTES, CHUNK_SHIFT, IOTLB_ENTRY_BYTES, IOTLB_HASH, IOTLB_HASH_SHIFT, IOTLB_HEADER_BYTES, IOTLB_OFFSET_MASK, IOTLB_TABLE,
  PAGE_BYTES, PAGE_SHIFT, PAGES_PER_CHUNK,
} from './layout';
import { copy, zero } from './copy';

let table: u32 = 0;
let permission: u32 = 0;
let cachedKey: u64 = 0;
let cachedBase: u32 = 0;

/** Bytes from the address translated last to the end of its chunk or page. */
export let span: u32 = 0;

/** At the start of every burst: the table may have changed since the last one. */
@inline
export function useIotlb(iotlb: u32, access: u32): void {
  table = iotlb;
  permission = access;
  cachedKey = 0;
}

/** Window offset of `iova`, 0 = not mapped with the permission of this burst. Sets `span`. */
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

function lookUp(iova: u64): u32 {
  const key: u64 = (iova >> CHUNK_SHIFT) + 1;
  const mask = load<u32>(table);
  let slot = ((<u32>key * IOTLB_HASH) >> IOTLB_HASH_SHIFT) & mask;
  for (let probes: u32 = 0; probes <= mask; ++probes) {
    const entry = table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
    const found = load<u64>(entry);
    if (found == 0) return 0;
    if (found == key) return resolve(iova, key, load<u32>(entry, 8));
    slot = (slot + 1) & mask;
  }
  return 0;
}

@inline
function resolve(iova: u64, key: u64, value: u32): u32 {
  if (value & IOTLB_TABLE) {
    const page = load<u32>((value & IOTLB_OFFSET_MASK) + ((<u32>(iova >> PAGE_SHIFT) & (PAGES_PER_CHUNK - 1)) << 2));
    if ((page & permission) == 0) return 0;
    const within = <u32>iova & (PAGE_BYTES - 1);
    span = PAGE_BYTES - within;
    return (page & IOTLB_OFFSET_MASK) + within;
  }
  if ((value & permission) == 0) return 0;
  cachedKey = key;
  cachedBase = value & IOTLB_OFFSET_MASK;
  const within = <u32>iova & (CHUNK_BYTES - 1);
  span = CHUNK_BYTES - within;
  return cachedBase + within;
}

@inline
function wraps(iova: u64, bytes: u32): bool {
  return bytes != 0 && iova + bytes - 1 < iova;
}

/** Is every byte of [iova, iova + bytes) mapped? A range that wraps at 2^64 is not. */
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

/** Guest memory to the window; false = something in between is not mapped (what came before it has been copied). */
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

/** The window to guest memory that `isMapped` has approved. */
export function copyToGuest(iova: u64, from: u32, bytes: u32): void {
  while (bytes != 0) {
    const to = translate(iova);
    const part = min<u32>(bytes, span);
    copy(to, from, part);
    from += part;
    iova += part;
    bytes -= part;
  }
}

/** Zeroes to guest memory that `isMapped` has approved. */
export function zeroGuest(iova: u64, bytes: u32): void {
  while (bytes != 0) {
    const to = translate(iova);
    const part = min<u32>(bytes, span);
    zero(to, part);
    iova += part;
    bytes -= part;
  }
}
