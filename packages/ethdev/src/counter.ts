/**
 * A 64-bit counter in the window, written by one lcore and read by anybody, without BigInt, atomics or a lock on the writer's
 * side. A carry into the high word is three stores; the order of them and of the reader's three loads, and the top bit of the
 * low word (which tells the two sides of a carry apart), make every read exact to the last completed `addCounter`.
 *
 * ```
 * 0   u32  low
 * 4   u32  high, written before the low word wraps
 * 8   u32  high, written after it
 * 12  u32  reserved
 * ```
 */
export const COUNTER_BYTES = 16;

/** Adds `n` (0 ≤ n < 2^31). `index` is the counter's window offset / 4. Only the thread that owns the counter calls this. */
export function addCounter(u32: Uint32Array, index: number, n: number): void {
  const low = u32[index]! + n;
  if (low <= 0xffffffff) {
    u32[index] = low;
    return;
  }
  const high = (u32[index + 1]! + 1) >>> 0;
  Atomics.store(u32, index + 1, high);
  Atomics.store(u32, index, low - 0x100000000);
  Atomics.store(u32, index + 2, high);
}

/** Any thread, any time. */
export function readCounter(u32: Uint32Array, index: number): bigint {
  const after = Atomics.load(u32, index + 2);
  const low = Atomics.load(u32, index);
  const before = Atomics.load(u32, index + 1);
  // Unequal: a carry happened while we looked. A low word that has not wrapped yet is large.
  const high = before === after || low < 0x80000000 ? before : after;
  return (BigInt(high) << 32n) | BigInt(low);
}
