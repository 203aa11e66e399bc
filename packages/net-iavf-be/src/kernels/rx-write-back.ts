/** Fields of qw1 of the write-back that every writer needs, and the write-back itself. */
import { publish } from './publish';

export const LENGTH_SHIFT: u64 = 38;

/** Ownership bit in one store after the other words: the guest's driver may look at any time. */
@inline
export function writeBack(descriptor: u32, qw0: u64, qw1: u64): void {
  v128.store(descriptor, i64x2.splat(0), 16);
  store<u64>(descriptor, qw0);
  publish(descriptor + 8, qw1);
}
