/** Fields of qw1 of the write-back that every writer needs, and the write-back itself. */
import { Q_SHORT } from './layout';
import { publish } from './publish';

export const LENGTH_SHIFT: u64 = 38;
/** Of a descriptor's bytes: 32 and, of RXDID 0, 16, which is the first half of the other. */
export const LONG_SHIFT: u32 = 5;
export const SHORT_SHIFT: u32 = 4;

@inline
export function shiftOf(block: u32): u32 {
  return LONG_SHIFT - load<u32>(block, Q_SHORT);
}

/** The words behind qw1, if there are any: the guest may have left anything there. */
@inline
export function clearRest(descriptor: u32, shift: u32): void {
  if (shift == LONG_SHIFT) v128.store(descriptor, i64x2.splat(0), 16);
}

/** Ownership bit in one store after the other words: the guest's driver may look at any time. */
@inline
export function writeBack(descriptor: u32, shift: u32, qw0: u64, qw1: u64): void {
  clearRest(descriptor, shift);
  store<u64>(descriptor, qw0);
  publish(descriptor + 8, qw1);
}
