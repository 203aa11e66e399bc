/** What a peer or a user can make a memif port allocate, hold or wait for. */

/** Queue pairs of a port. */
export const MAX_QUEUES = 16;
/** Smallest packet buffer: an Ethernet minimum, so that a chain is never longer than some hundred descriptors. */
export const MIN_BUFFER_BYTES = 64;
/** Largest packet buffer (uint16_t in DPDK's arguments). */
export const MAX_BUFFER_BYTES = 65535;
/** As DPDK. */
export const DEFAULT_BUFFER_BYTES = 2048;
/** Largest ring a peer may bring or a user ask for, as log2: indices are 16 bits wide, DPDK and VPP allow as much. */
export const MAX_LOG2_RING_SIZE = 14;
/** As DPDK. */
export const DEFAULT_LOG2_RING_SIZE = 10;
/** Longest frame without FCS, over as many chained descriptors as it takes. */
export const MAX_FRAME_BYTES = 9728;
/** Shortest frame that is handed on: an Ethernet header. */
export const MIN_FRAME_BYTES = 14;
/** Shared memory files of one peer. */
export const MAX_REGIONS = 64;
/** Bytes of all shared memory of one peer: it lives in the DMA window, beside the memory of guests. */
export const MAX_SHARED_BYTES = 0x4000_0000;
/** Peers of one socket that have connected and not said yet which interface they want; with one more the oldest has to go. */
export const MAX_STRANGERS = 16;
/** From a connection to CONNECTED. */
export const HANDSHAKE_TIMEOUT_MS = 5000;
/** Messages taken from one peer before others get their turn. */
export const MESSAGES_PER_TURN = 16;
/** A client that has no server looks for one so often. */
export const RECONNECT_MS = 500;
/** A listener that cannot accept (no descriptors left) tries again after this. */
export const ACCEPT_PAUSE_MS = 200;
/** Bytes of a secret: its field has 24, and DPDK keeps one for the NUL. */
export const MAX_SECRET_BYTES = 23;
/** Polls in a row that find a ring empty before its peer is asked for interrupts. An lcore polls some more times before it sleeps. */
export const POLLS_BEFORE_INTERRUPT = 256;
