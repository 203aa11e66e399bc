/** What a consumer, or we ourselves, can make the window hold. */

/** Size of the linear memory: all of it reserved, none committed. */
export const WINDOW_BYTES = 0x1_0000_0000;
/** `WINDOW_BYTES` in WebAssembly pages of 64 KiB. */
export const WINDOW_PAGES = 65536;
/** [64, PRIVATE_BYTES) is for `alloc`, the rest for mapped files. */
export const PRIVATE_BYTES = 0x1000_0000;
/** Every allocation is a multiple of this and aligned to it: two of them never share a cache line. */
export const ALLOC_GRAIN_BYTES = 64;
/**
 * File mappings of the whole process. Each may cost two kernel mappings (itself and the hole behind it), and past
 * vm.max_map_count (65530 by default) not only ours but V8's own mmap calls would fail.
 */
export const MAX_WINDOW_MAPPINGS = 24576;
/** Regions of one IovaSpace: what vfio-user calls max_dma_maps. */
export const MAX_DMA_MAPS = 65535;
/** Regions in one node of their index: what inserting or removing one has to move. */
export const REGION_INDEX_NODE = 64;
/** The bitmap of one report of dirty pages: QEMU's own limit (`max_bitmap_size`). */
export const MAX_DIRTY_BITMAP_BYTES = 0x1000_0000;
/** Separate ranges that a dirty log keeps apart; with more it logs everything. A consumer names at most 256 at a time. */
export const MAX_LOGGED_RANGES = 1024;
/** Largest file alignment that is honoured: 1 GiB huge pages. */
export const MAX_FILE_BLOCK_BYTES = 0x4000_0000;
/** Default deadline of `Quiescence.synchronize`. An lcore loop takes microseconds. */
export const QUIESCENCE_DEADLINE_MS = 1000;
