/** What the twins need of the window, and the two little things both directions share. */
import { Q_STATS } from '../layout.ts';

export interface TwinMemory {
  readonly view: DataView;
  readonly u8: Uint8Array;
}

export function addCounter(view: DataView, block: number, counter: number, amount: number): void {
  const at = block + Q_STATS + 8 * counter;
  view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(amount), true);
}

/** A bit field of a 64-bit descriptor word that may straddle its two halves. */
export function field(low: number, high: number, shift: number, mask: number): number {
  return shift >= 32 ? (high >>> (shift - 32)) & mask : ((low >>> shift) | (high << (32 - shift))) & mask;
}
