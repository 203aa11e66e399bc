/** How much the fuzzer does before it looks, and how long it waits before it calls something dead. */

/** Messages of one hostile session, on average; then the target is asked whether it still answers. */
export const SESSION_MESSAGES = 4000;
/** Messages that go out in one sendmsg, and the bytes they may have together. */
export const BATCH_MESSAGES = 96;
export const BATCH_BYTES = 65_536;
/** Sessions between two counts of the target's descriptors and memory. */
export const SESSIONS_PER_COUNT = 50;
/** Sessions before the first count: caches fill, code is compiled. */
export const WARM_UP_SESSIONS = 20;
/** A target that has not answered a well-formed command by then is dead, ms. */
export const ANSWER_DEADLINE_MS = 20_000;
/** Growth of the target that is still none: garbage that a collection leaves, arenas of the allocator. */
export const MAX_HEAP_GROWTH_BYTES: number = 5 << 20;
export const MAX_RSS_GROWTH_BYTES: number = 192 << 20;
/** Messages that a report of a failure ends with. */
export const REPORTED_MESSAGES = 400;
/** Longest data of an ordinary access; few messages have more. */
export const MAX_SMALL_DATA_BYTES = 64;
/** Calls that a client makes in one session, on average. */
export const CLIENT_OPERATIONS = 400;
/** Every so many sessions a client gets a server that does nothing wrong. */
export const SESSIONS_PER_SANE = 10;
/** Time for the news of a process's end to arrive, ms. */
export const EXIT_NOTICE_MS = 200;
/** Collections of garbage for one count, and the pause after each, ms. */
export const COLLECTIONS = 4;
export const COLLECTION_PAUSE_MS = 30;
