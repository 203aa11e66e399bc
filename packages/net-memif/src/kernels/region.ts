/** Where a buffer lies that the peer names by region and offset. */
import { CELL_REGIONS, CELL_REGION_TABLE, REGION_ENTRY_BYTES } from './layout';

/** Do `bytes` bytes at `offset` lie in a region of the peer's? */
@inline
export function lies(cells: u32, region: u32, offset: u32, bytes: u32): bool {
  // CLIENT: all three are the peer's; what they are held against is ours.
  if (region >= load<u32>(cells, CELL_REGIONS)) return false;
  const size = load<u32>(cells + region * REGION_ENTRY_BYTES, CELL_REGION_TABLE + 4);
  return bytes <= size && offset <= size - bytes;
}

/** Window offset of what lies at `offset` of a region. */
@inline
export function addressOf(cells: u32, region: u32, offset: u32): u32 {
  return load<u32>(cells + region * REGION_ENTRY_BYTES, CELL_REGION_TABLE) + offset;
}

/** Window offset of `bytes` bytes at `offset` of a region; 0 = they do not lie there (no mapping begins at offset 0 of the window). */
@inline
export function locate(cells: u32, region: u32, offset: u32, bytes: u32): u32 {
  return lies(cells, region, offset, bytes) ? addressOf(cells, region, offset) : 0;
}
