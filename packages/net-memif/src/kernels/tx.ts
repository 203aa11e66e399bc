/** Transmit: frames of a burst into buffers of the shared memory, those of a server being named by its peer. */
import { copy, copyFrame, MIN_COPY_FRAME_BYTES } from '../../../../tools/kernels/src/kernels/copy';
import {
  DESCRIPTOR_BYTES, DESCRIPTOR_FLAGS, DESCRIPTOR_LENGTH, DESCRIPTOR_NEXT, DESCRIPTOR_OFFSET, DESCRIPTOR_REGION, FAULT_BUFFER, FAULT_INDEX, FRAME_DATA,
  FRAME_LENGTH, FRAME_RECORD_BYTES, MAX_FRAME_BYTES, OUTCOME_FAULT, OUTCOME_SIGNAL, QUEUE_BUFFERS, QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES,
  QUEUE_BUFFER_STRIDE, QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS, QUEUE_FAULT, QUEUE_INDEX, QUEUE_MASK, QUEUE_OUTCOME, QUEUE_RING, QUEUE_SERVER,
  QUEUE_STATE, QUEUE_UP, RING_DESCRIPTORS, RING_FLAGS, RING_HEAD, RING_MASK_INTERRUPT, RING_TAIL,
} from './layout';
import { addressOf, lies, locate } from './region';

/** Of `scatter`: the buffers do not suffice, or one cannot be. A frame takes fewer descriptors than that. */
const NO_ROOM: u32 = 0;
const BAD_BUFFER: u32 = 0xffffffff;

/** Bytes of what `sendSingles` has sent. */
let singlesBytes: u32 = 0;

/**
 * Server: copies the frames of these records as long as each is a good one, not tiny, and fits the client's next buffer: nearly all. Their
 * number. The descriptors are those from `descriptor` on, as many as there are records. Both pointers move on before they are used: the
 * result of an addition is an address as it is, what a loop carries along has to be extended first, and takes a second register.
 */
function sendSingles(cells: u32, descriptor: u32, record: u32, count: u32): u32 {
  const first = record;
  const last = record + count * FRAME_RECORD_BYTES;
  let bytes: u32 = 0;
  record -= FRAME_RECORD_BYTES;
  descriptor -= DESCRIPTOR_BYTES;
  while (true) {
    record += FRAME_RECORD_BYTES;
    descriptor += DESCRIPTOR_BYTES;
    if (record == last) break;
    const length = load<u32>(record, FRAME_LENGTH);
    if (length - MIN_COPY_FRAME_BYTES > MAX_FRAME_BYTES - MIN_COPY_FRAME_BYTES) break;
    // CLIENT: each once, and once more only if nothing came of it
    const region = <u32>load<u16>(descriptor, DESCRIPTOR_REGION);
    const room = load<u32>(descriptor, DESCRIPTOR_LENGTH);
    const offset = load<u32>(descriptor, DESCRIPTOR_OFFSET);
    if (room < length || !lies(cells, region, offset, room)) break;
    copyFrame(addressOf(cells, region, offset), load<u32>(record, FRAME_DATA), length);
    store<u16>(descriptor, 0, DESCRIPTOR_FLAGS);
    store<u32>(descriptor, length, DESCRIPTOR_LENGTH);
    bytes += length;
  }
  singlesBytes = bytes;
  return (record - first) / FRAME_RECORD_BYTES;
}

