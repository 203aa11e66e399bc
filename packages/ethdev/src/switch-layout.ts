/**
 * What the control thread and the lcores of a learning switch share, in the DMA window. Kernels (src/kernels/switch.ts) and their
 * TypeScript twins (switch-twin.ts) use these offsets; src/kernels/switch-layout.ts mirrors them for AssemblyScript and a test
 * compares the two.
 *
 * An address is one 64-bit word, so that one atomic load reads it whole and one compare-and-exchange changes it:
 * ```
 * bits 0-47   the address, first byte lowest; 0 = the place is free
 * bits 48-53  the port it was last seen on
 * bits 54-63  the tick it was last seen at, modulo 1024
 * ```
 * A bucket is four of them. An address may be in one of two buckets, both from a hash with a secret seed: a look-up reads at most
 * eight words, whatever anybody sends.
 */

/* ---- switch block ---------------------------------------------------------------------------------------------------------- */
export const SW_TABLE = 0; // u32: window offset of the buckets
export const SW_MASK = 4; // u32: number of buckets - 1; a power of two - 1, at least 1
export const SW_SEED = 8; // u32[2]: secret
export const SW_TICK = 16; // u32: now, modulo 1024; written by the control thread
export const SW_QUOTA = 20; // u32: addresses one port may hold
export const SW_UP = 24; // u32[2]: bit p = port p has a link: floods go there
export const SW_HELD = 64; // u32[64]: addresses each port holds now
export const SW_BYTES = 320;

export const SWITCH_WAYS = 4;
export const SWITCH_BUCKET_BYTES = 32;
export const TICK_MASK = 1023;

/* ---- side block: what one lcore needs to itself ---------------------------------------------------------------------------- */
export const SIDE_SET = 0; // u32[2]: out: bit p = port p gets frames of this burst
export const SIDE_COUNTS = 16; // u32[12]: out: what happened in this burst, SWC_*
export const SIDE_DESTINATIONS = 64; // u8[1024]: out: by frame, a port or a TO_*
export const SIDE_RECORDS = 1088; // records gathered for one port

/** A frame's destination: a port's number below TO_FLOOD, or one of these. */
export const TO_FLOOD = 64;
export const TO_NOWHERE = 65;

/** Cells of SIDE_COUNTS. Those before SWC_LEARNED are fates of a frame; each frame that goes to one known port has none of them. */
export const SWC_FLOODED = 0; // to every other port with a link
export const SWC_FILTERED = 1; // its destination is on the port it came from
export const SWC_RESERVED = 2; // a link-local group address (IEEE 802.1D, table 7-10): no bridge passes these on
export const SWC_ALONE = 3; // no other port has a link
export const SWC_BAD_SOURCE = 4; // a group address or zero as source
export const SWC_SHORT = 5; // no Ethernet header
export const SWC_LEARNED = 6; // addresses
export const SWC_MOVED = 7; // addresses seen on another port than before
export const SWC_UNLEARNED = 8; // addresses that got no place: the port's quota, or both buckets full
export const SWC_CELLS = 9;

/** Result of `classify`: a port that all frames of the burst go to, or this: see SIDE_SET. */
export const SWITCH_MIXED = 64;
/** In the result: some cell of SIDE_COUNTS is not zero. */
export const SWITCH_COUNTED: number = 1 << 8;
