/** A window of its own with one queue in it, on which a kernel and its twin run from the same state. */
import { loadKernels } from '@emudev/dma';
import { KERNELS_WASM_BASE64 } from '../src/kernels.gen.ts';
import type { Kernels } from '../src/kernels-face.ts';
import {
  Q_BUFFERS, Q_BUFFER_BYTES, Q_DOORBELL, Q_ENABLED, Q_IOVA, Q_LENGTH, Q_NUMBER, Q_RING, Q_SLOTS, Q_STATS, Q_POOL_BYTES, Q_TAIL, TXQ_MAX_FRAME,
  TXQ_PARTNER, TXQ_RS_LIST,
} from '../src/layout.ts';

export const BASE = 0x10000;
export const QUEUE: number = BASE;
export const DOORBELL: number = BASE + 0x200;
/** The other queue of the pair, in the tests that have both: QUEUE is the Tx queue, this the Rx queue. */
export const PARTNER: number = BASE + 0x100;
export const RS_LIST: number = BASE + 0x400;
export const SLOTS: number = BASE + 0x600;
export const PARTNER_SLOTS: number = BASE + 0x700;
export const PARTNER_RING: number = BASE + 0x3000;
export const RING: number = BASE + 0x1000;
export const BUFFERS: number = BASE + 0x4000;
export const RECORDS: number = BASE + 0x10000;
export const ARENA: number = BASE + 0x12000;
export const DATA: number = BASE + 0x20000;
export const REGION_BYTES = 0x30000;
export const LENGTH = 64;
export const BUFFER_BYTES = 128;
export const STRIDE = 192;
export const DEVICE_ADDRESS = 0x1_2345_0000n;
export const MAX_FRAME: number = 5 * BUFFER_BYTES;

export const memory: WebAssembly.Memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
export const u8: Uint8Array = new Uint8Array(memory.buffer);
export const view: DataView = new DataView(memory.buffer);
export const kernels: Kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, memory);

export function freshQueue(): void {
  u8.fill(0, BASE, BASE + REGION_BYTES);
  const fields: [number, number][] = [
    [Q_ENABLED, 1], [Q_RING, RING], [Q_LENGTH, LENGTH], [Q_DOORBELL, DOORBELL], [Q_BUFFERS, BUFFERS], [Q_POOL_BYTES, 2 * LENGTH * STRIDE],
    [Q_BUFFER_BYTES, BUFFER_BYTES], [Q_NUMBER, 3], [Q_SLOTS, SLOTS],
  ];
  for (const [at, value] of fields) view.setUint32(QUEUE + at, value, true);
  for (let i = 0; i < LENGTH; i++) view.setUint32(SLOTS + 4 * i, i * STRIDE, true);
  view.setBigUint64(QUEUE + Q_IOVA, DEVICE_ADDRESS, true);
}

export function freshRxQueue(): void {
  freshQueue();
  view.setUint32(QUEUE + Q_TAIL, LENGTH - 1, true);
}

export function freshTxQueue(): void {
  freshQueue();
  view.setUint32(QUEUE + TXQ_RS_LIST, RS_LIST, true);
  view.setUint32(QUEUE + TXQ_MAX_FRAME, MAX_FRAME, true);
}

/** QUEUE is a Tx queue, PARTNER the Rx queue with which it shares its buffers. */
export function freshPair(): void {
  freshTxQueue();
  const partner: [number, number][] = [
    [Q_ENABLED, 1], [Q_RING, PARTNER_RING], [Q_LENGTH, LENGTH], [Q_DOORBELL, DOORBELL + 64], [Q_BUFFERS, BUFFERS], [Q_POOL_BYTES, 2 * LENGTH * STRIDE],
    [Q_BUFFER_BYTES, BUFFER_BYTES], [Q_NUMBER, 3], [Q_SLOTS, PARTNER_SLOTS], [Q_TAIL, LENGTH - 1],
  ];
  for (const [at, value] of partner) view.setUint32(PARTNER + at, value, true);
  view.setBigUint64(PARTNER + Q_IOVA, DEVICE_ADDRESS, true);
  view.setUint32(QUEUE + TXQ_PARTNER, PARTNER, true);
  for (let i = 0; i < LENGTH; i++) {
    view.setUint32(PARTNER_SLOTS + 4 * i, i * STRIDE, true);
    view.setUint32(SLOTS + 4 * i, (LENGTH + i) * STRIDE, true);
  }
}

/** Runs both from the state as it is; returns their results and the bytes each left behind, and leaves the kernel's. */
export function runBoth(kernel: () => number, twin: () => number): { results: [number, number]; images: [Buffer, Buffer] } {
  const before = u8.slice(BASE, BASE + REGION_BYTES);
  const image = (): Buffer => Buffer.from(u8.slice(BASE, BASE + REGION_BYTES));
  const expected = twin();
  const expectedImage = image();
  u8.set(before, BASE);
  const got = kernel();
  return { results: [got, expected], images: [image(), expectedImage] };
}

export const field32 = (at: number): number => view.getUint32(QUEUE + at, true);
export const counter = (index: number): number => Number(view.getBigUint64(QUEUE + Q_STATS + 8 * index, true));
