// Receive: the iavf legacy write-back, of 32 or 16 bytes, becomes frame records. The device wrote the descriptors: every field is fetched once
// and checked before it is used.
import { copy } from '../../../../tools/kernels/src/kernels/copy';
import { LINE_BYTES } from '../../../../tools/kernels/src/kernels/lines';
import { addCounter } from './counter';
import {
  FRAME_RECORD_BYTES, FRAME_RX_IP_BAD, FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD, FRAME_RX_RSS, FRAME_RX_VLAN, MAX_RX_BUFFERS,
  QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_BUFFERS, Q_BUFFER_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA, Q_LENGTH,
  Q_NUMBER, Q_RING, Q_SLOTS, Q_TAIL, RXQ_LAST, RXQ_SHORT, RXQ_SKIP, RXS_DD, RXS_EOP, RXS_FLTSTAT_MASK, RXS_FLTSTAT_RSS, RXS_IPE, RXS_L2TAG1P, RXS_L3L4P,
  RXS_L4E, RXS_RXE, RX_LENGTH_MASK, RX_LENGTH_SHIFT, RX_LOOKAHEAD, RX_PATIENCE, RX_PTYPE_MASK, RX_PTYPE_SHIFT,
} from './layout';
import { publish } from './publish';

/** Of a descriptor's bytes: 32 and, short, 16, which is the first half of the other. */
const LONG_SHIFT: u32 = 5;
const SHORT_SHIFT: u32 = 4;
@inline
export function shiftOf(q: u32): u32 {
  return LONG_SHIFT - load<u32>(q + RXQ_SHORT);
}

/** Posts what the previous burst consumed, all but the slot before `head`: a full ring would look like an empty one. */
@inline
function repost(q: u32, ring: u32, shift: u32, length: u32, head: u32): void {
  let tail = load<u32>(q + Q_TAIL);
  const limit: u32 = head == 0 ? length - 1 : head - 1;
  if (tail == limit) return;
  const iova = load<u64>(q + Q_IOVA);
  const slots = load<u32>(q + Q_SLOTS);
  do {
    const descriptor: usize = ring + (tail << shift);
    v128.store(descriptor, i64x2.replace_lane(i64x2.splat(0), 0, iova + load<u32>(slots + tail * 4)));
    tail++;
    if (tail == length) tail = 0;
  } while (tail != limit);
  store<u32>(q + Q_TAIL, tail);
  publish(load<u32>(q + Q_DOORBELL), tail);
}

/** The descriptor `ahead` from here is the device's and done, so all before it are. Or there are so few that the device waits for more. */
@inline
function looksFull(q: u32, ring: u32, shift: u32, length: u32, head: u32, ahead: u32): bool {
  const tail = load<u32>(q + Q_TAIL);
  const posted = tail >= head ? tail - head : tail + length - head;
  // Beyond the posted ones lie old write-backs.
  if (posted <= ahead) return true;
  const at = head + ahead < length ? head + ahead : head + ahead - length;
  return (<u32>atomic.load<u64>(ring + (at << shift), 8) & RXS_DD) != 0;
}

/** Exported so that no compiler leaves the reads out. */
export let touched: u32 = 0;

/** Asks for the lines of `count` descriptors at once. What is read is not used: every field is fetched when its turn comes. */
@inline
function touch(ring: u32, shift: u32, length: u32, head: u32, count: u32): void {
  let sum: u32 = 0;
  for (let n: u32 = 0; n < count; n += LINE_BYTES >> shift) sum += load<u32>(ring + ((head + n < length ? head + n : head + n - length) << shift), 8);
  touched = sum;
}

@inline
function checksumFlags(status: u32, ptype: u32): u32 {
  let flags: u32 = 0;
  let first: u32 = 88;
  if (ptype - 22 <= 6) {
    first = 22;
    flags = (status & RXS_IPE) != 0 ? FRAME_RX_IP_BAD : FRAME_RX_IP_GOOD;
  } else if (ptype - 88 > 6) {
    return 0;
  }
  const kind = ptype - first;
  if (kind == 2 || kind == 4 || kind == 5) flags |= (status & RXS_L4E) != 0 ? FRAME_RX_L4_BAD : FRAME_RX_L4_GOOD;
  return flags;
}

