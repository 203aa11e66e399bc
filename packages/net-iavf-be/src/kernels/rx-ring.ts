/**
 * The guest's Rx ring: frames of a burst to guest buffers. Like a NIC it takes every frame: what the guest does not want is
 * filtered, what it has no room for is discarded and counted. Write-back is the legacy format, of 32 bytes (RXDID 1, or nothing said)
 * or its first 16 (RXDID 0).
 *
 * Two passes over each chunk of the burst: `describe` looks at the frames only, this file at the rings only. So a run of frames
 * for one queue keeps the ring's state in locals, and the descriptors' cache lines, which the guest's processor has written last,
 * are brought in all at once instead of one after the other.
 */
import {
  DEV_IOTLB, DEV_PAUSED, DEV_RX_BLOCKS, DEV_RX_KICK, DEV_SCRATCH, DEV_STATS, DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, FRAME_LENGTH, FRAME_RECORD_BYTES,
  IOTLB_WRITE, MAX_RX_BUFFERS, PADDED_FRAME_BYTES, Q_BAD_BUFFERS, Q_BUFFER, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH,
  Q_MAX_PACKET, Q_RING, Q_RX_ADDRESSES, Q_STATS, QFAULT_BUFFER, QFAULT_TAIL, QS_DISCARDS, QS_ERRORS,
  RX_BAD_BUFFER_LIMIT, SCRATCH_AHEAD, SCRATCH_DISCARD, SCRATCH_ENTRIES, SCRATCH_ENTRY_BYTES, SCRATCH_QUEUE, SCRATCH_QW0, SCRATCH_STATUS, SCRATCH_SUM_FROM,
} from './layout';
import { copyFrame } from '../../../../tools/kernels/src/kernels/copy';
import { takeLines } from '../../../../tools/kernels/src/kernels/lines';
import { UNICAST } from './filter';
import { copyToGuest, forgetMiss, isMapped, lookAhead, missed, span, translate, useIotlb, zeroGuest } from './iotlb';
import { makeEntryWhole } from './lent';
import { publish } from './publish';
import { DD, describe, EOP, L2TAG1P, PTYPE_SHIFT, UMBCAST_MASK, UMBCAST_SHIFT } from './rx-describe';
import { piecesBytes, piecesHead, placePieces } from './rx-pieces';
import { clearRest, LENGTH_SHIFT, LONG_SHIFT, shiftOf, SHORT_SHIFT, writeBack } from './rx-write-back';
import { add, countCast, increment } from './statistics';
import { copyVerified, lateVerdict } from './verify';

const FCS_BYTES: u32 = 4;
/** Bits of qw1. */
const RXE: u64 = 1 << 19;

/** Of the result: the burst ended early. */
const MISS: u32 = 1 << 17;

/**
 * Takes all `count` frames (0 while paused), or with MISS those before the first one whose buffer has to be brought in. DEV_RX_KICK
 * tells which queues got a write-back.
 */
export function txBurst(device: u32, records: u32, count: u32): u32 {
  let kick: u32 = 0;
  if (atomic.load<u32>(device + DEV_PAUSED) != 0) count = 0;
  useIotlb(load<u32>(device, DEV_IOTLB), IOTLB_WRITE);
  let done: u32 = 0;
  while (done < count && !missed) {
    const chunk = min<u32>(count - done, SCRATCH_ENTRIES);
    const first = records + done * FRAME_RECORD_BYTES;
    describe(device, first, chunk);
    let at: u32 = 0;
    while (at < chunk && !missed) {
      const queue = load<u32>(device + DEV_SCRATCH + at * SCRATCH_ENTRY_BYTES, SCRATCH_QUEUE);
      if (queue >= SCRATCH_DISCARD) {
        discard(device, queue - SCRATCH_DISCARD);
        ++at;
        continue;
      }
      if (deliver(device, queue, first, at, chunk)) kick |= <u32>1 << queue;
      at = runEnd;
    }
    done += at;
  }
  store<u32>(device, kick, DEV_RX_KICK);
  return missed ? done | MISS : done;
}

@inline
function discard(device: u32, counter: u32): void {
  increment(device + DEV_STATS + (counter << 3));
}

