/** What a card, or whoever uses a port, can make this driver hold or do. */

/** Ports of one card: one per BAR. */
export const MAX_PORTS = 6;
/** Bytes put into a transmitter that says it is empty. A 16550A takes 16; mtty of Linux up to 6.6 loses all of a FIFO that is exactly full. */
export const TRANSMIT_BURST_BYTES = 15;
/** Received bytes that wait for their reader, unless `receiveBytes` says otherwise: then the receiver is left alone until half of them are read. */
export const DEFAULT_RECEIVE_BYTES = 65_536;
/** What `receiveBytes` may be at most. */
export const MAX_RECEIVE_BYTES = 16_777_216;
/** Bytes given to `write` that have not left; more are refused until some have. */
export const MAX_TRANSMIT_BYTES = 16_777_216;
/** Bytes that are fetched from one port before the others have their turn. */
export const RECEIVE_BURST_BYTES = 64;
/** Looks at all ports of a busy card between two turns of the event loop. */
export const SERVICE_PASSES = 16;
/** Times a port may claim to need service and have nothing to be done, until it is believed to be broken. */
export const MAX_IDLE_SERVICES = 64;
/** How often `drain` looks whether the last byte has left: the transmitter has no interrupt for that, ms. */
export const DRAIN_POLL_MS = 2;
