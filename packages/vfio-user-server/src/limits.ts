/** Everything a client can make us allocate, hold or wait for. */
import { DEFAULT_MAX_DMA_MAPS, MAX_DATA_XFER_BYTES, MAX_FDS_PER_MESSAGE as KERNEL_FDS_PER_MESSAGE } from '@emudev/vfio-user-protocol';

/** What one client may make the server hold, and how long it may make it wait; times in milliseconds. See `DEFAULT_LIMITS`. */
export interface ServerLimits {
  /** Announced as max_data_xfer_size: the largest count of one region access. */
  readonly maxDataXferBytes: number;
  /** Announced as max_dma_maps. */
  readonly maxDmaMaps: number;
  /** A client that has connected must complete VERSION within this time. */
  readonly negotiationTimeoutMs: number;
  /** A message that has begun must be complete within this time: no client pauses inside one. */
  readonly messageTimeoutMs: number;
  /** How long a DMA_READ or DMA_WRITE waits for the client's reply. */
  readonly dmaReplyTimeoutMs: number;
  /** Commands that have arrived and wait for their turn: beyond any of these three the socket is not read until the queue is shorter. */
  readonly maxPendingMessages: number;
  readonly maxPendingInputBytes: number;
  readonly maxPendingFds: number;
  /** Replies the client has not read, and descriptors in them: beyond either no further command is executed until it does. */
  readonly maxPendingOutputBytes: number;
  readonly maxPendingOutputFds: number;
  /** Files reached by pread and pwrite (FILE_IO): each keeps a descriptor, of which the process has few, however many regions lie in it. */
  readonly maxFileIoMaps: number;
  /** How long the end of a session waits for the device to finish the command it is working on. */
  readonly departureTimeoutMs: number;
}

/** What `VfioUserServerOptions.limits` changes. */
export const DEFAULT_LIMITS: ServerLimits = {
  maxDataXferBytes: MAX_DATA_XFER_BYTES,
  maxDmaMaps: DEFAULT_MAX_DMA_MAPS,
  negotiationTimeoutMs: 5000,
  messageTimeoutMs: 5000,
  dmaReplyTimeoutMs: 5000,
  maxPendingMessages: 4096,
  maxPendingInputBytes: 4 << 20,
  maxPendingFds: 256,
  maxPendingOutputBytes: 1 << 20,
  maxPendingOutputFds: 64,
  maxFileIoMaps: 256,
  departureTimeoutMs: 10_000,
};

/**
 * While a device waits for a DMA reply the socket has to be read past the soft limits, or the reply never arrives. A client
 * that sends this many times the limit instead of answering is disconnected.
 */
export const INPUT_HARD_LIMIT_FACTOR = 4;
/** Output beyond this ends the session: only message DMA towards a client that reads nothing can get here. */
export const MAX_OUTPUT_BYTES: number = 64 << 20;
/** `max_msg_fds` announced: QEMU refuses a server that says more. */
export const ANNOUNCED_MSG_FDS = 16;
/** Received, and closed if they mean nothing: no more can come with one message. */
export const MAX_FDS_PER_MESSAGE: number = KERNEL_FDS_PER_MESSAGE;
/** libvfio-user's limit for one DMA region: far above any guest, far below where sizes stop being exact numbers. */
export const MAX_DMA_REGION_BYTES: bigint = 8n << 40n;
/** One recvmsg. */
export const RECEIVE_BYTES: number = 256 << 10;
/** recvmsg calls before other descriptors of the process get their turn. */
export const RECEIVES_PER_TURN = 64;
/** Time after which other descriptors and timers of the process get their turn whatever this client still has to say, ms. */
export const TURN_MS = 5;
/** A device that did not become quiescent for a client that has left is asked again after this pause, ms ... */
export const QUIESCE_RETRY_MS = 100;
/** ... and this often before `VfioUserServer.close` goes on without; what the client had mapped then stays mapped. */
export const QUIESCE_ATTEMPTS_ON_CLOSE = 3;
/** Eventfds of one client that mask or unmask vectors: each is watched, and INTx, the one index that VFIO has them for, needs two. */
export const MAX_MASK_EVENTFDS = 64;
/** Connections that may wait in the kernel while another one is served. */
export const LISTEN_BACKLOG = 4;
/** Pause after accept failed for want of descriptors or memory: the listener stays readable, so retrying at once would spin. */
export const ACCEPT_RETRY_MS = 100;
/** Descriptors that socket activation may pass. */
export const MAX_LISTEN_FDS = 1024;
