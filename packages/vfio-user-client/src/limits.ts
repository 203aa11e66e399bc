/** Everything a server can make us hold, wait for or loop over, in one place. */
import { MAX_DATA_XFER_BYTES, MAX_FRAME_BYTES } from '@emudev/vfio-user-protocol';

/** Default time-out of a request; QEMU's own is the same. */
export const REQUEST_TIMEOUT_MS = 5000;
/** Pause between attempts to connect while the backlog of the server is full, ms. */
export const BACKLOG_RETRY_MS = 10;
/** Longest time-out a timer of Node.js can hold. */
export const MAX_TIMEOUT_MS = 2_147_483_647;
/** Descriptors accepted with one message, and announced as `max_msg_fds`. */
export const MAX_MSG_FDS = 16;
/** Longest message accepted from the server. */
export const MAX_SERVER_FRAME_BYTES: number = MAX_FRAME_BYTES;
/** Announced as `max_data_xfer_size`: the largest DMA_READ or DMA_WRITE served. */
export const MAX_SERVER_DMA_BYTES: number = MAX_DATA_XFER_BYTES;
/** Requests in flight; the next one is refused with ERR_VFU_CLIENT_BUSY. */
export const MAX_PENDING_REQUESTS = 1024;
/** Requests that timed out and may still be answered; one more and the server counts as dead. */
export const MAX_ABANDONED_REQUESTS = 64;
/** Bytes waiting for a server that does not read; beyond it requests are refused and the server's own requests wait. */
export const MAX_QUEUED_BYTES = 16_777_216;
/** DMA messages of the server that may wait for the memory handler; one more ends the connection. */
export const MAX_SERVER_REQUESTS = 1024;
/** Bytes of DMA messages that may wait for the memory handler; more end the connection. */
export const MAX_SERVER_REQUEST_BYTES = 67_108_864;
/** Receives per wake-up, so that a chatty server does not keep the event loop. */
export const RECEIVES_PER_WAKEUP = 64;
/** Longest single receive, bytes. */
export const RECEIVE_BUFFER_BYTES = 65_536;
/** Most regions a server may announce in DEVICE_GET_INFO; the same as QEMU's. */
export const MAX_REGIONS = 100;
/** Most interrupt indexes a server may announce in DEVICE_GET_INFO; the same as QEMU's. */
export const MAX_IRQ_INDEXES = 50;
/** A complete region-info reply with its capability chain. */
export const MAX_REGION_INFO_BYTES = 8192;
/** DMA maps held at a time, unless the server announces fewer. */
export const MAX_DMA_MAPS = 65_535;
/** Maps told to a new server at a time after a reconnect. */
export const REPLAY_BATCH = 64;
/** Entries of one REGION_WRITE_MULTI; QEMU collects as many. */
export const MAX_WRITES_PER_MESSAGE = 200;
/** Sub-regions the first question for ioeventfds leaves room for. */
export const IO_FDS_FIRST_ROOM = 16;
/** Questions for ioeventfds until an answer has to fit. */
export const IO_FDS_ATTEMPTS = 3;
/** One dirty bitmap; the largest that QEMU handles. */
export const MAX_DIRTY_BITMAP_BYTES = 268_435_456;
/** Blocks of 32768 pages that are logged one by one as written by DMA_WRITE: 64 MiB of bitmaps. Beyond it all pages count as dirty. */
export const MAX_DIRTY_BLOCKS = 16_384;
/** State one `save` accepts from a server by default. */
export const MAX_MIGRATION_BYTES = 68_719_476_736;
/** State that `migrate` sends while the device still runs, by default. */
export const MAX_PRE_COPY_BYTES = 1_073_741_824;
/** Elements of the capability list that are followed: as many as fit their space without overlapping. */
export const MAX_CAPABILITIES = 48;
/** Elements of the extended capability list that are followed: as many as fit their space without overlapping. */
export const MAX_EXTENDED_CAPABILITIES = 960;
/** Reconnect: the pause after the first failed attempt, ms. */
export const RECONNECT_FIRST_DELAY_MS = 50;
/** Reconnect: the longest pause between attempts, ms. */
export const RECONNECT_MAX_DELAY_MS = 2000;
/** Reconnect: the time from the loss of a connection until the client gives up, ms. */
export const RECONNECT_DEADLINE_MS = 60_000;
/** DmaAllocator: bytes of one DMA map by default, a huge page. */
export const ALLOCATOR_CHUNK_BYTES = 2_097_152;
/** DmaAllocator: bytes of all maps together by default. */
export const ALLOCATOR_LIMIT_BYTES = 1_073_741_824;
/** DmaAllocator: the first address by default, where 32-bit devices do not reach. */
export const ALLOCATOR_FIRST_IOVA = 0x1_0000_0000n;
/** DmaAllocator: alignment of a buffer by default, and the grain of its size: two buffers share no cache line. */
export const ALLOCATOR_ALIGN_BYTES = 64;
