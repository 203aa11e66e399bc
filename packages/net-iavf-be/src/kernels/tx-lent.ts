/**
 * Tx packets whose payload is lent (FRAME_LENT): it stays in the guest's memory, and whoever takes the frame copies it from there. Until
 * then the guest does not get its descriptors back, nor those of what comes behind them in the burst: a driver may take one that is done
 * for all those before it.
 */
import {
  DEV_LENDS, DEV_TX_BLOCKS, FRAME_RECORD_BYTES, LENT_HEAD_BYTES, Q_BOUNCED, Q_BYTES, Q_HEAD, Q_LENGTH, Q_LENT, Q_RING,
} from './layout';
import { makeWhole } from './lent';
import { publish } from './publish';
import { TCP_CHECKSUM_END } from './tx-offload';
import { DTYPE_CONTEXT, DTYPE_DONE, dtypeOf, l2Of, l3Of, QW1_RS } from './tx-descriptor';

/** Whether long packets of this ring are lent. */
@inline
export function lends(device: u32, block: u32): bool {
  return load<u32>(device, DEV_LENDS) != 0 && load<u32>(block, Q_BOUNCED) == 0;
}

/** If TCP's or UDP's checksum is to be inserted, it lies in the part of a lent frame that is copied. */
@inline
export function hasSumInHead(qw1: u64): bool {
  return l2Of(qw1) + l3Of(qw1) + TCP_CHECKSUM_END <= LENT_HEAD_BYTES;
}

/** Makes the frames of `count` records whole, which are kept, and gives the descriptors back. 1 = one with RS was among them. */
export function takeBack(device: u32, queue: u32, records: u32, count: u32): u32 {
  for (let record = records, end = records + count * FRAME_RECORD_BYTES; record != end; record += FRAME_RECORD_BYTES) makeWhole(record);
  const block = load<u32>(device, DEV_TX_BLOCKS) + queue * Q_BYTES;
  const ring = load<u32>(block, Q_RING);
  const length = load<u32>(block, Q_LENGTH);
  let left = load<u32>(block, Q_LENT);
  store<u32>(block, 0, Q_LENT);
  let head = load<u32>(block, Q_HEAD);
  head = head >= left ? head - left : head + length - left;
  let raise: u32 = 0;
  for (; left != 0; --left) {
    const at = ring + (head << 4) + 8;
    // GUEST: fetched once more, and perhaps another by now; then it gets that one back, or nothing
    const qw1 = load<u64>(at);
    const type = dtypeOf(qw1);
    if ((qw1 & QW1_RS) != 0 && type != DTYPE_CONTEXT && type != DTYPE_DONE) {
      publish(at, qw1 | 0xf);
      raise = 1;
    }
    if (++head == length) head = 0;
  }
  return raise;
}
