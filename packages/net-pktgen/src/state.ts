/**
 * What the control half and the data path share, in the window: a command word going down, results coming up. One writer per
 * field. Counts are doubles (exact to 2^53), so that neither side needs BigInt.
 */
export const STATE_PHASE = 0; // i32, control: PHASE_*
export const STATE_PINGS_WANTED = 4; // i32, control: stop asking after so many
export const STATE_RESOLVED = 8; // i32, data path: 1 = the peer's MAC is known
export const STATE_PINGS_SENT = 12; // i32, data path
export const STATE_PINGS_ANSWERED = 16; // i32, data path
export const STATE_TX_PACKETS = 64; // f64, data path: traffic frames sent
export const STATE_RX_PACKETS = 72; // f64: answers that were right
export const STATE_LOST = 80; // f64: questions that were never answered
export const STATE_WRONG = 88; // f64: answers that differ from the question, came twice, or came to the wrong port
export const STATE_TX_BYTES = 96; // f64
export const STATE_RX_BYTES = 104; // f64
/** Round-trip times of the last pings in microseconds, f64, indexed by ping number modulo RTT_SLOTS. */
export const STATE_RTTS = 128;
export const RTT_SLOTS = 64;
export const STATE_TEMPLATE: number = STATE_RTTS + RTT_SLOTS * 8;
export const TEMPLATE_BYTES = 2048;
export const STATE_BYTES: number = STATE_TEMPLATE + TEMPLATE_BYTES;

export const PHASE_IDLE = 0;
/** Ask for the peer's MAC (ARP). The later phases do it first, too. */
export const PHASE_RESOLVE = 1;
export const PHASE_PING = 2;
export const PHASE_TRAFFIC = 3;
/** Send nothing more, count what still comes. */
export const PHASE_DRAIN = 4;

/** Plain data for `createDatapath`. */
export interface PktgenInit {
  readonly state: number;
  /** Blocks of the port's counters. */
  readonly rxCounters: number;
  readonly txCounters: number;
  readonly mac: readonly number[];
  readonly ip: readonly number[];
  readonly peer: readonly number[];
  readonly frameBytes: number;
  readonly window: number;
  readonly pingIntervalMs: number;
  readonly timeoutMs: number;
}
