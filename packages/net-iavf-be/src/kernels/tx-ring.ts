/**
 * The guest's Tx ring: descriptors to frames in the arena. One pass per packet: fetch its descriptors (once), validate, copy the
 * data, do the offloads, write the record, and only then give the descriptors back.
 */
import {
  DEV_IOTLB, DEV_MAX_FRAME, DEV_PAUSED, DEV_PEER_TX_CAPS, DEV_QUEUE_PAIRS, DEV_TX_BLOCKS, FRAME_IPV6, FRAME_L4_TCP,
  FRAME_RECORD_BYTES, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN, IOTLB_READ, LEND_ABOVE_BYTES, MIN_TX_FRAME_BYTES, PADDED_FRAME_BYTES, Q_BYTES, Q_DOORBELL,
  Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH, Q_LENT, Q_RING, Q_STAGE, Q_STATS, Q_TSO_TOTAL, QFAULT_NEVER_EOP, QFAULT_TAIL, QS_BYTES, QS_ERRORS, QS_PACKETS,
  QS_UNICAST, STAGE_AHEAD, STAGE_CRC_TABLE, STAGE_DESCRIPTORS, TSO_HANDOVER_IP_BYTES, TSOF_TAG, TSOF_TAG_PEER,
} from './layout';
import { copy } from '../../../../tools/kernels/src/kernels/copy';
import { zero } from './zero';
import { castOf, MAC_MASK, UNICAST } from './filter';
import { copyFromGuest, lookAhead, missed, span, translate, useIotlb } from './iotlb';
import { publish } from './publish';
import { writeRecord } from './record';
import { add, countFrame, increment } from './statistics';
import { emitSegments, segmentsEnd, startSegments, tsoFits } from './tso';
import {
  CMD_DUMMY, CMD_IIPT, CMD_IIPT_IPV6, CMD_IL2TAG1, CMD_L4T, CMD_L4T_TCP, CMD_SPECIAL, cmdOf, collect, CONTEXT_IL2TAG2, CONTEXT_TSO,
  DTYPE_CONTEXT, DTYPE_DATA, DTYPE_DONE, dtypeOf, l2Of, l3Of, l4Of, mssOf, packetBytes, packetContext, packetDescriptors,
  packetFirst, packetMalformed, QW1_EOP, QW1_RS, sizeOf, tag1Of,
} from './tx-descriptor';
import { finishChecksums, headersFit, insertTag } from './tx-offload';
import { hasSumInHead, lends, takeBack } from './tx-lent';
import { isInPieces, piecesBytes, piecesCursor, piecesFrames, piecesGroup, piecesHead, piecesRaise, takePieces } from './tx-pieces';
import {
  isPlain, isSimple, lendPlain, lendSummed, NOTHING_FETCHED, RAISE, runBytes, runCursor, runFrames, runGroup, runHead, runRaise, takePlain, takeSummed,
} from './tx-run';

const MISS: u32 = 1 << 17;
const LENT: u32 = 1 << 18;
const MAX_BURST: u32 = 0xffff;
/** No packet's place: none has been lent. */
const NONE: u32 = u32.MAX_VALUE;
/**
 * Packets this burst has refused. One may have cost as much as a good one (a quarter of a megabyte gathered before its last buffer
 * is found missing), so a burst ends at `max` of them, too. Not a local: the common path would carry it along.
 */
let refused: u32 = 0;

/**
 * Frames in the low 16 bits; bit 16: a descriptor with RS was completed, raise the queue's vector; bit 17: the packet at head needs
 * memory that has to be brought in first; bit 18: some are lent, and wait for `takeBack`.
 */
