/** Bounds of the kit; docs/limits.md lists them. */

/** How long a suite waits for something that is to happen before it calls it a hang. */
export const PATIENCE_MS = 2000;
/** Turns of the event loop in which something that must not happen would have happened. */
export const QUIET_TURNS = 20;
/** Connections, attachments and restarts that have to leave nothing behind. */
export const REPEATS = 100;
/** Frames a suite sends or asks for at a time. */
export const SUITE_BURST = 64;
/** Bytes of each of the two rings of a scripted port. */
export const SCRIPT_RING_BYTES: number = 1 << 20;
