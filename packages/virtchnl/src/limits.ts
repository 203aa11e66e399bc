/** What a peer may make us read or allocate. */

/** One admin-queue buffer: no virtchnl message is longer, in either direction. */
export const MAX_MESSAGE_BYTES = 4096;
/** Bits 9:0 of VF_ATQLEN1 / VF_ARQLEN1. */
export const MAX_ADMIN_QUEUE_LENGTH = 1023;
