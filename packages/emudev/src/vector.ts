/**
 * The cells of one interrupt vector, in the window, so that the control thread arms it and any lcore raises it without a
 * message and without losing an event. One eventfd write per raise that finds the vector armed; an event that comes while it
 * is not armed is latched in `pending` and fires on the next arming.
 *
 * ```
 * Int32 index  cell
 * 0            armed: 1 while the guest wants an interrupt; taken (1 → 0) by whoever fires
 * 1            pending: the latch
 * 2            fd: the consumer's eventfd, -1 while there is none
 * 3            fired: how often the eventfd was written
 * 4            last: when, microseconds of `monotonicMicros`
 * 5            interval: microseconds after `last` before which the latched event must not fire
 * 6            control: 0, or the Int32 index of the word whose bit 0 is `armed` in place of cell 0
 * ```
 *
 * With `control` the guest arms by a plain store into mapped memory, of which nobody hears: whoever has raised an event that is still
 * pending looks again from time to time. Firing clears bit 0 by compare-and-exchange, so that no write of the guest's is lost.
 *
 * | armed | pending | fd   | event                       | arm                                  |
 * | ----- | ------- | ---- | --------------------------- | ------------------------------------ |
 * | 0     | any     | any  | pending = 1                 | armed = 1; if pending and fd ≥ 0: fire |
 * | 1     | 0       | ≥ 0  | fire (armed = 0, pending = 0) | no change                          |
 * | 1     | any     | -1   | pending = 1                 | no change; a new fd evaluates again  |
 *
 * An event that comes before its interval is over is latched, armed or not, and `evaluateVector` says when it is due. Whoever raises
 * or arms sees to it that somebody evaluates then: an lcore in its loop (`PortDatapath.tick`), the control thread by a timer.
 *
 * The order makes it lossless: an event first publishes its descriptors, then sets pending, then evaluates; whoever wins
 * `armed` clears pending before it signals, so an event either is seen by this signal or sets pending after it.
 */
export const VECTOR_CELLS_BYTES = 64;
/** Int32 index of `armed`. */
export const VECTOR_ARMED = 0;
/** Int32 index of `pending`. */
export const VECTOR_PENDING = 1;
/** Int32 index of `fd`. */
export const VECTOR_FD = 2;
/** Int32 index of `fired`. */
export const VECTOR_FIRED = 3;
/** Int32 index of `last`. */
export const VECTOR_LAST = 4;
/** Int32 index of `interval`. */
export const VECTOR_INTERVAL = 5;
/** Int32 index of `control`. */
export const VECTOR_CONTROL = 6;
/** `armed` in the word that `control` names. */
export const CONTROL_ARMED = 1;

/** GUEST: one that writes its control word all the time gets its interrupt at a later look. */
const CONTROL_TRIES = 4;

/** Microseconds since something in the past, modulo 2^32; the same in all threads of the process to a few microseconds. No system call. */
export function monotonicMicros(): number {
  return (ORIGIN_US + performance.now() * 1000) >>> 0;
}
// `performance.now` begins at zero in every thread, `hrtime` does not; of several tries the one that was interrupted least.
const ORIGIN_US: number = Math.min(...Array.from({ length: 8 }, () => {
  const now = performance.now() * 1000;
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1000 - now;
}));

/**
 * Latches an event and fires if the vector is armed and the last interrupt is `intervalUs` (up to 2^31) old; 0 does not wait. Returns
 * what `evaluateVector` returns. `cells` is the Int32 index of the vector's first cell (window offset / 4).
 */
export function raiseVector(i32: Int32Array, cells: number, signal: (fd: number) => boolean, intervalUs = 0, clock: () => number = monotonicMicros): number {
  latchEvent(i32, cells, intervalUs);
  return evaluateVector(i32, cells, signal, clock);
}

/** The first half of `raiseVector`, for whoever evaluates later. */
export function latchEvent(i32: Int32Array, cells: number, intervalUs: number): void {
  // Of several latched events the one that may wait least decides.
  if (Atomics.load(i32, cells + VECTOR_PENDING) === 0 || intervalUs < Atomics.load(i32, cells + VECTOR_INTERVAL)) Atomics.store(i32, cells + VECTOR_INTERVAL, intervalUs);
  Atomics.store(i32, cells + VECTOR_PENDING, 1);
}

/**
 * Fires if there is something pending and due, the vector is armed and has a descriptor. Call after arming and after a new descriptor.
 * Returns the microseconds until something pending is due, 0 where nothing waits for the time.
 */
export function evaluateVector(i32: Int32Array, cells: number, signal: (fd: number) => boolean, clock: () => number = monotonicMicros): number {
  if (Atomics.load(i32, cells + VECTOR_PENDING) === 0) return 0;
  const now = clock();
  const intervalUs = Atomics.load(i32, cells + VECTOR_INTERVAL);
  if (intervalUs !== 0) {
    const elapsed = (now - Atomics.load(i32, cells + VECTOR_LAST)) >>> 0;
    if (elapsed < intervalUs) return intervalUs - elapsed;
  }
  const fd = Atomics.load(i32, cells + VECTOR_FD);
  if (fd < 0) return 0;
  if (!takeArmed(i32, cells)) return 0;
  Atomics.store(i32, cells + VECTOR_PENDING, 0);
  Atomics.store(i32, cells + VECTOR_LAST, now | 0);
  Atomics.add(i32, cells + VECTOR_FIRED, 1);
  signal(fd);
  return 0;
}

/** Is the vector armed? */
export function isArmed(i32: Int32Array, cells: number): boolean {
  const control = Atomics.load(i32, cells + VECTOR_CONTROL);
  return control === 0 ? Atomics.load(i32, cells + VECTOR_ARMED) === 1 : (Atomics.load(i32, control) & CONTROL_ARMED) !== 0;
}

/** Disarms; true for the one who did. */
function takeArmed(i32: Int32Array, cells: number): boolean {
  const control = Atomics.load(i32, cells + VECTOR_CONTROL);
  if (control === 0) return Atomics.compareExchange(i32, cells + VECTOR_ARMED, 1, 0) === 1;
  for (let tries = 0; tries < CONTROL_TRIES; tries++) {
    const word = Atomics.load(i32, control);
    if ((word & CONTROL_ARMED) === 0) return false;
    if (Atomics.compareExchange(i32, control, word, word & ~CONTROL_ARMED) === word) return true;
  }
  return false;
}
