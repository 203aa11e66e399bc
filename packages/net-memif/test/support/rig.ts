/** A window with one queue of a port, its peer's memory and a burst, on which a kernel and its twin run from the same state. */
import { loadKernels } from '@emudev/dma';
import type { Kernels } from '../../src/kernels-face.ts';
import { KERNELS_WASM_BASE64 } from '../../src/kernels.gen.ts';
import {
  CELL_QUEUES, CELL_REGIONS, CELL_REGION_TABLE, DESCRIPTOR_BYTES, QUEUE_BUFFERS, QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES, QUEUE_BUFFER_STRIDE, QUEUE_MASK, QUEUE_NUMBER, QUEUE_RING,
  QUEUE_SERVER, QUEUE_STATE, QUEUE_UP, REGION_ENTRY_BYTES, RING_DESCRIPTORS,
} from '../../src/layout.ts';

const BASE = 0x10000;
export const CELLS: number = BASE;
export const QUEUE: number = CELLS + CELL_QUEUES;
export const RECORDS: number = BASE + 0x2000;
export const ARENA: number = BASE + 0x4000;
export const ARENA_BYTES = 0xc000;
/** What our own frames are sent from. */
export const FRAMES: number = ARENA;
/** The regions have odd sizes: nothing may be read or written behind them. */
export const REGIONS: readonly { readonly at: number; readonly bytes: number }[] = [{ at: BASE + 0x12000, bytes: 0x8003 }, { at: BASE + 0x1c000, bytes: 0x1005 }];
export const RING: number = REGIONS[0]!.at;
export const LOG2_SIZE = 4;
export const SIZE: number = 2 ** LOG2_SIZE;
/** A client's buffers, in the first region behind the ring. */
export const BUFFERS_OFFSET = 0x400;
export const STRIDE = 0x140;
export const BUFFER_BYTES = 0x131;
const RIG_BYTES = 0x20000;

export const memory: WebAssembly.Memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
export const u8: Uint8Array = new Uint8Array(memory.buffer);
export const view: DataView = new DataView(memory.buffer);
export const kernels: Kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, memory);

const noise = Uint8Array.from({ length: RIG_BYTES }, (_, i) => (i * 167 + (i >>> 8) * 13) & 0xff);

/** Everything is noise but for the cells; the queue is up. */
export function fresh(server: boolean): void {
  u8.set(noise, BASE);
  u8.fill(0, CELLS, QUEUE + 64);
  view.setUint32(CELLS + CELL_REGIONS, REGIONS.length, true);
  for (const [i, { at, bytes }] of REGIONS.entries()) {
    view.setUint32(CELLS + CELL_REGION_TABLE + i * REGION_ENTRY_BYTES, at, true);
    view.setUint32(CELLS + CELL_REGION_TABLE + i * REGION_ENTRY_BYTES + 4, bytes, true);
  }
  const fields: [number, number][] = [
    [QUEUE_STATE, QUEUE_UP], [QUEUE_RING, RING], [QUEUE_MASK, SIZE - 1], [QUEUE_BUFFERS, RING + BUFFERS_OFFSET], [QUEUE_BUFFERS_OFFSET, BUFFERS_OFFSET],
    [QUEUE_BUFFER_STRIDE, STRIDE], [QUEUE_BUFFER_BYTES, BUFFER_BYTES], [QUEUE_SERVER, server ? 1 : 0], [QUEUE_NUMBER, 5],
  ];
  for (const [at, value] of fields) setField(at, value);
}

export function setField(at: number, value: number): void {
  view.setUint32(QUEUE + at, value, true);
}
export const field = (at: number): number => view.getUint32(QUEUE + at, true);

export function setDescriptor(slot: number, flags: number, region: number, length: number, offset: number): void {
  const at = RING + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES;
  view.setUint16(at, flags, true);
  view.setUint16(at + 2, region, true);
  view.setUint32(at + 4, length, true);
  view.setUint32(at + 8, offset, true);
}

const image = (): Buffer => Buffer.from(u8.slice(BASE, BASE + RIG_BYTES));

/** Runs both from the state as it is; the memory stays as the kernel left it. */
export function runBoth(kernel: () => number, twin: () => number): { results: [number, number]; before: Buffer; images: [Buffer, Buffer] } {
  const before = image();
  const expected = twin();
  const expectedImage = image();
  u8.set(before, BASE);
  const got = kernel();
  return { results: [got, expected], before, images: [image(), expectedImage] };
}

/** Whether a byte outside of the ranges differs. */
export function changedOutside(before: Buffer, after: Buffer, ranges: readonly { readonly at: number; readonly bytes: number }[]): boolean {
  const masked = [before, after].map((one) => {
    const copy = Buffer.from(one);
    for (const { at, bytes } of ranges) copy.fill(0, at - BASE, at - BASE + bytes);
    return copy;
  });
  return !masked[0]!.equals(masked[1]!);
}
