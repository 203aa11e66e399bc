export const MAX_QUEUES = 16;
/** Bytes of a queue's ring; frames up to half of it fit. */
export const MIN_RING_BYTES = 4096;
export const MAX_RING_BYTES: number = 1 << 26;
export const DEFAULT_RING_BYTES: number = 1 << 20;
export const MAX_FRAME_BYTES = 9728;