export function rxBurst(device: u32, queue: u32, records: u32, max: u32, arena: u32, arenaBytes: u32): u32 {
  if (atomic.load<u32>(device + DEV_PAUSED) != 0 || queue >= load<u32>(device, DEV_QUEUE_PAIRS)) return 0;
  const block = load<u32>(device, DEV_TX_BLOCKS) + queue * Q_BYTES;
  const ring = load<u32>(block, Q_RING);
  if (load<u32>(block, Q_ENABLED) == 0 || load<u32>(block, Q_FAULT) != 0 || ring == 0) return 0;
  const length = load<u32>(block, Q_LENGTH);
  const tail = atomic.load<u32>(load<u32>(block, Q_DOORBELL)); // GUEST: any value
  if (tail >= length) {
    store<u32>(block, QFAULT_TAIL, Q_FAULT);
    return 0;
  }
  const stats = block + Q_STATS;
  const caps = load<u32>(device, DEV_PEER_TX_CAPS);
  const sumsForPeer = (caps & FRAME_TX_L4_CSUM) != 0;
  const maxFrame = load<u32>(device, DEV_MAX_FRAME);
  const end = arena + arenaBytes;
  if (max > MAX_BURST) max = MAX_BURST;
  refused = 0;
  useIotlb(load<u32>(device, DEV_IOTLB), IOTLB_READ);

  let cursor = arena;
  let produced: u32 = 0;
  // Left behind by an lcore that has died between a burst and the end of its loans
  let raise: u32 = load<u32>(block, Q_LENT) != 0 && takeBack(device, queue, 0, 0) != 0 ? RAISE : 0;
  /** Where the first lent packet is: from there on, no descriptor goes back before `takeBack`. */
  let lent = NONE;
  // Counters of the common packets, added at the end: three loads and stores less for each
  let plainFrames: u32 = 0;
  let plainBytes: u32 = 0;
  let unicast: u32 = 0;
  let head = load<u32>(block, Q_HEAD);
  if (load<u32>(block, Q_TSO_TOTAL) != 0) {
    produced = emitSegments(block, queue, records, 0, max, cursor, end);
    cursor = segmentsEnd;
    if (load<u32>(block, Q_TSO_TOTAL) != 0) return produced | raise;
  }
  if (head != tail && produced < max) {
    const posted = tail > head ? tail - head : tail + length - head;
    lookAhead(load<u32>(block, Q_STAGE) + STAGE_AHEAD, ring, length, head, min<u32>(posted, max - produced), 4);
  }
  /** Longer packets are lent if they can be. */
  const whole = lends(device, block) ? min<u32>(LEND_ABOVE_BYTES, maxFrame) : maxFrame;
  while (head != tail && produced < max) {
    let qw1 = load<u64>(ring + (head << 4), 8); // GUEST: fetched once
    if (isSimple(qw1)) {
      const available = tail > head ? tail - head : tail + length - head;
      const count = min<u32>(available, max - produced);
      const record = records + produced * FRAME_RECORD_BYTES;
      const plain = isPlain(qw1);
      const most: u32 = !plain && sumsForPeer ? 0 : maxFrame;
      const copied = plain || hasSumInHead(qw1) ? min<u32>(whole, most) : most;
      if (lent != NONE || (sizeOf(qw1) > copied && copied < most)) {
        qw1 = plain
          ? lendPlain(ring, length, head, count, record, cursor, end, most, copied, queue, qw1)
          : lendSummed(ring, length, head, count, record, cursor, end, most, copied, queue, qw1);
        if (lent == NONE && runFrames != 0) lent = head;
      } else {
        qw1 = plain
          ? takePlain(ring, length, head, count, record, cursor, end, copied, queue, qw1)
          : takeSummed(ring, length, head, count, record, cursor, end, copied, queue, qw1);
      }
      produced += runFrames;
      plainFrames += runFrames;
      plainBytes += runBytes;
      unicast += runFrames - runGroup;
      raise |= runRaise;
      head = runHead;
      cursor = runCursor;
      if (runGroup != 0) countGroup(stats, records + (produced - runFrames) * FRAME_RECORD_BYTES, runFrames);
      // The next run may lend what this one has stopped at
      if (qw1 == NOTHING_FETCHED || (runFrames != 0 && isSimple(qw1) && sizeOf(qw1) > whole)) continue;
    }
    const descriptor = ring + (head << 4);
    const cmd = cmdOf(qw1);
    if ((<u32>qw1 & 0x1f) == <u32>QW1_EOP && (cmd & CMD_SPECIAL) == 0) {
      // The common packet: one descriptor, at most checksums to insert
      let bytes = sizeOf(qw1);
      const room = bytes < PADDED_FRAME_BYTES ? PADDED_FRAME_BYTES : bytes;
      const fits = end - cursor >= room;
      const works = (cmd & (CMD_IIPT | CMD_L4T)) != 0;
      const valid = bytes >= MIN_TX_FRAME_BYTES && bytes <= maxFrame &&
        (!works || headersFit(cmd, l2Of(qw1), l3Of(qw1), l4Of(qw1), bytes));
      if (valid && !fits && produced != 0) break;
      if (!valid || !fits || !fetch(cursor, load<u64>(descriptor), bytes)) {
        if (missed) break;
        increment(stats + (QS_ERRORS << 3));
        if (lent == NONE && (qw1 & QW1_RS) != 0) {
          publish(descriptor + 8, qw1 | 0xf);
          raise = RAISE;
        }
        if (++head == length) head = 0;
        if (++refused >= max) break;
        continue;
      }
      let flags: u32 = 0;
      if (works) flags = finishChecksums(cursor, cmd, l2Of(qw1), l3Of(qw1), bytes, caps, load<u32>(block, Q_STAGE) + STAGE_CRC_TABLE);
      if (bytes < PADDED_FRAME_BYTES) {
        zero(cursor + bytes, PADDED_FRAME_BYTES - bytes);
        bytes = PADDED_FRAME_BYTES;
      }
      const record = records + produced * FRAME_RECORD_BYTES;
      if (flags == 0) writeRecord(record, cursor, bytes, 0, 0, 0, 0, 0, 0, queue);
      else writeRecord(record, cursor, bytes, flags, 0, 0, l2Of(qw1), l3Of(qw1), l4Of(qw1), queue);
      const cast = castOf(load<u64>(cursor) & MAC_MASK);
      if (cast == UNICAST) ++unicast;
      else increment(stats + ((QS_UNICAST + cast) << 3));
      plainBytes += bytes;
      ++plainFrames;
      ++produced;
      cursor = min<u32>((cursor + bytes + 63) & ~63, end);
      if (lent == NONE && (qw1 & QW1_RS) != 0) {
        publish(descriptor + 8, qw1 | 0xf);
        raise = RAISE;
      }
      if (++head == length) head = 0;
      continue;
    }
    const type = dtypeOf(qw1);
    if (type != DTYPE_DATA && type != DTYPE_CONTEXT) {
      if (type != DTYPE_DONE) {
        increment(stats + (QS_ERRORS << 3));
        if (lent == NONE && (qw1 & QW1_RS) != 0) {
          publish(descriptor + 8, qw1 | 0xf);
          raise = RAISE;
        }
      }
      if (++head == length) head = 0;
      continue;
    }
    const available = tail > head ? tail - head : tail + length - head;
    if (isInPieces(qw1)) {
      const record = records + produced * FRAME_RECORD_BYTES;
      takePieces(
        block, queue, ring, length, head, available, record, max - produced, caps, maxFrame, cursor, end, lent == NONE ? QW1_RS : 0, qw1,
      );
      if (piecesFrames != 0) {
        produced += piecesFrames;
        plainFrames += piecesFrames;
        plainBytes += piecesBytes;
        unicast += piecesFrames - piecesGroup;
        raise |= piecesRaise;
        head = piecesHead;
        cursor = piecesCursor;
        if (piecesGroup != 0) countGroup(stats, record, piecesFrames);
        continue;
      }
    }
    if (!collect(ring, length, head, available, qw1, load<u32>(block, Q_STAGE) + STAGE_DESCRIPTORS)) {
      // The rest is yet to come, unless the guest has no descriptor left to post
      if (available == length - 1) store<u32>(block, QFAULT_NEVER_EOP, Q_FAULT);
      break;
    }
    outcome = DROPPED;
    produced += assemble(device, block, queue, records + produced * FRAME_RECORD_BYTES, caps, maxFrame, cursor, end, produced == 0);
    if (outcome == NO_ROOM) break;
    cursor = frameEnd;
    if (lent == NONE) raise |= complete(ring, length, head, load<u32>(block, Q_STAGE) + STAGE_DESCRIPTORS);
    head += packetDescriptors;
    if (head >= length) head -= length;
    if (outcome == REFUSED && ++refused >= max) break;
    if (outcome == STAGED) {
      produced = emitSegments(block, queue, records, produced, max, cursor, end);
      cursor = segmentsEnd;
      if (load<u32>(block, Q_TSO_TOTAL) != 0) break;
    }
  }
  store<u32>(block, head, Q_HEAD);
  add(stats + (QS_PACKETS << 3), plainFrames);
  add(stats + (QS_BYTES << 3), plainBytes);
  add(stats + (QS_UNICAST << 3), unicast);
  if (lent == NONE) return produced | raise | (missed ? MISS : 0);
  store<u32>(block, head >= lent ? head - lent : head + length - lent, Q_LENT);
  return produced | raise | LENT | (missed ? MISS : 0);
}

