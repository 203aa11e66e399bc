/** What a back end holds, and how often it looks. */

/** Bytes of the guest that wait for the far end; the guest then waits, or they are discarded. */
export const OUTGOING_BYTES: number = 16 << 10;
/** Credit is given back to the card when so much of it has come together. */
export const CREDIT_STEP: number = OUTGOING_BYTES / 4;
/** Bytes of the far end that wait for the guest: from here on nothing is read. */
export const INCOMING_BYTES: number = 64 << 10;
/** Most that one read brings, beyond `INCOMING_BYTES`. */
export const READ_BYTES: number = 64 << 10;
/** Bytes of a socket's own buffer in this process. */
export const SOCKET_BUFFER_BYTES: number = 64 << 10;
/** Breaks that wait for the guest; more of them are one. */
export const MAX_WAITING_BREAKS = 16;
/** Linux tells nobody that a pseudo terminal's slave is opened: while none is open, or nothing is read, we look so often, ms. */
export const PTY_POLL_MS = 100;
/** A descriptor that says it is writable and takes nothing is asked again after this, ms. */
export const STALLED_RETRY_MS = 20;
/** Pauses between attempts to connect, ms: doubled from the first to the last. */
export const RECONNECT_FIRST_MS = 250;
/** The longest pause between attempts to connect, ms: the doubling ends here. */
export const RECONNECT_LAST_MS = 10_000;
/** What a socket has taken when it is closed is sent within this, ms; then it is cut. */
export const CLOSE_LINGER_MS = 1000;
/** Connections that may wait in the kernel. */
export const LISTEN_BACKLOG = 4;