/** How many frames were taken, those that cannot be sent included; QUEUE_OUTCOME, QUEUE_BURST_BYTES and QUEUE_BURST_ERRORS say the rest. */
export function txBurst(cells: u32, queue: u32, records: u32, count: u32): u32 {
  store<u32>(queue, 0, QUEUE_OUTCOME);
  store<u32>(queue, 0, QUEUE_BURST_BYTES);
  store<u32>(queue, 0, QUEUE_BURST_ERRORS);
  if (atomic.load<u32>(queue + QUEUE_STATE) != QUEUE_UP) return 0;
  const ring = load<u32>(queue, QUEUE_RING);
  const mask = load<u32>(queue, QUEUE_MASK);
  const server = load<u32>(queue, QUEUE_SERVER) != 0;
  let index = load<u32>(queue, QUEUE_INDEX);
  // CLIENT: how many buffers the client has supplied, or how many frames the server has not taken yet.
  const theirs: u32 = atomic.load<u16>(ring + (server ? RING_HEAD : RING_TAIL));
  const distance = (server ? theirs - index : index - theirs) & 0xffff;
  if (distance > mask + 1) {
    store<u32>(queue, FAULT_INDEX, QUEUE_FAULT);
    store<u32>(queue, OUTCOME_FAULT, QUEUE_OUTCOME);
    return 0;
  }
  let free = server ? distance : mask + 1 - distance;
  let outcome: u32 = 0;
  let sent: u32 = 0;
  let bytes: u32 = 0;
  let errors: u32 = 0;
  for (; sent < count; ++sent) {
    if (server) {
      // As far as the end of the ring: the frame there goes the other way.
      const slot = index & mask;
      const most = min<u32>(min<u32>(count - sent, free), mask + 1 - slot);
      const singles = sendSingles(cells, ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES, records + sent * FRAME_RECORD_BYTES, most);
      index = (index + singles) & 0xffff;
      free -= singles;
      bytes += singlesBytes;
      sent += singles;
      if (sent == count) break;
    }
    const record = records + sent * FRAME_RECORD_BYTES;
    const length = load<u32>(record, FRAME_LENGTH);
    if (length == 0 || length > MAX_FRAME_BYTES) {
      ++errors;
      continue;
    }
    const data = load<u32>(record, FRAME_DATA);
    const descriptors = server ? scatterToPeer(cells, ring, mask, index, free, data, length) : scatterToOwn(queue, ring, mask, index, free, data, length);
    if (descriptors == NO_ROOM) {
      if (free != mask + 1) break;
      // It would not fit into an empty ring either: waiting is of no use.
      ++errors;
      continue;
    }
    if (descriptors == BAD_BUFFER) {
      store<u32>(queue, FAULT_BUFFER, QUEUE_FAULT);
      outcome = OUTCOME_FAULT;
      break;
    }
    index = (index + descriptors) & 0xffff;
    free -= descriptors;
    bytes += length;
  }
  if (bytes != 0) {
    store<u32>(queue, index, QUEUE_INDEX);
    atomic.store<u16>(ring + (server ? RING_TAIL : RING_HEAD), <u16>index);
    // CLIENT: behind the store, so that one of the two sides sees what the other did last.
    if ((<u32>atomic.load<u16>(ring + RING_FLAGS) & RING_MASK_INTERRUPT) == 0) outcome |= OUTCOME_SIGNAL;
  }
  store<u32>(queue, outcome, QUEUE_OUTCOME);
  store<u32>(queue, bytes, QUEUE_BURST_BYTES);
  store<u32>(queue, errors, QUEUE_BURST_ERRORS);
  return sent;
}

/** Server: copies a frame into buffers that the client has supplied from descriptor `index` on; how many it took, or why it did not. */
@inline
function scatterToPeer(cells: u32, ring: u32, mask: u32, index: u32, free: u32, data: u32, length: u32): u32 {
  let taken: u32 = 0;
  do {
    if (taken == free) return NO_ROOM;
    const descriptor = ring + RING_DESCRIPTORS + ((index + taken) & mask) * DESCRIPTOR_BYTES;
    const word = load<u64>(descriptor); // CLIENT: flags, region and length, once
    const region = <u32>word >> 16;
    const room = <u32>(word >> 32);
    const to = locate(cells, region, load<u32>(descriptor, DESCRIPTOR_OFFSET), room); // CLIENT: once
    if (to == 0 || room == 0) return BAD_BUFFER;
    const bytes = min<u32>(length, room);
    copy(to, data, bytes);
    data += bytes;
    length -= bytes;
    // If the chain turns out too long, its descriptors still say how large their buffers are: all but the last are full.
    store<u16>(descriptor, length == 0 ? 0 : DESCRIPTOR_NEXT, DESCRIPTOR_FLAGS);
    store<u32>(descriptor, bytes, DESCRIPTOR_LENGTH);
    ++taken;
  } while (length != 0);
  return taken;
}

/** Client: the same into its own buffers; what the server has made of their descriptors does not matter. */
@inline
function scatterToOwn(queue: u32, ring: u32, mask: u32, index: u32, free: u32, data: u32, length: u32): u32 {
  const stride = load<u32>(queue, QUEUE_BUFFER_STRIDE);
  const room = load<u32>(queue, QUEUE_BUFFER_BYTES);
  const buffers = load<u32>(queue, QUEUE_BUFFERS);
  const offset = load<u32>(queue, QUEUE_BUFFERS_OFFSET);
  if (length > free * room) return NO_ROOM; // at most 2^14 buffers of less than 2^16 bytes
  let taken: u32 = 0;
  do {
    const slot = (index + taken) & mask;
    const descriptor = ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES;
    const bytes = min<u32>(length, room);
    copy(buffers + slot * stride, data, bytes);
    data += bytes;
    length -= bytes;
    store<u64>(descriptor, <u64>(length == 0 ? 0 : DESCRIPTOR_NEXT) | (<u64>bytes << (8 * DESCRIPTOR_LENGTH)));
    store<u64>(descriptor, offset + slot * stride, DESCRIPTOR_OFFSET); // and no metadata
    ++taken;
  } while (length != 0);
  return taken;
}