/** Some of these frames go to a group. */
function countGroup(stats: u32, record: u32, frames: u32): void {
  for (let n: u32 = 0; n < frames; ++n, record += FRAME_RECORD_BYTES) {
    const cast = castOf(load<u64>(load<u32>(record)) & MAC_MASK);
    if (cast != UNICAST) increment(stats + ((QS_UNICAST + cast) << 3));
  }
}

/** copyFromGuest with a short cut for a buffer in one piece. */
@inline
function fetch(to: u32, iova: u64, bytes: u32): bool {
  const from = translate(iova);
  if (from == 0 || span < bytes) return copyFromGuest(to, iova, bytes);
  copy(to, from, bytes);
  return true;
}

const DROPPED: u32 = 0;
const FRAME: u32 = 1;
const STAGED: u32 = 2;
const NO_ROOM: u32 = 3;
const REFUSED: u32 = 4;
/** What `assemble` did with the packet; NO_ROOM = nothing, it waits for the next burst. */
let outcome: u32 = DROPPED;
let frameEnd: u32 = 0;

/** Makes a frame (returns 1), a staged frame, or an error of the collected packet. */
function assemble(
  device: u32, block: u32, queue: u32, record: u32, caps: u32, maxFrame: u32, cursor: u32, end: u32, isFirst: bool,
): u32 {
  frameEnd = cursor;
  const first = packetFirst;
  const context = packetContext;
  const cmd = cmdOf(first);
  const segmented = (context & CONTEXT_TSO) != 0;
  let bytes = packetBytes;
  // A second tag is not on offer (VLAN_V2 single mode): rather no frame than one on the wrong VLAN. Tunnel fields are not
  // looked at: without ENCAP nobody may ask for them.
  let good = !packetMalformed && (context & CONTEXT_IL2TAG2) == 0;
  if (good && (cmd & CMD_DUMMY) != 0) return 0;
  if (good) {
    good = segmented
      ? tsoFits(device, first, context, cmd, bytes)
      : bytes >= MIN_TX_FRAME_BYTES && bytes <= maxFrame && headersFit(cmd, l2Of(first), l3Of(first), l4Of(first), bytes);
  }
  if (!good) return fail(block);

  const tagged = (cmd & CMD_IL2TAG1) != 0;
  const peerTag = tagged && (caps & FRAME_TX_VLAN) != 0;
  const gap: u32 = tagged && !peerTag ? 4 : 0;
  const room = bytes + gap < PADDED_FRAME_BYTES ? PADDED_FRAME_BYTES : bytes + gap;
  const descriptors = load<u32>(block, Q_STAGE) + STAGE_DESCRIPTORS;
  const headers = l2Of(first) + l3Of(first) + l4Of(first);
  if (segmented) {
    const handOver = (caps & FRAME_TX_TSO) != 0 && (cmd & CMD_L4T) == CMD_L4T_TCP && bytes - headers > mssOf(context) &&
      bytes - l2Of(first) <= TSO_HANDOVER_IP_BYTES && (end - cursor >= room || !isFirst);
    if (!handOver) {
      if (!gather(load<u32>(block, Q_STAGE), descriptors)) return unread(block);
      startSegments(block, first, context, cmd, bytes, peerTag ? TSOF_TAG_PEER : tagged ? TSOF_TAG : 0, tag1Of(first));
      outcome = STAGED;
      return 0;
    }
  }
  if (end - cursor < room) {
    if (isFirst) return fail(block); // not even an empty arena takes it
    outcome = NO_ROOM;
    return 0;
  }
  if (!gather(cursor + gap, descriptors)) return unread(block);

  let flags: u32 = peerTag ? FRAME_TX_VLAN : 0;
  let packets: u32 = 1;
  let wireBytes = room;
  if (segmented) {
    flags |= FRAME_TX_TSO | FRAME_L4_TCP | ((cmd & CMD_IIPT) == CMD_IIPT_IPV6 ? FRAME_IPV6 : 0);
    packets = (bytes - headers + mssOf(context) - 1) / mssOf(context);
    wireBytes = bytes + gap + (packets - 1) * (headers + gap);
  } else {
    flags |= finishChecksums(cursor + gap, cmd, l2Of(first), l3Of(first), bytes, caps, load<u32>(block, Q_STAGE) + STAGE_CRC_TABLE);
  }
  if (gap != 0) insertTag(cursor, tag1Of(first));
  bytes += gap;
  if (bytes < PADDED_FRAME_BYTES) {
    zero(cursor + bytes, PADDED_FRAME_BYTES - bytes);
    bytes = PADDED_FRAME_BYTES;
  }
  const undone = (flags & ~FRAME_TX_VLAN) != 0;
  writeRecord(
    record, cursor, bytes, flags, peerTag ? tag1Of(first) : 0, segmented ? mssOf(context) : 0, undone ? l2Of(first) + gap : 0,
    undone ? l3Of(first) : 0, undone ? l4Of(first) : 0, queue,
  );
  countFrame(block + Q_STATS, load<u64>(cursor), packets, wireBytes);
  frameEnd = min<u32>((cursor + bytes + 63) & ~63, end);
  outcome = FRAME;
  return 1;
}

