/** Everything that a guest or a back end can make this package hold. */

/** Of a 16550A, in each direction. */
export const FIFO_BYTES = 16;
/** Credits are given when at least this much room has come together, or the receiver has less than its trigger level: not one message per byte. */
export const CREDIT_STEP = 8;
/** Credits that a back end may have granted and not yet seen used. */
export const MAX_TRANSMIT_CREDIT: number = 1 << 20;
/** Messages that wait for a back end whose handler is slow; the guest's bytes then stay in its FIFO, and changes of lines and settings become one. */
export const MAX_WAITING_MESSAGES = 32;
/** Bytes that do not fill the transmitter's FIFO are handed on after this, ms, or at once when the guest asks whether they are gone. */
export const TRANSMIT_DELAY_MS = 1;
/** Characters of the text that a back end puts into `portN.farEnd`. */
export const MAX_FAR_END_TEXT = 4096;
