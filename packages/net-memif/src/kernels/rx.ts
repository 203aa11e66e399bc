/**
 * Receive: frames out of the peer's memory into the burst's arena. Whatever the ring holds may change at any time: a descriptor's words are
 * fetched once, checked, and used, and nobody looks at a frame before it has been copied.
 */
import { copy, copyFrame, MIN_COPY_FRAME_BYTES } from '../../../../tools/kernels/src/kernels/copy';
import {
  ARENA_ALIGNMENT, DESCRIPTOR_BYTES, DESCRIPTOR_FLAGS, DESCRIPTOR_LENGTH, DESCRIPTOR_NEXT, DESCRIPTOR_OFFSET, FAULT_INDEX, FRAME_QUEUE, FRAME_RECORD_BYTES,
  MAX_FRAME_BYTES, MIN_FRAME_BYTES, OUTCOME_EMPTY, OUTCOME_FAULT, QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES, QUEUE_BUFFER_STRIDE,
  QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS, QUEUE_FAULT, QUEUE_INDEX, QUEUE_MASK, QUEUE_NEXT, QUEUE_NUMBER, QUEUE_OUTCOME, QUEUE_RING, QUEUE_SERVER,
  QUEUE_STATE, QUEUE_UP, RING_DESCRIPTORS, RING_HEAD, RING_TAIL,
} from './layout';
import { addressOf, lies, locate } from './region';

/** How many descriptors the frame gathered last took. */
let taken: u32 = 0;

/** What `takeSingles` leaves behind: where the next frame goes, and bytes. */
let singlesData: u32 = 0;
let singlesBytes: u32 = 0;

/**
 * The frames from `descriptor` on, at most `count` and none behind the ring's end, as long as each is a good one in one buffer and not tiny:
 * nearly all. Returns their number. Pointers move on before they are used, as in tx.ts.
 */
