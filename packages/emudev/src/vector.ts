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
 * ```
 *
 * | armed | pending | fd   | event                       | arm                                  |
 * | ----- | ------- | ---- | --------------------------- | ------------------------------------ |
 * | 0     | any     | any  | pending = 1                 | armed = 1; if pending and fd ≥ 0: fire |
 * | 1     | 0       | ≥ 0  | fire (armed = 0, pending = 0) | no change                          |
 * | 1     | any     | -1   | pending = 1                 | no change; a new fd evaluates again  |
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

/** Latches an event and fires if the vector is armed. `cells` is the Int32 index of the vector's first cell (window offset / 4). */
export function raiseVector(i32: Int32Array, cells: number, signal: (fd: number) => boolean): void {
  Atomics.store(i32, cells + VECTOR_PENDING, 1);
  evaluateVector(i32, cells, signal);
}

/** Fires if there is something pending, the vector is armed and has a descriptor. Call after arming and after a new descriptor. */
export function evaluateVector(i32: Int32Array, cells: number, signal: (fd: number) => boolean): void {
  if (Atomics.load(i32, cells + VECTOR_PENDING) === 0) return;
  const fd = Atomics.load(i32, cells + VECTOR_FD);
  if (fd < 0) return;
  if (Atomics.compareExchange(i32, cells + VECTOR_ARMED, 1, 0) !== 1) return;
  Atomics.store(i32, cells + VECTOR_PENDING, 0);
  Atomics.add(i32, cells + VECTOR_FIRED, 1);
  signal(fd);
}
