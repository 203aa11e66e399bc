/** Queue pairs of one port, a packet socket each. */
export const MAX_QUEUE_PAIRS = 16;
