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
/** Free descriptors of a guest's Rx ring (at most a quarter of it) below which frames for it are left where they are: a burst, as ports receive it. */
export const ROOM_DESCRIPTORS = 64;
/** So long they are, ms; a guest that makes no room meanwhile loses them, as by any card, until it does. */
export const ROOM_PATIENCE_MS = 20;
/**
 * Microseconds after which an lcore that sleeps for a descriptor looks again whether the guest has armed a vector whose event is latched. (One
 * that also receives from a guest looks more often anyway.) A guest that polls and never arms costs such an lcore 1 % of a processor.
 */
export const ARMING_LOOK_US = 500;
/** Loops of an lcore between two looks at all vectors of a card, for what no event of ours makes it look at: 6 ms while it is idle. */
export const LOOK_ROUND_LOOPS = 64;
/** Copies of what one bounced ring has under way. More than the longest packet that is not refused for its length, and what is lost at the end of the pool. */
export const BOUNCE_BYTES: number = 512 * 1024;
/** Descriptors that are fetched, or frames that are delivered, before the ring's other direction of work has its turn. */
export const BOUNCE_BATCH = 64;
/** DMA messages of one bounced ring that wait for the consumer at a time: of all 32 rings half of what a vfio-user server has ids for. */
export const BOUNCE_MESSAGES = 16;
/** Between two looks at a bounced ring that has nothing to do, ms. */
export const BOUNCE_IDLE_MS = 1;
/** A consumer that leaves fails its messages first and is gone a moment later: only then is a ring that fails a fault, ms. */
export const BOUNCE_BLAME_MS = 100;
/**
 * How long whoever stops a ring, or changes the DMA table, waits for DMA messages that the consumer has not answered, ms. A consumer that
 * answers none while it waits for us (QEMU does not) loses no more time than this. What comes later finds nobody.
 */
export const BOUNCE_HALT_MS = 1000;
