/** Runs of frames for several buffers, each in one piece of memory, that need nothing done: nearly all that are longer than a buffer. */
import {
  CHUNK_BYTES, FRAME_LENGTH, FRAME_RECORD_BYTES, MAX_RX_BUFFERS, Q_RX_ADDRESSES, SCRATCH_ENTRY_BYTES, SCRATCH_QW0, SCRATCH_STATUS, SCRATCH_SUM_FROM,
} from './layout';
import { copyFrame, copyPart, MIN_COPY_FRAME_BYTES, MIN_COPY_INLINE_BYTES } from '../../../../tools/kernels/src/kernels/copy';
import { isWholeChunk, span, translate } from './iotlb';
import { makeEntryWhole } from './lent';
import { DD, L2TAG1P, PTYPE_SHIFT, UMBCAST_MASK } from './rx-describe';
import { LENGTH_SHIFT, LONG_SHIFT, SHORT_SHIFT, writeBack } from './rx-write-back';
import { lateVerdict } from './verify';

/** What `placePieces` leaves behind. */
export let piecesHead: u32 = 0;
export let piecesBytes: u32 = 0;

/**
 * The first frames of a run as long as they are unicast, longer than a buffer and no longer than `limit`, with nothing to strip; as far as the
 * end of the ring: the frame that goes on behind it goes the way of any frame.
 */
export function placePieces(
  block: u32, entry: u32, record: u32, count: u32, ring: u32, ringLength: u32, head: u32, available: u32, buffer: u32, limit: u32, shift: u32,
): u32 {
  const descriptor = ring + (head << shift);
  const last = descriptor + (min<u32>(available, ringLength - head) << shift);
  const frames = buffer < MIN_COPY_FRAME_BYTES
    ? 0
    : shift == LONG_SHIFT
      ? placeLong(block, entry, record, count, descriptor, last, buffer, limit)
      : placeShort(block, entry, record, count, descriptor, last, buffer, limit);
  if (frames != 0) {
    head = (endDescriptor - ring) >> shift;
    piecesHead = head == ringLength ? 0 : head;
  }
  return frames;
}

/** Of the last frame of a run. */
let endDescriptor: u32 = 0;

function placeLong(block: u32, entry: u32, record: u32, count: u32, descriptor: u32, last: u32, buffer: u32, limit: u32): u32 {
  return placeRun(LONG_SHIFT, block, entry, record, count, descriptor, last, buffer, limit);
}

function placeShort(block: u32, entry: u32, record: u32, count: u32, descriptor: u32, last: u32, buffer: u32, limit: u32): u32 {
  return placeRun(SHORT_SHIFT, block, entry, record, count, descriptor, last, buffer, limit);
}

@inline
function placeRun(shift: u32, block: u32, entry: u32, record: u32, count: u32, descriptor: u32, last: u32, buffer: u32, limit: u32): u32 {
  /** Where in the window the buffers of the frame in hand are. */
  const places = block + Q_RX_ADDRESSES;
  const first = record;
  const lastRecord = record + count * FRAME_RECORD_BYTES;
  let total: u32 = 0;
  /** Descriptor and place of the next buffer for the frame in hand, and how much of it has none yet: 0 = there is no frame in hand. */
  let at = descriptor;
  let place = places;
  let left: u32 = 0;
  // The chunk of the buffer translated last, as in tx-run.ts
  let start: u64 = 0;
  let base: u32 = 0;
  let size: u32 = 0;
  let outside: u32 = 0;
  while (true) {
    let iova: u64 = 0;
    let part: u32 = 0;
    let verify = false;
    while (true) {
      if (left == 0) {
        part = 0;
        if (record == lastRecord) break;
        const bytes = load<u32>(record, FRAME_LENGTH);
        if (bytes <= buffer || bytes > limit || (load<u64>(entry, SCRATCH_STATUS) & (UMBCAST_MASK | L2TAG1P)) != 0) break;
        if (bytes > min<u32>((last - descriptor) >> shift, MAX_RX_BUFFERS) * buffer) break;
        verify = load<u32>(entry, SCRATCH_SUM_FROM) != 0;
        if (verify) break;
        left = bytes;
        at = descriptor;
        place = places;
      }
      // All buffers must be good before the first byte is written: a frame is delivered whole or not at all
      part = min<u32>(left, buffer);
      if (part < MIN_COPY_INLINE_BYTES) {
        part = 0;
        break;
      }
      iova = load<u64>(at); // GUEST: fetched once, and again only if nothing came of it
      const within = iova - start;
      if (within > <u64>size || <u32>within + part > size) break;
      store<u32>(place, base + <u32>within);
      at += 1 << shift;
      place += 4;
      left -= part;
      if (left != 0) continue;

      const bytes = load<u32>(record, FRAME_LENGTH);
      let data = load<u32>(record);
      const lastPlace = place - 4;
      for (place = places; place != lastPlace; place += 4, data += buffer) copyFrame(load<u32>(place), data, buffer);
      copyPart(load<u32>(place), data, part);
      // In ring order, as hardware does: drivers that look at several descriptors at once count on it
      const status = load<u64>(entry, SCRATCH_STATUS);
      const qw1 = DD | (status & ((<u64>0xff) << PTYPE_SHIFT)) | (<u64>buffer << LENGTH_SHIFT);
      for (; descriptor + (1 << shift) != at; descriptor += 1 << shift) writeBack(descriptor, shift, 0, qw1);
      writeBack(descriptor, shift, load<u64>(entry, SCRATCH_QW0), status | (<u64>part << LENGTH_SHIFT));
      descriptor = at;
      total += bytes;
      record += FRAME_RECORD_BYTES;
      entry += SCRATCH_ENTRY_BYTES;
    }
    if (verify) {
      makeEntryWhole(entry, record);
      store<u64>(entry, load<u64>(entry, SCRATCH_STATUS) | lateVerdict(entry, load<u32>(record), load<u32>(record, FRAME_LENGTH)), SCRATCH_STATUS);
      store<u32>(entry, 0, SCRATCH_SUM_FROM);
      continue;
    }
    // GUEST: the address of one that has been looked up may be another by now
    if (part == 0 || at == outside) break;
    base = translate(iova);
    if (base == 0 || span < part) break;
    const whole = isWholeChunk(iova);
    const within = whole ? <u32>iova & (CHUNK_BYTES - 1) : 0;
    start = iova - within;
    base -= within;
    size = whole ? CHUNK_BYTES : part;
    outside = at;
  }
  endDescriptor = descriptor;
  piecesBytes = total;
  return (record - first) / FRAME_RECORD_BYTES;
}