/** Where the run that `deliver` was given has ended: the first frame it has not dealt with. */
let runEnd: u32 = 0;

/** Frames [at, end) of the chunk as far as they are for this queue; true = descriptors were written back. */
function deliver(device: u32, queue: u32, records: u32, at: u32, end: u32): bool {
  let entry = device + DEV_SCRATCH + at * SCRATCH_ENTRY_BYTES;
  {
    let last = at + 1;
    for (let next = entry + SCRATCH_ENTRY_BYTES; last < end && load<u32>(next, SCRATCH_QUEUE) == queue; next += SCRATCH_ENTRY_BYTES) ++last;
    end = last;
  }
  runEnd = end;
  const block = load<u32>(device, DEV_RX_BLOCKS) + queue * Q_BYTES;
  const ring = load<u32>(block, Q_RING);
  if (load<u32>(block, Q_ENABLED) == 0 || load<u32>(block, Q_FAULT) != 0 || ring == 0) {
    add(device + DEV_STATS + (DEVS_RX_NO_QUEUE << 3), end - at);
    return false;
  }
  const ringLength = load<u32>(block, Q_LENGTH);
  const maxPacket = load<u32>(block, Q_MAX_PACKET);
  const buffer = load<u32>(block, Q_BUFFER);
  const shift = shiftOf(block);
  const tail = atomic.load<u32>(load<u32>(block, Q_DOORBELL)); // GUEST: any value
  let head = load<u32>(block, Q_HEAD);
  let available = tail >= head ? tail - head : tail + ringLength - head;
  if (tail < ringLength && available != 0) {
    const count = min<u32>(end - at, available);
    // GUEST: posted descriptors are ours; who changes one nonetheless may find it as it was
    takeLines(ring, ringLength, head, count, shift);
    lookAhead(device + SCRATCH_AHEAD, ring, ringLength, head, count, shift);
  }

  const limit = min<u32>(buffer, maxPacket - FCS_BYTES);
  let written = false;
  while (at < end) {
    let fetched: u32 = 0;
    if (tail < ringLength && maxPacket > FCS_BYTES) {
      const left = end - at;
      const record = records + at * FRAME_RECORD_BYTES;
      const isLarge = <u32>(load<u64>(record) >> 32) > buffer;
      const packets = isLarge
        ? placePieces(block, entry, record, left, ring, ringLength, head, available, buffer, maxPacket - FCS_BYTES, shift)
        : placePlain(entry, record, min<u32>(left, available), ring, ringLength, head, limit, shift);
      if (packets != 0) {
        written = true;
        const next = isLarge ? piecesHead : plainHead;
        available -= next >= head ? next - head : next + ringLength - head;
        head = next;
        store<u32>(block, head, Q_HEAD);
        store<u32>(block, 0, Q_BAD_BUFFERS);
        countCast(block + Q_STATS, UNICAST, packets, isLarge ? piecesBytes : plainBytes);
        entry += packets * SCRATCH_ENTRY_BYTES;
        at += packets;
        if (at == end) break;
      }
      if (!isLarge && plainFetched) {
        store<u64>(block, plainAddress, Q_RX_ADDRESSES);
        fetched = 1;
      }
    }
    // One frame that is not plain
    makeEntryWhole(entry, records + at * FRAME_RECORD_BYTES);
    const word = load<u64>(records + at * FRAME_RECORD_BYTES);
    const length = <u32>(word >> 32);
    if (length + FCS_BYTES > maxPacket) {
      discard(device, DEVS_RX_OVERSIZE);
    } else if (tail >= ringLength) {
      // The rest of the run finds the queue faulted
      store<u32>(block, QFAULT_TAIL, Q_FAULT);
      increment(block + Q_STATS + (QS_DISCARDS << 3));
      add(device + DEV_STATS + (DEVS_RX_NO_QUEUE << 3), end - at - 1);
      return false;
    } else {
      const data = <u32>word;
      const qw0 = load<u64>(entry, SCRATCH_QW0);
      const status = load<u64>(entry, SCRATCH_STATUS) | lateVerdict(entry, data, length);
      if (place(block, ring, ringLength, head, available, shift, data, length, qw0, status, fetched)) written = true;
      const now = load<u32>(block, Q_HEAD);
      available -= now >= head ? now - head : now + ringLength - head;
      head = now;
      if (missed) {
        runEnd = at;
        return written;
      }
      if (load<u32>(block, Q_FAULT) != 0) {
        add(device + DEV_STATS + (DEVS_RX_NO_QUEUE << 3), end - at - 1);
        return written;
      }
    }
    entry += SCRATCH_ENTRY_BYTES;
    ++at;
  }
  return written;
}

