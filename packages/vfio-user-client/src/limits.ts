/** Everything a server can make us hold, wait for or loop over, in one place. */
import { MAX_DATA_XFER_BYTES, MAX_FRAME_BYTES } from '@emudev/vfio-user-protocol';

/** Default time-out of a request; QEMU's own is the same. */
export const REQUEST_TIMEOUT_MS = 5000;
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
/** DMA messages of the server that wait for the memory handler, and their bytes; more end the connection. */
export const MAX_SERVER_REQUESTS = 1024;
export const MAX_SERVER_REQUEST_BYTES = 67_108_864;
/** Receives per wake-up, so that a chatty server does not keep the event loop. */
export const RECEIVES_PER_WAKEUP = 64;
export const RECEIVE_BUFFER_BYTES = 65_536;
/** Bounds of DEVICE_GET_INFO; the same as QEMU's. */
export const MAX_REGIONS = 100;
export const MAX_IRQ_INDEXES = 50;
/** A complete region-info reply with its capability chain. */
export const MAX_REGION_INFO_BYTES = 8192;
/** DMA maps held at a time, unless the server announces fewer. */
export const MAX_DMA_MAPS = 65_535;
