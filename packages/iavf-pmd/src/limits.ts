/** Sizes and deadlines, and what a device may make the driver wait for or believe. */

/** Descriptors of an admin queue, and bytes of each of its buffers (the virtchnl maximum). */
export const ADMIN_QUEUE_LENGTH = 32;
export const ADMIN_BUFFER_BYTES = 4096;

export const MAX_QUEUE_PAIRS = 16;
/** Descriptors of a ring that is given no length, and what iavf devices take: a multiple of 32. */
export const DEFAULT_RING_LENGTH = 512;
export const MIN_RING_LENGTH = 64;
export const MAX_RING_LENGTH = 4096;
export const RING_LENGTH_MULTIPLE = 32;
/** What a received frame is cut into; a multiple of 128. */
export const BUFFER_BYTES = 2048;
/** Queue pairs, with rings of the default length, of all ports of a `BufferPool`, at most: 264 MiB of the process's window. */
export const MAX_POOL_QUEUE_PAIRS = 128;
/** Of a pool that is given no size: 33 MiB. */
export const DEFAULT_POOL_QUEUE_PAIRS = 16;
/** From buffer to buffer: an odd number of cache lines, so that the first lines of all buffers spread over all cache sets. */
export const BUFFER_STRIDE_BYTES: number = BUFFER_BYTES + 64;
/** Ethernet header and two VLAN tags above the MTU. */
export const FRAME_OVERHEAD_BYTES = 22;
export const FCS_BYTES = 4;
export const DEFAULT_MTU = 1500;
export const MIN_MTU = 68;
/** Longest frame, without FCS, of any iavf device; also where a device says 0. */
export const MAX_FRAME_BYTES = 9728;

/** A reply to a virtchnl request. Devices answer within a millisecond. */
export const REQUEST_TIMEOUT_MS = 2000;
/** VFGEN_RSTAT at start-up, and the whole of a VF reset. */
export const RESET_TIMEOUT_MS = 5000;
/** AQ 0x0003 on the way out. */
export const SHUTDOWN_TIMEOUT_MS = 250;
/** The LINK_CHANGE that follows ENABLE_QUEUES; a device that sends none has no link, which is not an error. */
export const LINK_EVENT_TIMEOUT_MS = 500;
/** The mailbox is looked at this often even if no interrupt comes: soon while a reply is due, rarely otherwise. */
export const FIRST_POLL_MS = 1;
export const MAX_POLL_MS = 50;
export const IDLE_POLL_MS = 1000;
