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
export const IOTLB_SLOTS = 8192;
/** Load factor at most one half: a probe is short, and an empty slot always ends it. */
export const IOTLB_MAX_KEYS = 4096;
export const IOTLB_HEADER_BYTES = 16;
export const IOTLB_ENTRY_BYTES = 16;
export const IOTLB_BYTES: number = IOTLB_HEADER_BYTES + IOTLB_SLOTS * IOTLB_ENTRY_BYTES;
export const IOTLB_HASH = 0x9e3779b1;
export const IOTLB_HASH_SHIFT = 12;

export const CHUNK_SHIFT = 21;
export const CHUNK_BYTES: number = 1 << CHUNK_SHIFT;
export const PAGE_SHIFT = 12;
export const PAGE_BYTES: number = 1 << PAGE_SHIFT;
export const PAGES_PER_CHUNK: number = 1 << (CHUNK_SHIFT - PAGE_SHIFT);

/** Device may read. */
export const IOTLB_READ = 1;
/** Device may write. */
export const IOTLB_WRITE = 2;
/** The value names a page table, not a chunk. */
export const IOTLB_TABLE = 4;
/** Everything below is flags. */
export const IOTLB_OFFSET_MASK = 0xfffff800;