function fail(block: u32): u32 {
  increment(block + Q_STATS + (QS_ERRORS << 3));
  outcome = REFUSED;
  return 0;
}

/** A buffer could not be read: it is bad, or it has to be brought in, and the packet waits. */
function unread(block: u32): u32 {
  if (!missed) return fail(block);
  outcome = NO_ROOM;
  return 0;
}

/** The buffers of the collected packet, one after the other; false = one is not there for reading. */
function gather(to: u32, descriptors: u32): bool {
  for (let n: u32 = 0; n < packetDescriptors; ++n) {
    const qw1 = load<u64>(descriptors + (n << 4), 8);
    if (dtypeOf(qw1) != DTYPE_DATA) continue;
    if (!copyFromGuest(to, load<u64>(descriptors + (n << 4)), sizeOf(qw1))) return false;
    to += sizeOf(qw1);
  }
  return true;
}

/** Gives the collected packet's RS descriptors back, in ring order; a context descriptor has no RS (its bit 5 means TSYN). */
function complete(ring: u32, length: u32, head: u32, descriptors: u32): u32 {
  let raise: u32 = 0;
  for (let n: u32 = 0; n < packetDescriptors; ++n) {
    const qw1 = load<u64>(descriptors + (n << 4), 8);
    const type = dtypeOf(qw1);
    if ((qw1 & QW1_RS) != 0 && type != DTYPE_CONTEXT && type != DTYPE_DONE) {
      publish(ring + (head << 4) + 8, qw1 | 0xf);
      raise = RAISE;
    }
    if (++head == length) head = 0;
  }
  return raise;
}
