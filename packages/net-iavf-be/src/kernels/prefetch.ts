/**
 * Lines that the guest's processor has written last: a load of one takes as long as a hundred others, and what a burst does with it
 * waits. So before an lcore polls the first of several cards it asks for those of all of them.
 *
 * What is read is not used, nor does anything wait for it but the branches, which the processor guesses: every field is fetched and
 * checked when its turn comes. GUEST: a tail outside of the ring reads nothing.
 */
import { DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH, Q_LENT, Q_RING, Q_TSO_TOTAL } from './layout';
import { LINE_BYTES } from '../../../../tools/kernels/src/kernels/lines';
import { shiftOf } from './rx-write-back';

/** Exported so that no compiler leaves the reads out. */
export let prefetched: u32 = 0;

/** Lines of a ring that are asked for. */
const LINES: u32 = 4;
const TX_SHIFT: u32 = 4;

/** `sends`: 1 = nobody but the caller's thread writes this card's Rx descriptors. 0 = the next rxBurst would have nothing to do. */
export function prefetch(device: u32, queue: u32, sends: u32): u32 {
  if (load<u32>(device, DEV_PAUSED) != 0 || queue >= load<u32>(device, DEV_QUEUE_PAIRS)) return 0;
  const tx = load<u32>(device, DEV_TX_BLOCKS) + queue * Q_BYTES;
  const rx = load<u32>(device, DEV_RX_BLOCKS) + queue * Q_BYTES;
  if (load<u32>(tx, Q_ENABLED) == 0 || load<u32>(tx, Q_RING) == 0) return 0;
  const head = load<u32>(tx, Q_HEAD);
  const length = load<u32>(tx, Q_LENGTH);
  const tail = load<u32>(load<u32>(tx, Q_DOORBELL));
  if (tail == head) return load<u32>(tx, Q_TSO_TOTAL) | load<u32>(tx, Q_LENT);
  if (tail >= length) return 1;
  const count = tail > head ? tail - head : tail + length - head;
  let sum = lines(load<u32>(tx, Q_RING), head, length, count, TX_SHIFT);
  // What is received goes back to the same card, or to one like it
  if (sends != 0 && load<u32>(rx, Q_ENABLED) != 0 && load<u32>(rx, Q_RING) != 0 && load<u32>(rx, Q_FAULT) == 0) {
    take(load<u32>(rx, Q_RING), load<u32>(rx, Q_HEAD), load<u32>(rx, Q_LENGTH), load<u32>(load<u32>(rx, Q_DOORBELL)), count, shiftOf(rx));
  }
  prefetched = sum;
  return 1;
}

@inline
function lines(ring: u32, head: u32, length: u32, count: u32, shift: u32): u32 {
  const end = min<u32>(head + count, length) << shift;
  let at = head << shift;
  let sum = load<u32>(ring + at);
  for (let n: u32 = 1; n < LINES; ++n) {
    at += LINE_BYTES;
    if (at >= end) break;
    sum += load<u32>(ring + at);
  }
  return sum;
}

/**
 * Takes the lines of the first of `count` posted Rx descriptors, by a store: after a load, the write-back would have to ask for each of them once
 * more. Posted descriptors are the device's to write, and the word stored is the one that becomes the status; a driver waits for its DD bit. So
 * another thread that delivers meanwhile must not be: its status would be lost, and the driver wait for ever.
 */
@inline
function take(ring: u32, head: u32, length: u32, tail: u32, count: u32, shift: u32): void {
  // GUEST: any value
  if (tail >= length) return;
  const end = (head + min<u32>(count, tail >= head ? tail - head : length - head)) << shift;
  let at = head << shift;
  for (let n: u32 = 0; n < LINES && at < end; ++n) {
    store<u64>(ring + at, 0, 8);
    at += LINE_BYTES;
  }
}
