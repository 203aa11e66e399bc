/** The plain TypeScript twin of kernels/tx.ts: the oracle of its property test, written for reading, not for speed. */
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES } from '@emudev/ethdev';
import {
  DESCRIPTOR_FLAGS, DESCRIPTOR_FLAGS_REGION, DESCRIPTOR_LENGTH, DESCRIPTOR_METADATA, DESCRIPTOR_NEXT, DESCRIPTOR_OFFSET, FAULT_BUFFER, FAULT_INDEX, OUTCOME_FAULT, OUTCOME_SIGNAL, QUEUE_BUFFERS,
  QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES, QUEUE_BUFFER_STRIDE, QUEUE_FAULT, QUEUE_INDEX, QUEUE_MASK, QUEUE_RING, QUEUE_SERVER, QUEUE_STATE, QUEUE_UP, RING_FLAGS, RING_HEAD,
  RING_MASK_INTERRUPT, RING_TAIL,
} from '../layout.ts';
import { MAX_FRAME_BYTES } from '../limits.ts';
import { descriptorAt, locate, readDescriptor, report, type TwinMemory } from './memory.ts';

type Scattered = number | 'no room' | 'bad buffer';

function scatterToPeer({ view, u8 }: TwinMemory, cells: number, queue: number, index: number, free: number, data: number, length: number): Scattered {
  let done = 0;
  for (let taken = 0; taken < free; taken++) {
    const at = descriptorAt(view, queue, index + taken);
    const { region, length: room, offset } = readDescriptor(view, at);
    const to = locate(view, cells, region, offset, room);
    if (to === undefined || room === 0) return 'bad buffer';
    const bytes = Math.min(length - done, room);
    u8.copyWithin(to, data + done, data + done + bytes);
    done += bytes;
    view.setUint32(at + DESCRIPTOR_LENGTH, bytes, true);
    view.setUint16(at + DESCRIPTOR_FLAGS, done === length ? 0 : DESCRIPTOR_NEXT, true);
    if (done === length) return taken + 1;
  }
  return 'no room';
}

function scatterToOwn({ view, u8 }: TwinMemory, queue: number, index: number, free: number, data: number, length: number): Scattered {
  const get = (at: number): number => view.getUint32(queue + at, true);
  const room = get(QUEUE_BUFFER_BYTES);
  const needed = Math.ceil(length / room);
  if (needed > free) return 'no room';
  for (let n = 0; n < needed; n++) {
    const at = descriptorAt(view, queue, index + n);
    const inPool = ((index + n) & get(QUEUE_MASK)) * get(QUEUE_BUFFER_STRIDE);
    const bytes = n + 1 < needed ? room : length - n * room;
    u8.copyWithin(get(QUEUE_BUFFERS) + inPool, data + n * room, data + n * room + bytes);
    view.setUint32(at + DESCRIPTOR_FLAGS_REGION, n + 1 < needed ? DESCRIPTOR_NEXT : 0, true);
    view.setUint32(at + DESCRIPTOR_LENGTH, bytes, true);
    view.setUint32(at + DESCRIPTOR_OFFSET, get(QUEUE_BUFFERS_OFFSET) + inPool, true);
    view.setUint32(at + DESCRIPTOR_METADATA, 0, true);
  }
  return needed;
}

export function txBurstTwin(memory: TwinMemory, cells: number, queue: number, records: number, count: number): number {
  const { view } = memory;
  const get = (at: number): number => view.getUint32(queue + at, true);
  report(view, queue, 0);
  if (get(QUEUE_STATE) !== QUEUE_UP) return 0;
  const ring = get(QUEUE_RING);
  const size = get(QUEUE_MASK) + 1;
  const server = get(QUEUE_SERVER) === 1;
  let index = get(QUEUE_INDEX);
  const theirs = view.getUint16(ring + (server ? RING_HEAD : RING_TAIL), true);
  let free = server ? (theirs - index) & 0xffff : size - ((index - theirs) & 0xffff);
  if (free < 0 || free > size) {
    view.setUint32(queue + QUEUE_FAULT, FAULT_INDEX, true);
    report(view, queue, OUTCOME_FAULT);
    return 0;
  }
  let outcome = 0;
  let sent = 0;
  let bytes = 0;
  let errors = 0;
  for (; sent < count; sent++) {
    const record = records + sent * FRAME_RECORD_BYTES;
    const [data, length] = [view.getUint32(record + FRAME_DATA, true), view.getUint32(record + FRAME_LENGTH, true)];
    if (length === 0 || length > MAX_FRAME_BYTES) {
      errors++;
      continue;
    }
    const scattered = server ? scatterToPeer(memory, cells, queue, index, free, data, length) : scatterToOwn(memory, queue, index, free, data, length);
    if (scattered === 'bad buffer') {
      view.setUint32(queue + QUEUE_FAULT, FAULT_BUFFER, true);
      outcome = OUTCOME_FAULT;
      break;
    }
    if (scattered === 'no room') {
      if (free < size) break;
      errors++;
      continue;
    }
    index = (index + scattered) & 0xffff;
    free -= scattered;
    bytes += length;
  }
  if (bytes > 0) {
    view.setUint32(queue + QUEUE_INDEX, index, true);
    view.setUint16(ring + (server ? RING_TAIL : RING_HEAD), index, true);
    if ((view.getUint16(ring + RING_FLAGS, true) & RING_MASK_INTERRUPT) === 0) outcome |= OUTCOME_SIGNAL;
  }
  report(view, queue, outcome, bytes, errors);
  return sent;
}
