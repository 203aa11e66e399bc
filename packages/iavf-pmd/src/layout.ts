/**
 * The state that the control thread and the lcores share, in private memory of the DMA window (the device cannot reach it): one
 * block per Rx queue and one per Tx queue. The control half writes configuration while the queue is disabled and no lcore is in a
 * burst; the data path writes indexes and counters. Kernels (src/kernels) and their TypeScript twins (src/twins) use these offsets;
 * src/kernels/layout.ts mirrors them for AssemblyScript and a test compares the two.
 *
 * Ring and buffers lie in memory the device can write. All rings of a port, or of all ports of one BufferPool, share one pool of buffers;
 * every slot owns one buffer, and which is known here, in private memory: no address is ever read back from a descriptor, and the worst
 * a device can do is spoil the bytes of frames in its pool. A received frame that is sent on within the pool is not copied: its Rx slot
 * and the Tx slot exchange their buffers. So from the first burst to the last, resets included, the slots of a pool and what is free in
 * it are a permutation of its buffers.
 */

/* ---- both directions ------------------------------------------------------------------------------------------------------ */
export const Q_ENABLED = 0; // u32: 0 = every burst returns 0 and touches neither ring nor doorbell
export const Q_RING = 4; // u32: window offset of the descriptors
export const Q_LENGTH = 8; // u32: descriptors in the ring
export const Q_HEAD = 12; // u32: Rx: next descriptor to look at; Tx: next descriptor to fill
export const Q_TAIL = 16; // u32: Rx: first descriptor not posted; Tx: oldest descriptor not reclaimed
export const Q_DOORBELL = 20; // u32: window offset of the tail word (of the device's page, or of a shadow the control thread forwards)
export const Q_BUFFERS = 24; // u32: window offset of the pool
export const Q_POOL_BYTES = 28; // u32: bytes of the pool
export const Q_BUFFER_BYTES = 32; // u32: usable bytes of a buffer
export const Q_NUMBER = 36; // u32: queue number, copied to received records
export const Q_IOVA = 40; // u64: address of the pool as the device sees it
export const Q_STATS = 64; // u64[]: counters, see below
export const Q_SLOTS = 104; // u32: window offset of Q_LENGTH u32: where in the pool each slot's buffer begins, bytes
export const Q_BYTES = 128;

/* ---- Rx only -------------------------------------------------------------------------------------------------------------- */
/** u32: 1 = the rest of an unusable frame is still to come: discard up to its EOP. */
export const RXQ_SKIP = 48;
/** u32: the lcore's count of polls, of all its queues, when this queue had its last burst. */
export const RXQ_LAST = 52;
/** u32: 1 = descriptors of SHORT_RX_DESCRIPTOR_BYTES. */
export const RXQ_SHORT = 56;

/* ---- Tx only -------------------------------------------------------------------------------------------------------------- */
export const TXQ_RS_LIST = 48; // u32: window offset of Q_LENGTH u32: the descriptors with RS, a ring of its own
export const TXQ_RS_HEAD = 52; // u32: next entry to fill
export const TXQ_RS_TAIL = 56; // u32: oldest entry the device has not completed
export const TXQ_SINCE_RS = 60; // u32: descriptors filled since the last RS
export const TXQ_MAX_FRAME = 112; // u32: longest frame without offloaded segmentation
export const TXQ_USO = 116; // u32: 1 = the device segments UDP as well
export const TXQ_PARTNER = 120; // u32: window offset of the Rx block that the burst comes from, of the same pool: its slots' buffers are exchanged; 0 = copy

/** Counters: u64 at Q_STATS + 8 * n. Written by the lcore only. */
export const QS_PACKETS = 0;
export const QS_BYTES = 1;
/** Rx: RXE, absurd length, frame without end. Tx: a frame the device could not take (too long, bad segment size). */
export const QS_ERRORS = 2;
/** Rx: a multi-buffer frame did not fit the burst's arena. Tx: bursts that found the ring full. */
export const QS_NO_ROOM = 3;
/** Rx: frames in several buffers. Tx: frames segmented by the device. */
export const QS_LARGE = 4;

/* ---- descriptors ------------------------------------------------------------------------------------------------------------ */
export const TX_DESCRIPTOR_BYTES = 16;
export const RX_DESCRIPTOR_BYTES = 32;
/** Where the device has them (RXDID 0): four to a cache line. */
export const SHORT_RX_DESCRIPTOR_BYTES = 16;
/** The device uses at most this many buffers for one received frame. */
export const MAX_RX_BUFFERS = 5;
/** A completion is asked for at least every so many descriptors, and at the end of every burst. */
export const RS_INTERVAL = 32;
/**
 * A poll right after a burst finds a frame or two: the device is about to write the others, two or four descriptors to a cache line, and
 * looking at them takes the line away from it every time. So for RX_PATIENCE polls after a burst only the descriptor is looked at
 * that would fill the next one, or RX_LOOKAHEAD further on; then whatever there is is taken. A microsecond or two of latency under
 * load, none after a pause. Polls of other queues count: while an lcore goes round many cards, their bursts grow by themselves.
 */
export const RX_PATIENCE = 64;
export const RX_LOOKAHEAD = 63;
/** Shortest frame the device takes; longest payload the 18-bit TSO LEN can say; MSS range of the hardware. */
export const MIN_TX_FRAME_BYTES = 17;
export const MAX_TSO_PAYLOAD_BYTES: number = (1 << 18) - 1;
export const MIN_MSS = 64;
export const MAX_MSS = 9668;
