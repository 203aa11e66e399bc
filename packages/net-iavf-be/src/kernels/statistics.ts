/** 64-bit counters of a queue or a device: one writer each, read by the control thread. */
import { QS_BYTES, QS_PACKETS, QS_UNICAST } from './layout';
import { castOf, MAC_MASK } from './filter';

@inline
export function increment(counter: u32): void {
  store<u64>(counter, load<u64>(counter) + 1);
}

@inline
export function add(counter: u32, n: u64): void {
  store<u64>(counter, load<u64>(counter) + n);
}

/** `stats`: a queue's counters; `start`: the first eight bytes of the frame. */
@inline
export function countFrame(stats: u32, start: u64, packets: u32, bytes: u32): void {
  countCast(stats, castOf(start & MAC_MASK), packets, bytes);
}

@inline
export function countCast(stats: u32, cast: u32, packets: u32, bytes: u32): void {
  add(stats + (QS_PACKETS << 3), packets);
  add(stats + (QS_BYTES << 3), bytes);
  // unicast, multicast, broadcast are neighbours, in the order of UMBCAST
  add(stats + ((QS_UNICAST + cast) << 3), packets);
}
