/** Bounds of the port; docs/limits.md lists them. */

/** A traffic frame without FCS: an Ethernet minimum, and the largest of an MTU of 1500. */
export const MIN_FRAME_BYTES = 60;
export const MAX_FRAME_BYTES = 1514;
/** Questions that may be open at a time. */
export const MAX_WINDOW = 4096;
