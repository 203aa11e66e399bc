/**
 * Runs of Tx packets whose payload is lent (FRAME_LENT): it stays in the guest's memory, and whoever takes the frame copies it from there.
 * Until then the guest does not get its descriptors back, none of the run: a driver may take one that is done for all those before it.
 * So a burst ends with such a run.
 */
import {
  DEV_LENDS, DEV_TX_BLOCKS, FRAME_LENT, FRAME_RECORD_BYTES, LEND_ABOVE_BYTES, LEND_LEAST, LEND_PAUSE_BURSTS, LENT_HEAD_BYTES, MAX_LENT, PADDED_FRAME_BYTES, Q_BOUNCED,
  Q_BYTES, Q_LEND_WAIT, Q_LENT, Q_STAGE, STAGE_RETURNS,
} from './layout';
import { copyBlock, copyFrame } from '../../../../tools/kernels/src/kernels/copy';
import { span, translate } from './iotlb';
import { makeWhole } from './lent';
import { publish } from './publish';
import { QW1_RS, sizeOf } from './tx-descriptor';
import { isPlain, isSimple, NOTHING_FETCHED } from './tx-run';

/** What a run leaves behind. */
export let lentFrames: u32 = 0;
export let lentBytes: u32 = 0;
/** How many of the frames go to a group address. */
export let lentGroup: u32 = 0;
export let lentHead: u32 = 0;

/** The longest packet of this burst that is copied as a whole: `maxFrame` where none is lent. */
export function wholeLimit(device: u32, block: u32, maxFrame: u32): u32 {
  if (load<u32>(device, DEV_LENDS) == 0 || load<u32>(block, Q_BOUNCED) != 0) return maxFrame;
  const wait = load<u32>(block, Q_LEND_WAIT);
  if (wait != 0) {
    store<u32>(block, wait - 1, Q_LEND_WAIT);
    return maxFrame;
  }
  return min<u32>(LEND_ABOVE_BYTES, maxFrame);
}

@inline
export function isLendable(qw1: u64): bool {
  return isSimple(qw1) && isPlain(qw1) && sizeOf(qw1) > LEND_ABOVE_BYTES;
}

/** Heads an odd number of lines apart: else all of them are in the same few sets of the cache. */
@inline
function nextFrame(cursor: u32, bytes: u32): u32 {
  return cursor + (((bytes + 63) | 64) & ~63);
}

/**
 * The plain packets from `head` on, the short ones copied as they are in a run of both. `qw1` is that of the first, a lendable one;
 * returned is that of the packet it stopped at, or NOTHING_FETCHED.
 */
export function takeLent(
  block: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, queue: u32, qw1: u64,
): u64 {
  const first = load<u32>(block, Q_STAGE) + STAGE_RETURNS;
  let returns = first;
  let frames: u32 = 0;
  let total: u32 = 0;
  let group: u32 = 0;
  count = min<u32>(count, MAX_LENT);
  while (true) {
    const bytes = sizeOf(qw1);
    if (bytes < PADDED_FRAME_BYTES || bytes > maxFrame || <i32>(end - cursor) < <i32>bytes) break;
    const from = translate(load<u64>(ring + (head << 4))); // GUEST: fetched once more only if nothing came of it
    if (from == 0 || span < bytes) break;
    if (bytes > LEND_ABOVE_BYTES) {
      // GUEST: what anybody decides by is copied now, and read from the copy
      copyBlock(cursor, from);
      v128.store(record, i64x2.replace_lane(i64x2.splat(FRAME_LENT), 0, <u64>cursor | (<u64>bytes << 32)));
      v128.store(record, i64x2.replace_lane(i64x2.splat(0), 1, <u64>(from + LENT_HEAD_BYTES) | (<u64>queue << 32)), 16);
    } else {
      copyFrame(cursor, from, bytes);
      v128.store(record, i64x2.replace_lane(i64x2.splat(0), 0, <u64>cursor | (<u64>bytes << 32)));
      v128.store(record, i64x2.replace_lane(i64x2.splat(0), 1, <u64>queue << 32), 16);
    }
    group += load<u8>(cursor) & 1;
    total += bytes;
    cursor = nextFrame(cursor, bytes);
    if ((qw1 & QW1_RS) != 0) {
      store<u64>(returns, qw1 | 0xf);
      store<u64>(returns, ring + (head << 4) + 8, 8);
      returns += 16;
    }
    if (++head == length) head = 0;
    record += FRAME_RECORD_BYTES;
    if (++frames == count) {
      qw1 = NOTHING_FETCHED;
      break;
    }
    qw1 = load<u64>(ring + (head << 4), 8); // GUEST: fetched once more by the next burst if the run ends here
    if (!isSimple(qw1) || !isPlain(qw1)) break;
  }
  if (frames != 0) {
    store<u32>(block, (returns - first) >> 4, Q_LENT);
    // Where kinds of packets alternate, bursts of one or two would cost more than the copies
    if (qw1 != NOTHING_FETCHED && frames < LEND_LEAST) store<u32>(block, LEND_PAUSE_BURSTS, Q_LEND_WAIT);
  }
  lentFrames = frames;
  lentBytes = total;
  lentGroup = group;
  lentHead = head;
  return qw1;
}

/** Makes the frames of `count` records whole, which are kept, and gives the run's descriptors back. 1 = there were any. */
export function takeBack(device: u32, queue: u32, records: u32, count: u32): u32 {
  for (let record = records, end = records + count * FRAME_RECORD_BYTES; record != end; record += FRAME_RECORD_BYTES) makeWhole(record);
  const block = load<u32>(device, DEV_TX_BLOCKS) + queue * Q_BYTES;
  const returns = load<u32>(block, Q_LENT);
  let entry = load<u32>(block, Q_STAGE) + STAGE_RETURNS;
  for (const end = entry + (returns << 4); entry != end; entry += 16) publish(load<u32>(entry, 8), load<u64>(entry));
  store<u32>(block, 0, Q_LENT);
  return returns != 0 ? 1 : 0;
}
