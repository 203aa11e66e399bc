/** Largest frame a null port makes; the class's usual maximum. */
export const MAX_FRAME_BYTES = 9728;
/** An Ethernet header. */
export const MIN_FRAME_BYTES = 14;
export const MAX_QUEUES = 16;
/** `copy` copies at most so much of a frame sent (a TSO frame may be longer). */
export const SINK_BYTES = 16_384;