@inline
function writeRecord(record: u32, data: u32, length: u32, qw0: u64, qw1: u64, queue: u32): void {
  const status = <u32>qw1;
  let flags: u32 = 0;
  let tci: u32 = 0;
  let hash: u32 = 0;
  if ((status & RXS_L2TAG1P) != 0) {
    flags |= FRAME_RX_VLAN;
    tci = (<u32>qw0) >> 16;
  }
  if ((status & RXS_FLTSTAT_MASK) == RXS_FLTSTAT_RSS) {
    flags |= FRAME_RX_RSS;
    hash = <u32>(qw0 >> 32);
  }
  if ((status & RXS_L3L4P) != 0) flags |= checksumFlags(status, <u32>(qw1 >> RX_PTYPE_SHIFT) & RX_PTYPE_MASK);
  v128.store(record, i64x2.replace_lane(i64x2.splat(<u64>data | (<u64>length << 32)), 1, <u64>flags | (<u64>tci << 32)));
  v128.store(record, i64x2.replace_lane(i64x2.splat(0), 1, <u64>hash | (<u64>queue << 32)), 16);
}

/** What `takeSingles` leaves behind. */
let singlesHead: u32 = 0;
let singlesBytes: u32 = 0;

/** The frames from `head` on as long as each is a whole one in one buffer: nearly all. Returns their number. */
function takeSingles(
  q: u32, ring: u32, shift: u32, length: u32, head: u32, count: u32, record: u32, buffers: u32, slots: u32, bufferBytes: u32,
): u32 {
  return shift == LONG_SHIFT
    ? takeLong(q, ring, length, head, count, record, buffers, slots, bufferBytes)
    : takeShort(q, ring, length, head, count, record, buffers, slots, bufferBytes);
}

function takeLong(q: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, buffers: u32, slots: u32, bufferBytes: u32): u32 {
  return takeRun(LONG_SHIFT, q, ring, length, head, count, record, buffers, slots, bufferBytes);
}

function takeShort(q: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, buffers: u32, slots: u32, bufferBytes: u32): u32 {
  return takeRun(SHORT_SHIFT, q, ring, length, head, count, record, buffers, slots, bufferBytes);
}

@inline
function takeRun(
  shift: u32, q: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, buffers: u32, slots: u32, bufferBytes: u32,
): u32 {
  const queue = load<u32>(q + Q_NUMBER);
  const first = record;
  const end = record + count * FRAME_RECORD_BYTES;
  let bytes: u32 = 0;
  while (record < end) {
    const descriptor: usize = ring + (head << shift);
    const qw1 = atomic.load<u64>(descriptor, 8);
    const size = <u32>(qw1 >> RX_LENGTH_SHIFT) & RX_LENGTH_MASK;
    if ((<u32>qw1 & (RXS_DD | RXS_EOP | RXS_RXE)) != (RXS_DD | RXS_EOP) || size - 1 >= bufferBytes) break;
    writeRecord(record, buffers + load<u32>(slots + head * 4), size, load<u64>(descriptor), qw1, queue);
    bytes += size;
    if (++head == length) head = 0;
    record += FRAME_RECORD_BYTES;
  }
  singlesHead = head;
  singlesBytes = bytes;
  return (record - first) / FRAME_RECORD_BYTES;
}

