/** Bounds and defaults of the port class; docs/limits.md lists them. */

/** Lcores of one pool: a thread each. */
export const MAX_LCORES = 64;
/** Streams of one lcore: beyond it a loop is so long that quiescence and latency suffer. */
export const MAX_STREAMS_PER_LCORE = 256;
/** Frames of one burst. */
export const MAX_BURST = 1024;
/** Streams of an lcore whose cache lines are asked for together, before the first of them is polled. */
export const PREFETCH_STREAMS = 8;
/** Empty loops after which an lcore sleeps, unless `IDLE_SPIN_MS` is over first. */
export const IDLE_SPINS = 1000;
/**
 * Milliseconds without a frame after which an lcore sleeps, if `IDLE_SPINS` loops take longer: a spinning lcore may have the processor
 * that those need for whom it has just had a frame.
 */
export const IDLE_SPIN_MS = 0.03;
/**
 * For so long after a frame, milliseconds, an idle lcore's sleeps are short, because the next one is likely to come now. With a hundred frames
 * per second or more that is always: up to 40 % of a processor in a virtual machine, where each sleep costs 17 us.
 */
export const EAGER_MS = 10;
/** Such a sleep, nanoseconds; where `--idle-latency` is less, that. */
export const EAGER_SLEEP_NS = 25_000;
/** One that takes so many milliseconds ends that: others want the processor. */
export const MAX_EAGER_SLEEP_MS = 0.15;
/**
 * Microseconds that an idle lcore sleeps between two looks at what nothing announces: doorbells in memory have no descriptor, so this
 * bounds the latency of a guest's first frame. A look costs up to 20 us of CPU in a virtual machine (the timer).
 */
export const IDLE_LATENCY_US = 50;
/** Longest `idleLatencyUs`. */
export const MAX_IDLE_LATENCY_US = 100_000;
/** Kernel timers of an lcore are this exact (PR_SET_TIMERSLACK; 50 us by default, half of what it sleeps). */
export const TIMER_SLACK_NS = 1000;
/** Milliseconds that a stream leaves frames where they are because the port it sends to asks for a moment; then they are dropped. */
export const MAX_HOLD_MS = 1000;
/** Largest processor number an lcore can be bound to (CPU_SETSIZE - 1). */
export const MAX_CPU = 1023;
/** A port's descriptor that wakes us this often in a row for nothing (an error state, say) is left out of the following sleeps. */
export const MAX_FRUITLESS_WAKES = 8;
/** How often such a port is looked at then, nanoseconds. */
export const FRUITLESS_SLEEP_NS = 2_000_000;
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
/** Ports of one learning switch: a port's number is six bits of an address's word. */
export const MAX_SWITCH_PORTS = 64;
/** Addresses that one port of a switch may hold, unless it is told otherwise: a guest that makes up addresses crowds out nobody else. */
export const DEFAULT_PORT_ADDRESSES = 1024;
/** Most of them: a table has twice as many places as all its ports together may fill, and is private window memory. */
export const MAX_PORT_ADDRESSES = 16_384;
/** An address that is not seen for so long is forgotten (IEEE 802.1D, 7.9.2: 300 s recommended). */
export const DEFAULT_AGEING_SECONDS = 300;
/** Least ageing time (IEEE 802.1D, table 7-5). */
export const MIN_AGEING_SECONDS = 10;
/** Most ageing time (IEEE 802.1D, table 7-5). */
export const MAX_AGEING_SECONDS = 1_000_000;
/** Ticks of a switch's clock until an address is old: ageing is exact to one part in so many. */
export const SWITCH_AGE_TICKS = 256;
/** Frames for a switch's port that another lcore has to send: room for a burst of 1500-byte frames, twice. */
export const RELAY_RING_BYTES: number = 1 << 18;
