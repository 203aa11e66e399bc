/** The plain TypeScript twin of kernels/rx.ts: the oracle of its property test, written for reading, not for speed. */
import { FRAME_RECORD_BYTES } from '@emudev/ethdev';
import {
  ARENA_ALIGNMENT, DESCRIPTOR_FLAGS_REGION, DESCRIPTOR_LENGTH, DESCRIPTOR_OFFSET, FAULT_INDEX, OUTCOME_EMPTY, OUTCOME_FAULT, QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES,
  QUEUE_BUFFER_STRIDE, QUEUE_FAULT, QUEUE_INDEX, QUEUE_MASK, QUEUE_NEXT, QUEUE_NUMBER, QUEUE_RING, QUEUE_SERVER, QUEUE_STATE, QUEUE_UP, RING_HEAD, RING_TAIL,
} from '../layout.ts';
import { MAX_FRAME_BYTES, MIN_FRAME_BYTES } from '../limits.ts';
import { descriptorAt, locate, readDescriptor, report, type TwinMemory } from './memory.ts';

/** Copies the frame that begins at `next` as far as it is good; its length, 0 if it is none, and how many descriptors it took. */
function gather({ view, u8 }: TwinMemory, cells: number, queue: number, next: number, available: number, data: number): { length: number; taken: number } {
  let length = 0;
  let whole = true;
  for (let taken = 1; taken <= available; taken++) {
    const at = descriptorAt(view, queue, next + taken - 1);
    const { next: more, region, offset, length: bytes } = readDescriptor(view, at);
    if (more) view.setUint32(at + DESCRIPTOR_FLAGS_REGION, region * 0x10000, true);
    const from = locate(view, cells, region, offset, bytes);
    whole &&= from !== undefined && length + bytes <= MAX_FRAME_BYTES;
    if (whole) {
      // A frame too short that has one buffer is not even copied: nobody will look at it.
      if (more || taken > 1 || bytes >= MIN_FRAME_BYTES) u8.copyWithin(data + length, from!, from! + bytes);
      length += bytes;
    }
    if (!more) return { length: whole ? length : 0, taken };
  }
  return { length: 0, taken: available };
}

function supply(view: DataView, queue: number, next: number): void {
  const get = (at: number): number => view.getUint32(queue + at, true);
  const size = get(QUEUE_MASK) + 1;
  let index = get(QUEUE_INDEX);
  if (((index - next) & 0xffff) === size) return;
  for (; ((index - next) & 0xffff) !== size; index = (index + 1) & 0xffff) {
    const at = descriptorAt(view, queue, index);
    view.setUint32(at + DESCRIPTOR_FLAGS_REGION, 0, true);
    view.setUint32(at + DESCRIPTOR_LENGTH, get(QUEUE_BUFFER_BYTES), true);
    view.setUint32(at + DESCRIPTOR_OFFSET, get(QUEUE_BUFFERS_OFFSET) + (index & get(QUEUE_MASK)) * get(QUEUE_BUFFER_STRIDE), true);
  }
  view.setUint32(queue + QUEUE_INDEX, index, true);
  view.setUint16(get(QUEUE_RING) + RING_HEAD, index, true);
}

export function rxBurstTwin(memory: TwinMemory, cells: number, queue: number, records: number, max: number, arena: number, arenaBytes: number): number {
  const { view } = memory;
  const get = (at: number): number => view.getUint32(queue + at, true);
  report(view, queue, 0);
  if (get(QUEUE_STATE) !== QUEUE_UP) return 0;
  const server = get(QUEUE_SERVER) === 1;
  let next = get(server ? QUEUE_INDEX : QUEUE_NEXT);
  let available = (view.getUint16(get(QUEUE_RING) + (server ? RING_HEAD : RING_TAIL), true) - next) & 0xffff;
  if (available > (server ? get(QUEUE_MASK) + 1 : (get(QUEUE_INDEX) - next) & 0xffff)) {
    view.setUint32(queue + QUEUE_FAULT, FAULT_INDEX, true);
    report(view, queue, OUTCOME_FAULT);
    return 0;
  }
  if (available === 0) {
    if (!server) supply(view, queue, next);
    report(view, queue, OUTCOME_EMPTY);
    return 0;
  }
  let data = arena;
  let count = 0;
  let bytes = 0;
  let errors = 0;
  while (available > 0 && count < max && data + MAX_FRAME_BYTES <= arena + arenaBytes) {
    const { length, taken } = gather(memory, cells, queue, next, available, data);
    next = (next + taken) & 0xffff;
    available -= taken;
    if (length < MIN_FRAME_BYTES) {
      errors++;
      continue;
    }
    [data, length, 0, 0, 0, 0, 0, get(QUEUE_NUMBER)].forEach((value, i) => {
      view.setUint32(records + count * FRAME_RECORD_BYTES + 4 * i, value, true);
    });
    count++;
    bytes += length;
    data = Math.ceil((data + length) / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;
  }
  view.setUint32(queue + (server ? QUEUE_INDEX : QUEUE_NEXT), next, true);
  if (server) view.setUint16(get(QUEUE_RING) + RING_TAIL, next, true);
  else supply(view, queue, next);
  report(view, queue, 0, bytes, errors);
  return count;
}