/** What `placePlain` leaves behind. */
let plainHead: u32 = 0;
let plainBytes: u32 = 0;
/** The frame it stopped at has no buffer in one piece, which begins at `plainAddress`. */
let plainFetched: bool = false;
let plainAddress: u64 = 0;

/** The first frames of a run as long as they are plain: unicast, at least 60 bytes, nothing to strip, one buffer in one piece. */
function placePlain(entry: u32, record: u32, count: u32, ring: u32, ringLength: u32, head: u32, limit: u32, shift: u32): u32 {
  // As far as the end of the ring: the frame behind it goes the way of any frame
  count = min<u32>(count, ringLength - head);
  const descriptor = ring + (head << shift);
  const frames = shift == LONG_SHIFT ? placeLong(entry, record, count, descriptor, limit) : placeShort(entry, record, count, descriptor, limit);
  head += frames;
  plainHead = head == ringLength ? 0 : head;
  return frames;
}

function placeLong(entry: u32, record: u32, count: u32, descriptor: u32, limit: u32): u32 {
  return placeRun(LONG_SHIFT, entry, record, count, descriptor, limit);
}

function placeShort(entry: u32, record: u32, count: u32, descriptor: u32, limit: u32): u32 {
  return placeRun(SHORT_SHIFT, entry, record, count, descriptor, limit);
}

@inline
function placeRun(shift: u32, entry: u32, record: u32, count: u32, descriptor: u32, limit: u32): u32 {
  plainFetched = false;
  let bytesTotal: u32 = 0;
  const first = record;
  const last = record + count * FRAME_RECORD_BYTES;
  // Pointers move on before they are used, as in takeRun
  record -= FRAME_RECORD_BYTES;
  entry -= SCRATCH_ENTRY_BYTES;
  descriptor -= 1 << shift;
  while (true) {
    record += FRAME_RECORD_BYTES;
    if (record == last) break;
    entry += SCRATCH_ENTRY_BYTES;
    descriptor += 1 << shift;
    const bytes = load<u32>(record, FRAME_LENGTH);
    let status = load<u64>(entry, SCRATCH_STATUS);
    if (bytes < PADDED_FRAME_BYTES || bytes > limit || (status & (UMBCAST_MASK | L2TAG1P)) != 0) break;
    const iova = load<u64>(descriptor); // GUEST: fetched once
    const to = translate(iova);
    if (to == 0 || span < bytes) {
      plainFetched = true;
      plainAddress = iova;
      break;
    }
    const sumFrom = load<u32>(entry, SCRATCH_SUM_FROM);
    if (sumFrom == 0) copyFrame(to, load<u32>(record), bytes);
    else status |= copyVerified(entry, to, record, bytes, sumFrom);
    clearRest(descriptor, shift);
    store<u64>(descriptor, load<u64>(entry, SCRATCH_QW0));
    publish(descriptor + 8, status | (<u64>bytes << LENGTH_SHIFT));
    bytesTotal += bytes;
  }
  plainBytes = bytesTotal;
  return (record - first) / FRAME_RECORD_BYTES;
}

/**
 * Any frame into any number of buffers, crossing any borders; true = descriptors were written back. `fetched`: addresses that are in
 * Q_RX_ADDRESSES already.
 */
