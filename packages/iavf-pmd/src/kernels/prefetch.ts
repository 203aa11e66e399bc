// Before an lcore polls the first of several cards it asks for the lines that the devices have written, so that they come together.
// What is read is not used, nor does anything wait for it but the branches, which the processor guesses.
import {
  Q_ENABLED, Q_HEAD, Q_LENGTH, Q_RING, Q_TAIL, RXS_DD, TXQ_RS_HEAD, TXQ_RS_LIST, TXQ_RS_TAIL, TX_DESCRIPTOR_BYTES,
} from './layout';
import { LINE_BYTES } from '../../../../tools/kernels/src/kernels/lines';
import { shiftOf } from './rx';

/** Exported so that no compiler leaves the reads out. */
export let prefetched: u32 = 0;

/** Lines of Rx descriptors that are asked for. */
const LINES: u32 = 4;

/** `tx`: the queue of the same pair, into which what is received mostly goes. 0 = the next rxBurst would receive nothing and post nothing. */
export function prefetch(rx: u32, tx: u32): u32 {
  if (load<u32>(rx + Q_ENABLED) == 0) return 0;
  const ring = load<u32>(rx + Q_RING);
  const shift = shiftOf(rx);
  const perLine = LINE_BYTES >> shift;
  const length = load<u32>(rx + Q_LENGTH);
  const head = load<u32>(rx + Q_HEAD);
  const tail = load<u32>(rx + Q_TAIL);
  // Nothing there: the device is about to write the next lines. But what the last burst has consumed may have to be posted
  if (head == tail || (load<u32>(ring + (head << shift), 8) & RXS_DD) == 0) return <u32>(tail != (head == 0 ? length : head) - 1);
  let sum: u32 = 0;
  for (let n = perLine; n < LINES * perLine && head + n < length; n += perLine) sum += load<u32>(ring + ((head + n) << shift), 8);
  const oldest = load<u32>(tx + TXQ_RS_TAIL);
  if (load<u32>(tx + Q_ENABLED) != 0 && oldest != load<u32>(tx + TXQ_RS_HEAD)) {
    sum += load<u32>(load<u32>(tx + Q_RING) + load<u32>(load<u32>(tx + TXQ_RS_LIST) + oldest * 4) * TX_DESCRIPTOR_BYTES, 8);
  }
  prefetched = sum;
  return 1;
}
