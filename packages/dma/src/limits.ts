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
/** Mappings that eviction keeps free, so that a miss rarely has to wait for it: 1/16 of all. */
export const RESERVE_MAPPINGS = 1536;
/** Bytes of the window that it keeps free, likewise 1/16. */
export const RESERVE_BYTES = 0xf00_0000;
/** What a miss brings into the window while there is room: a chunk of the IOTLB. Hugetlbfs: at least one of its pages. */
export const EXTENT_BYTES = 0x20_0000;
/**
 * What a miss brings in when the window is full. Buffers all over a big guest touch more 2 MiB extents than fit; of these as many
 * fit as the process may have mappings.
 */
export const SMALL_EXTENT_BYTES = 0x2_0000;
/** Chunks of 2 MiB of which one device may have something in the window; the keys of its IOTLB. */
export const IOTLB_MAX_KEYS = 16384;
/** Page tables (2 KiB) of chunks that no single extent covers, of all devices: 48 MiB of private memory. */
export const MAX_PAGE_TABLES = 24576;
/** Page tables that eviction keeps free. */
export const RESERVE_PAGE_TABLES = 1536;
/** Descriptors that one device keeps of the files behind its regions. Regions of further files are mapped whole, or refused. */
export const MAX_KEPT_FILES = 64;
/** Regions that share one range of a file in the window; more of them begin another. */
export const MAX_VIEW_USERS = 256;
/** Extents that leave where not room but a device's IOTLB is what is full. */
export const EVICT_AT_LEAST = 64;
/** An eviction that could not take anything out is not tried again for so long. */
export const FUTILE_EVICTION_MS = 10;
/** Addresses in one question about misses. */
export const MAX_MISSES = 32;
/** Evictions that one question waits for before the answer is no. */
export const MAX_MISS_ATTEMPTS = 4;
/** Pages of a big mapping are taken out in slices of this size ... */
export const RELEASE_SLICE_BYTES = 0x40_0000;
/** ... for this long at a time, ms. */
export const RELEASE_TURN_MS = 2;
/** Pages that the kernel would not take out (ENOMEM) are tried again after so long; until then nobody gets their room. */
export const RELEASE_RETRY_MS = 100;
/** A file longer than this is closed by another thread: freeing what nobody else holds takes about 0.3 s per GiB. */
export const BACKGROUND_CLOSE_BYTES = 0x400_0000;
/** Ranges that a device holds in place at a time, besides what its mapped regions hold. */
export const MAX_PINS = 256;
/** Bounce areas of all devices: what they copy memory to and from that comes without a descriptor. A quarter of the private memory. */
export const MAX_BOUNCE_BYTES = 0x400_0000;
/** A device may have that divided by the number of devices, but this at least: two rings of a network card. Where it is not there, who came first has it. */
export const MIN_BOUNCE_SHARE_BYTES = 0x10_0000;
/** Random addresses that are tried for a bounce area; of a device that has mapped half of all addresses all of them fail once in 2^64 times. */
export const BOUNCE_ADDRESS_TRIES = 64;
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
/** Default deadline of `Quiescence.synchronize`. An lcore loop takes microseconds, but a crowded host may not run its thread for a second or two; QEMU waits 5 s for a reply. */
export const QUIESCENCE_DEADLINE_MS = 3000;
