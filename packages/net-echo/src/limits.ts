/** Largest frame (without FCS) that is answered. */
export const MAX_FRAME_BYTES = 9728;
/** Answers waiting to be received. */
export const ANSWER_RING_BYTES: number = 1 << 20;
/** Longest answer that does not grow with its request: a DHCP reply with all options and two tags. */
export const MAX_FIXED_ANSWER_BYTES = 640;
/** VLAN tags in front of an answered frame. */
export const MAX_TAGS = 2;
/** DHCP clients that have an address at a time. */
export const MAX_LEASES = 256;
export const DEFAULT_LEASE_SECONDS = 3600;
export const MAX_LEASE_SECONDS = 0x7fffffff;
/** How long an address that was offered is kept for who asked. */
export const OFFER_SECONDS = 60;
export const MIN_MTU = 68;
export const MAX_MTU: number = MAX_FRAME_BYTES - 14;
