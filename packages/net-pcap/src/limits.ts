/** Largest frame (without FCS) that is received or sent; the class's usual maximum. */
export const MAX_FRAME_BYTES = 9728;
/** Shortest frame that is received: an Ethernet header. */
export const MIN_FRAME_BYTES = 14;
/** A record that claims more is not a record: libpcap's MAXIMUM_SNAPLEN. Those between this and MAX_FRAME_BYTES are skipped. */
export const MAX_RECORD_BYTES: number = 1 << 18;
/** Bytes read from the file at a time. */
export const READ_BLOCK_BYTES: number = 1 << 18;
/** Bytes sent that wait to be written. */
export const WRITE_BUFFER_BYTES: number = 1 << 18;
/** What was sent is in the file after so long at the latest, so that a running capture can be looked at. */
export const FLUSH_INTERVAL_MS = 250;
/** How long a burst waits for a write of the control thread to end before its frames are refused. */
export const WRITE_WAIT_MS = 1000;
export const MIN_SNAPLEN = 14;
export const MAX_SNAPLEN = 65_535;
