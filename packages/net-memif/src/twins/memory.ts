/** What the twins need of the window, and what both directions share. */
import {
  CELL_REGIONS, CELL_REGION_TABLE, DESCRIPTOR_BYTES, DESCRIPTOR_FLAGS_REGION, DESCRIPTOR_LENGTH, DESCRIPTOR_NEXT, DESCRIPTOR_OFFSET, QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS,
  QUEUE_MASK, QUEUE_OUTCOME, QUEUE_RING, REGION_ENTRY_BYTES, RING_DESCRIPTORS,
} from '../layout.ts';

export interface TwinMemory {
  readonly view: DataView;
  readonly u8: Uint8Array;
}

export interface Descriptor {
  readonly next: boolean;
  readonly region: number;
  readonly length: number;
  readonly offset: number;
}

/** Window offset of the descriptor that `index` counts. */
export function descriptorAt(view: DataView, queue: number, index: number): number {
  return view.getUint32(queue + QUEUE_RING, true) + RING_DESCRIPTORS + (index & view.getUint32(queue + QUEUE_MASK, true)) * DESCRIPTOR_BYTES;
}

export function readDescriptor(view: DataView, at: number): Descriptor {
  const flagsAndRegion = view.getUint32(at + DESCRIPTOR_FLAGS_REGION, true);
  return { next: (flagsAndRegion & DESCRIPTOR_NEXT) !== 0, region: flagsAndRegion >>> 16, length: view.getUint32(at + DESCRIPTOR_LENGTH, true), offset: view.getUint32(at + DESCRIPTOR_OFFSET, true) };
}

/** Window offset of a buffer of the peer; undefined if it does not lie in its region. */
export function locate(view: DataView, cells: number, region: number, offset: number, bytes: number): number | undefined {
  if (region >= view.getUint32(cells + CELL_REGIONS, true)) return undefined;
  const entry = cells + CELL_REGION_TABLE + region * REGION_ENTRY_BYTES;
  return offset + bytes > view.getUint32(entry + 4, true) ? undefined : view.getUint32(entry, true) + offset;
}

export function report(view: DataView, queue: number, outcome: number, bytes = 0, errors = 0): void {
  view.setUint32(queue + QUEUE_OUTCOME, outcome, true);
  view.setUint32(queue + QUEUE_BURST_BYTES, bytes, true);
  view.setUint32(queue + QUEUE_BURST_ERRORS, errors, true);
}
