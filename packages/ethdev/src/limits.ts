/** Bounds and defaults of the port class; docs/limits.md lists them. */

/** Lcores of one pool: a thread each. */
export const MAX_LCORES = 64;
/** Streams of one lcore: beyond it a loop is so long that quiescence and latency suffer. */
export const MAX_STREAMS_PER_LCORE = 256;
/** Frames of one burst. */
export const MAX_BURST = 1024;
/** Empty loops before an lcore sleeps: some hundred microseconds, long enough for the answer to a request just forwarded. */
export const IDLE_SPINS = 1000;
/** First sleep of an lcore after spinning. */
export const MIN_SLEEP_NS = 50_000;
/** Longest sleep of an lcore that is not deeply idle: doorbells in memory have no descriptor, so this bounds their latency. */
export const MAX_SLEEP_NS = 400_000;
/** Sleeps without a frame (about a fifth of a second) until they become longer still. */
export const DEEP_IDLE_SLEEPS = 500;
/** Those longer sleeps: a wake-up costs up to 20 us of CPU in a virtual machine, so `MAX_SLEEP_NS` would keep an idle lcore at 4 % of a core, this at about 1 %. */
export const DEEP_SLEEP_NS = 2_000_000;
/** A port's descriptor that wakes us this often in a row for nothing (an error state, say) is left out of the following sleeps. */
export const MAX_FRUITLESS_WAKES = 8;
/** An lcore that does not answer a command for so long is stuck in somebody's data path. Loading a module takes far less. */
export const COMMAND_DEADLINE_MS = 10_000;
/** Smallest byte ring for frames. */
export const MIN_FRAME_RING_BYTES = 4096;
/** Largest byte ring for frames. */
export const MAX_FRAME_RING_BYTES: number = 1 << 26;
/** Shortest frame that `txonly` makes, without FCS: an Ethernet minimum. */
export const MIN_GENERATED_FRAME_BYTES = 60;
/** Longest frame that `txonly` makes, without FCS: the largest a port of ours carries. */
export const MAX_GENERATED_FRAME_BYTES = 9728;
