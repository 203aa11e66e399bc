/** Where a buffer lies that the peer names by region and offset. */
import { CELL_REGIONS, CELL_REGION_TABLE, REGION_ENTRY_BYTES } from './layout';

/** Window offset of `bytes` bytes at `offset` of a region; 0 = they do not lie there (no mapping begins at offset 0 of the window). */
@inline
export function locate(cells: u32, region: u32, offset: u32, bytes: u32): u32 {
  // CLIENT: all three are the peer's; what they are held against is ours.
  if (region >= load<u32>(cells, CELL_REGIONS)) return 0;
  const entry = cells + CELL_REGION_TABLE + region * REGION_ENTRY_BYTES;
  const size = load<u32>(entry, 4);
  if (bytes > size || offset > size - bytes) return 0;
  return load<u32>(entry) + offset;
}
