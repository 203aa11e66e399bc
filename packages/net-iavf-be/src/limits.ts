/** What a guest may ask of us, and how long we wait for our own threads; docs/limits.md lists them. */
import { MAC_MAX } from './layout.ts';

/** The guest's only VSI. Not 0: an echoed zero would hide bugs. */
export const VSI_ID = 1;
/** Addresses in the filter; further ones are refused. */
export const MAX_MAC_FILTERS: number = MAC_MAX;
/** VLAN filters, as the VLAN_V2 capabilities announce it. */
export const MAX_VLAN_FILTERS = 4094;
/** Largest VLAN identifier (12 bits). */
export const MAX_VLAN_ID = 4095;
/** Shortest ring a guest may configure, descriptors. */
export const MIN_RING_DESCRIPTORS = 64;
/** Longest ring a guest may configure, descriptors. */
export const MAX_RING_DESCRIPTORS = 8160;
/** A ring's length is a multiple of this, descriptors. */
export const RING_DESCRIPTORS_STEP = 32;
/** Hardware's rule, and what keeps the kernels' atomic accesses aligned. */
export const RING_ALIGN_BYTES = 128;
/** Shortest receive buffer a guest may configure. */
export const MIN_RX_BUFFER_BYTES = 128;
/** Longest receive buffer a guest may configure. */
export const MAX_RX_BUFFER_BYTES: number = 16 * 1024 - 128;
/** Smallest `max_pkt_size` of a receive queue a guest may configure. */
export const MIN_PACKET_BYTES = 64;
/** Between the announcement of a reset and the reset: the driver has to see the event before its queues are cleared. */
export const RESET_NOTICE_MS = 10;
/** Tries for the Rx rings of a guest that another lcore is filling, some 200 us in all: ten bursts. Then it is not running, and the burst waits for our next loop. */
export const TX_LOCK_SPINS = 20_000;
/** Descriptors of a ring that are looked at for what else is not in the window when one of them misses. */
export const MISS_LOOKAHEAD = 64;
/**
 * A burst to the guest whose buffers have to be brought in sleeps for so long at most, ms, and other ports of the lcore wait with it:
 * an answer takes tens of microseconds. Then the rest of the burst waits for the lcore's next loop.
 */
export const MISS_PATIENCE_MS = 0.25;