function takeSingles(cells: u32, descriptor: u32, record: u32, count: u32, number: u64, data: u32, end: u32): u32 {
  const second = i64x2.replace_lane(i64x2.splat(0), 1, number);
  const first = record;
  const last = record + count * FRAME_RECORD_BYTES;
  let bytes: u32 = 0;
  record -= FRAME_RECORD_BYTES;
  descriptor -= DESCRIPTOR_BYTES;
  while (true) {
    record += FRAME_RECORD_BYTES;
    descriptor += DESCRIPTOR_BYTES;
    if (record == last || data > end) break;
    // CLIENT: each once, and once more only if nothing came of it
    const length = load<u32>(descriptor, DESCRIPTOR_LENGTH);
    const word = load<u32>(descriptor, DESCRIPTOR_FLAGS);
    const offset = load<u32>(descriptor, DESCRIPTOR_OFFSET);
    if (length - MIN_COPY_FRAME_BYTES > MAX_FRAME_BYTES - MIN_COPY_FRAME_BYTES || (word & DESCRIPTOR_NEXT) != 0) break;
    if (!lies(cells, word >> 16, offset, length)) break;
    copyFrame(data, addressOf(cells, word >> 16, offset), length);
    v128.store(record, i64x2.replace_lane(i64x2.splat(0), 0, <u64>data | (<u64>length << 32)));
    v128.store(record, second, 16);
    bytes += length;
    data = (data + length + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
  }
  singlesData = data;
  singlesBytes = bytes;
  return (record - first) / FRAME_RECORD_BYTES;
}

/** At most `max` frames; QUEUE_OUTCOME, QUEUE_BURST_BYTES and QUEUE_BURST_ERRORS say the rest. */
export function rxBurst(cells: u32, queue: u32, records: u32, max: u32, arena: u32, arenaBytes: u32): u32 {
  store<u32>(queue, 0, QUEUE_OUTCOME);
  store<u32>(queue, 0, QUEUE_BURST_BYTES);
  store<u32>(queue, 0, QUEUE_BURST_ERRORS);
  if (atomic.load<u32>(queue + QUEUE_STATE) != QUEUE_UP) return 0;
  const ring = load<u32>(queue, QUEUE_RING);
  const mask = load<u32>(queue, QUEUE_MASK);
  const server = load<u32>(queue, QUEUE_SERVER) != 0;
  const index = load<u32>(queue, QUEUE_INDEX);
  let next = server ? index : load<u32>(queue, QUEUE_NEXT);
  // CLIENT: how far the peer has come; no farther than a client has supplied buffers, or a ring is long.
  const theirs: u32 = atomic.load<u16>(ring + (server ? RING_HEAD : RING_TAIL));
  let available = (theirs - next) & 0xffff;
  if (available > (server ? mask + 1 : (index - next) & 0xffff)) {
    store<u32>(queue, FAULT_INDEX, QUEUE_FAULT);
    store<u32>(queue, OUTCOME_FAULT, QUEUE_OUTCOME);
    return 0;
  }
  if (available == 0) {
    store<u32>(queue, OUTCOME_EMPTY, QUEUE_OUTCOME);
    if (!server) supply(queue, ring, mask, index, next);
    return 0;
  }

  const number = <u64>load<u32>(queue, QUEUE_NUMBER) << 32;
  let record = records;
  const lastRecord = arenaBytes < MAX_FRAME_BYTES ? records : records + max * FRAME_RECORD_BYTES;
  const end = arena + arenaBytes - MAX_FRAME_BYTES;
  let data = arena;
  let bytes: u32 = 0;
  let errors: u32 = 0;
  while (available != 0 && record != lastRecord && data <= end) {
    const slot = next & mask;
    const most = min<u32>(min<u32>(available, (lastRecord - record) / FRAME_RECORD_BYTES), mask + 1 - slot);
    const count = takeSingles(cells, ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES, record, most, number, data, end);
    next = (next + count) & 0xffff;
    data = singlesData;
    bytes += singlesBytes;
    available -= count;
    record += count * FRAME_RECORD_BYTES;
    if (available == 0 || record == lastRecord || data > end) break;
    // One frame that is something else
    const descriptor = ring + RING_DESCRIPTORS + (next & mask) * DESCRIPTOR_BYTES;
    const word = load<u64>(descriptor); // CLIENT: flags, region and length, once
    const offset = load<u32>(descriptor, DESCRIPTOR_OFFSET); // CLIENT: once
    let length = <u32>(word >> 32);
    if ((<u32>word & DESCRIPTOR_NEXT) == 0) {
      // Tiny, or wrong
      const from = length > MAX_FRAME_BYTES ? 0 : locate(cells, <u32>word >> 16, offset, length);
      next = (next + 1) & 0xffff;
      --available;
      if (from == 0 || length < MIN_FRAME_BYTES) {
        ++errors;
        continue;
      }
      copy(data, from, length);
    } else {
      length = gather(cells, ring, mask, next, available, data, word, offset);
      next = (next + taken) & 0xffff;
      available -= taken;
      if (length < MIN_FRAME_BYTES) {
        ++errors;
        continue;
      }
    }
    store<u64>(record, <u64>data | (<u64>length << 32));
    store<u64>(record, 0, 8);
    store<u64>(record, 0, 16);
    store<u64>(record, number, FRAME_QUEUE - 4);
    record += FRAME_RECORD_BYTES;
    bytes += length;
    data = (data + length + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
  }
  if (server) {
    store<u32>(queue, next, QUEUE_INDEX);
    atomic.store<u16>(ring + RING_TAIL, <u16>next);
  } else {
    store<u32>(queue, next, QUEUE_NEXT);
    supply(queue, ring, mask, index, next);
  }
  store<u32>(queue, bytes, QUEUE_BURST_BYTES);
  store<u32>(queue, errors, QUEUE_BURST_ERRORS);
  return (record - records) / FRAME_RECORD_BYTES;
}

/**
 * Copies the frame that begins at descriptor `next`, whose words have been fetched, to `data`; its length, 0 if it is none. Takes at most
 * `available` descriptors, at least one.
 */
function gather(cells: u32, ring: u32, mask: u32, next: u32, available: u32, data: u32, word: u64, offset: u32): u32 {
  let descriptor = ring + RING_DESCRIPTORS + (next & mask) * DESCRIPTOR_BYTES;
  let length: u32 = 0;
  let whole = true;
  let more = true;
  taken = 0;
  for (;;) {
    const region = <u32>word >> 16;
    const bytes = <u32>(word >> 32);
    more = (<u32>word & DESCRIPTOR_NEXT) != 0;
    ++taken;
    // DPDK before 26.03 sets this flag and never clears it: on its next way round the ring a short frame would seem to go on.
    if (more) store<u32>(descriptor, region << 16);
    if (whole) {
      const from = bytes > MAX_FRAME_BYTES - length ? 0 : locate(cells, region, offset, bytes);
      if (from == 0) {
        whole = false;
      } else {
        copy(data + length, from, bytes);
        length += bytes;
      }
    }
    if (!more || taken == available) break;
    descriptor = ring + RING_DESCRIPTORS + ((next + taken) & mask) * DESCRIPTOR_BYTES;
    word = load<u64>(descriptor); // CLIENT: flags, region and length, once
    offset = load<u32>(descriptor, DESCRIPTOR_OFFSET); // CLIENT: once
  }
  // A frame that goes on behind what the peer has published is none.
  return whole && !more ? length : 0;
}

/** Client: every buffer that has been emptied goes back to the server, whatever the server has made of its descriptor. */
@inline
function supply(queue: u32, ring: u32, mask: u32, index: u32, next: u32): void {
  let free = (mask + 1 - (index - next)) & 0xffff;
  if (free == 0) return;
  const stride = load<u32>(queue, QUEUE_BUFFER_STRIDE);
  const bytes = <u64>load<u32>(queue, QUEUE_BUFFER_BYTES) << (8 * DESCRIPTOR_LENGTH);
  const offset = load<u32>(queue, QUEUE_BUFFERS_OFFSET);
  for (; free != 0; --free) {
    const slot = index & mask;
    const descriptor = ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES;
    store<u64>(descriptor, bytes);
    store<u32>(descriptor, offset + slot * stride, DESCRIPTOR_OFFSET);
    index = (index + 1) & 0xffff;
  }
  store<u32>(queue, index, QUEUE_INDEX);
  atomic.store<u16>(ring + RING_HEAD, <u16>index);
}