/** `now`: how often the lcore has polled, any of its queues; wraps. */
export function rxBurst(q: u32, records: u32, max: u32, arena: u32, arenaBytes: u32, now: u32): u32 {
  if (load<u32>(q + Q_ENABLED) == 0) return 0;
  const ring = load<u32>(q + Q_RING);
  const shift = shiftOf(q);
  const length = load<u32>(q + Q_LENGTH);
  const buffers = load<u32>(q + Q_BUFFERS);
  const slots = load<u32>(q + Q_SLOTS);
  const bufferBytes = load<u32>(q + Q_BUFFER_BYTES);
  const queue = load<u32>(q + Q_NUMBER);
  let skip = load<u32>(q + RXQ_SKIP);
  let head = load<u32>(q + Q_HEAD);
  if (now - load<u32>(q + RXQ_LAST) <= RX_PATIENCE) {
    const ahead = max == 0 ? 0 : min<u32>(min<u32>(max - 1, RX_LOOKAHEAD), length >> 2);
    if (!looksFull(q, ring, shift, length, head, ahead)) return 0;
    touch(ring, shift, length, head, ahead);
  }
  repost(q, ring, shift, length, head);
  const tail = load<u32>(q + Q_TAIL);

  let count: u32 = 0;
  let bytes: u64 = 0;
  let arenaUsed: u32 = 0;
  let record = records;
  while (count < max && head != tail) {
    if (skip == 0) {
      const posted = tail >= head ? tail - head : tail + length - head;
      const taken = takeSingles(q, ring, shift, length, head, min<u32>(max - count, posted), record, buffers, slots, bufferBytes);
      head = singlesHead;
      bytes += singlesBytes;
      count += taken;
      record += taken * FRAME_RECORD_BYTES;
      if (count == max || head == tail) break;
    }
    const qw1 = atomic.load<u64>(ring + (head << shift), 8);
    const status = <u32>qw1;
    if ((status & RXS_DD) == 0) break;

    if (skip != 0) {
      if ((status & RXS_EOP) != 0) skip = 0;
      head++;
      if (head == length) head = 0;
      continue;
    }

    // Several buffers, or something wrong: look at the whole frame before any of it is consumed.
    let total: u32 = 0;
    let parts: u32 = 0;
    let at = head;
    let last: u64 = 0;
    let bad = false;
    let complete = false;
    while (parts < MAX_RX_BUFFERS && at != tail) {
      const word = atomic.load<u64>(ring + (at << shift), 8);
      if ((<u32>word & RXS_DD) == 0) break;
      const part = <u32>(word >> RX_LENGTH_SHIFT) & RX_LENGTH_MASK;
      if (part - 1 >= bufferBytes || (<u32>word & RXS_RXE) != 0) bad = true;
      total += part;
      parts++;
      last = word;
      at++;
      if (at == length) at = 0;
      if ((<u32>word & RXS_EOP) != 0) {
        complete = true;
        break;
      }
    }
    if (!complete && parts < MAX_RX_BUFFERS) break; // the rest has not been written yet
    if (!complete || bad) {
      addCounter(q, QS_ERRORS, 1);
      if (!complete) skip = 1;
      head = at;
      continue;
    }
    if (arenaUsed + total > arenaBytes) {
      if (count > 0) break; // a fresh burst has the whole arena
      addCounter(q, QS_NO_ROOM, 1);
      head = at;
      continue;
    }
    const start = arena + arenaUsed;
    let from = head;
    let gathered: u32 = 0;
    for (let i: u32 = 0; i < parts; i++) {
      // Fetched a second time: the device may have changed it since, so what is copied is bounded by what was reserved, and what is not the frame any more is none.
      let part = <u32>(atomic.load<u64>(ring + (from << shift), 8) >> RX_LENGTH_SHIFT) & RX_LENGTH_MASK;
      if (part > bufferBytes) part = bufferBytes;
      if (part > total - gathered) part = total - gathered;
      copy(start + gathered, buffers + load<u32>(slots + from * 4), part);
      gathered += part;
      from++;
      if (from == length) from = 0;
    }
    if (gathered != total) {
      addCounter(q, QS_ERRORS, 1);
      head = at;
      continue;
    }
    const final: usize = ring + ((at == 0 ? length - 1 : at - 1) << shift);
    writeRecord(record, start, total, load<u64>(final), last, queue);
    arenaUsed += (total + 63) & ~63;
    head = at;
    bytes += total;
    record += FRAME_RECORD_BYTES;
    count++;
    addCounter(q, QS_LARGE, 1);
  }
  store<u32>(q + Q_HEAD, head);
  store<u32>(q + RXQ_SKIP, skip);
  if (count > 0) {
    store<u32>(q + RXQ_LAST, now);
    addCounter(q, QS_PACKETS, count);
    addCounter(q, QS_BYTES, bytes);
  }
  return count;
}