function place(
  block: u32, ring: u32, ringLength: u32, head: u32, available: u32, shift: u32, data: u32, length: u32, qw0: u64, status: u64, fetched: u32,
): bool {
  // Memory may be brought in at any time: what was missed before counts only if it still is
  forgetMiss();
  const strip = (status & L2TAG1P) != 0;
  const content = strip ? length - 4 : length;
  const bytes = content < PADDED_FRAME_BYTES ? PADDED_FRAME_BYTES : content;
  const buffer = load<u32>(block, Q_BUFFER);
  const addresses = block + Q_RX_ADDRESSES;
  let needed: u32 = 0;
  for (let room: u32 = 0; room < bytes && needed <= MAX_RX_BUFFERS; room += buffer) ++needed;
  if (needed > MAX_RX_BUFFERS || needed > available) {
    increment(block + Q_STATS + (QS_DISCARDS << 3));
    return false;
  }
  // All buffers must be good before the first byte is written: a frame is delivered whole or not at all
  let left = bytes;
  for (let n: u32 = 0; n < needed; ++n) {
    if (n >= fetched) store<u64>(addresses + (n << 3), load<u64>(ring + (wrap(head + n, ringLength) << shift))); // GUEST: fetched once
    const part = min<u32>(left, buffer);
    if (!isMapped(load<u64>(addresses + (n << 3)), part)) {
      if (missed) return false;
      refuse(block, ring, ringLength, head, shift, n + 1);
      return true;
    }
    left -= part;
  }
  let at: u32 = 0;
  for (let n: u32 = 0; n < needed; ++n) {
    const part = min<u32>(bytes - at, buffer);
    // What has been written so far, the guest does not look at: the descriptors are still ours.
    if (!fill(load<u64>(addresses + (n << 3)), data, at, part, content, strip)) return false;
    at += part;
  }
  // In ring order, as hardware does: drivers that look at several descriptors at once count on it
  for (let n: u32 = 0; n < needed; ++n) {
    const descriptor = ring + (wrap(head + n, ringLength) << shift);
    if (n + 1 == needed) writeBack(descriptor, shift, qw0, status | (<u64>(bytes - n * buffer) << LENGTH_SHIFT));
    else writeBack(descriptor, shift, 0, DD | (status & ((<u64>0xff) << PTYPE_SHIFT)) | (<u64>buffer << LENGTH_SHIFT));
  }
  store<u32>(block, wrap(head + needed, ringLength), Q_HEAD);
  store<u32>(block, 0, Q_BAD_BUFFERS);
  countCast(block + Q_STATS, <u32>(status >> UMBCAST_SHIFT) & 3, 1, length);
  return true;
}

@inline
function wrap(index: u32, length: u32): u32 {
  return index >= length ? index - length : index;
}

/** Bytes [at, at + bytes) of what the guest gets: the frame, without its tag when stripped, zeroes behind `content`. */
function fill(iova: u64, data: u32, at: u32, bytes: u32, content: u32, strip: bool): bool {
  if (strip && at < 12) {
    const part = min<u32>(12 - at, bytes);
    if (!copyToGuest(iova, data + at, part)) return false;
    iova += part;
    at += part;
    bytes -= part;
  }
  if (at < content) {
    const part = min<u32>(content - at, bytes);
    if (!copyToGuest(iova, data + at + (strip ? 4 : 0), part)) return false;
    iova += part;
    bytes -= part;
  }
  return zeroGuest(iova, bytes);
}

/**
 * A buffer that is not mapped for writing: its descriptor, and those before it that the frame would have used, go back as frames
 * with a receive error, which every driver drops. A guest that goes on like that loses the queue.
 */
function refuse(block: u32, ring: u32, ringLength: u32, head: u32, shift: u32, count: u32): void {
  increment(block + Q_STATS + (QS_DISCARDS << 3));
  increment(block + Q_STATS + (QS_ERRORS << 3));
  for (let n: u32 = 0; n < count; ++n) {
    writeBack(ring + (wrap(head + n, ringLength) << shift), shift, 0, DD | EOP | RXE | (<u64>PADDED_FRAME_BYTES << LENGTH_SHIFT));
  }
  store<u32>(block, wrap(head + count, ringLength), Q_HEAD);
  const bad = load<u32>(block, Q_BAD_BUFFERS) + 1;
  store<u32>(block, bad, Q_BAD_BUFFERS);
  if (bad >= RX_BAD_BUFFER_LIMIT) store<u32>(block, QFAULT_BUFFER, Q_FAULT);
}
