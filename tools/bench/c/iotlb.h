/* The back end's IOTLB (packages/net-iavf-be/src/kernels/iotlb.ts), chunks only. */
static u32 table, permission, cached_base, span;
static u64 cached_key;
static void use_iotlb(u32 iotlb, u32 access) { table = get32(iotlb); permission = access; cached_key = 0; }
static u32 __attribute__((noinline)) look_up(u64 iova) {
  u64 key = (iova >> CHUNK_SHIFT) + 1;
  u32 mask = get32(table);
  u32 slot = ((u32)key * get32(table + IOTLB_LOW_MULTIPLIER) + (u32)(key >> 32) * get32(table + IOTLB_HIGH_MULTIPLIER)) >> get32(table + IOTLB_SHIFT);
  for (u32 probes = 0; probes <= mask; ++probes) {
    u32 entry = table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
    u64 found = get64(entry);
    if (found == 0) return 0;
    if (found == key) {
      u32 value = get32(entry + IOTLB_VALUE);
      if (value & (IOTLB_TABLE | IOTLB_PART)) rare("pages");
      if (!(value & permission)) return 0;
      if (!(get32(entry + IOTLB_USED) & 1)) set32(entry + IOTLB_USED, get32(entry + IOTLB_USED) | 1);
      cached_key = key;
      cached_base = value & IOTLB_OFFSET_MASK;
      span = CHUNK_BYTES - ((u32)iova & (CHUNK_BYTES - 1));
      return cached_base + ((u32)iova & (CHUNK_BYTES - 1));
    }
    slot = (slot + 1) & mask;
  }
  return 0;
}
static inline u32 translate(u64 iova) {
  if (likely((iova >> CHUNK_SHIFT) + 1 == cached_key)) {
    u32 within = (u32)iova & (CHUNK_BYTES - 1);
    span = CHUNK_BYTES - within;
    return cached_base + within;
  }
  return look_up(iova);
}

