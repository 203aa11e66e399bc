/** Everything that a guest, a consumer or a back end can make this device hold, loop over or wait for. */

export { MAX_QUEUE_PAIRS, MAX_FRAME_BYTES } from './contract.ts';

/** Replies waiting for receive buffers at which the device stops taking requests: no reply is ever dropped for a guest's slowness. */
export const REPLIES_BEFORE_BACK_PRESSURE = 256;
/** Messages of any kind waiting for receive buffers; what a back end sends beyond is dropped and counted. */
export const MAX_WAITING_MESSAGES = 512;
/** Requests taken from the admin queue before the event loop gets its turn: a driver has a few under way, only an attack has more. */
export const REQUESTS_PER_TURN = 32;
/** How long a reset waits for the back end to finish the request it is working on, ms. */
export const RESET_SETTLE_MS = 1000;
/** A guest that leaves messages unread is reminded after this long, then at doubling intervals up to the limit, ms. */
export const NUDGE_FIRST_MS = 2;
export const NUDGE_LIMIT_MS = 1024;
/** Link speeds an argument may name, Mb/s. */
export const MAX_SPEED_MBPS = 400_000;
