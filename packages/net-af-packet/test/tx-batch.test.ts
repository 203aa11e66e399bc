import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FRAME_DATA, FRAME_FLAGS, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_SEGMENT, FRAME_TX_TSO, windowBytes, type LcoreContext } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { TX_AREA_BYTES, TxBatch } from '../src/datapath/tx-batch.ts';
import { TX_BATCH } from '../src/limits.ts';

const RECORDS = 4096;
const AREA = 65_536;
const FRAMES = 262_144;
const HEADERS = { l2: 14, l3: 20, l4: 20 };
/** Two writes: an IP packet has no room for all of it. */
const TSO_BYTES = 54 + 100_000;

const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
const context: LcoreContext = {
  lcore: 0, memory, base: 0n, u8: new Uint8Array(memory.buffer), i32: new Int32Array(memory.buffer), u32: new Uint32Array(memory.buffer), view: new DataView(memory.buffer),
};
const room: number[] = [];

beforeEach(() => {
  context.u8.fill(0);
  room.length = 0;
  vi.spyOn(linux, 'sendMessagesAt').mockImplementation((_, __, count) => {
    const left = room.shift() ?? Infinity;
    return left === 0 ? undefined : Math.min(left, count);
  });
});
afterEach(() => {
  vi.restoreAllMocks();
});

function batchOf(plain: number, segmented: number): { batch: TxBatch; send: () => number } {
  for (let i = 0; i < plain + segmented; i++) {
    const record = RECORDS + i * FRAME_RECORD_BYTES;
    const tso = i >= plain;
    context.view.setUint32(record + FRAME_DATA, FRAMES, true);
    context.view.setUint32(record + FRAME_LENGTH, tso ? TSO_BYTES : 64, true);
    context.view.setUint32(record + FRAME_FLAGS, tso ? FRAME_TX_TSO : 0, true);
    context.view.setUint16(record + FRAME_SEGMENT, tso ? 1000 : 0, true);
    context.view.setUint16(record + FRAME_L2_LENGTH, HEADERS.l2, true);
    context.view.setUint16(record + FRAME_L3_LENGTH, HEADERS.l3, true);
    context.view.setUint16(record + FRAME_L4_LENGTH, HEADERS.l4, true);
  }
  const init = { fds: [-1], rings: [], slots: 0, slotBytes: 0, slotsPerBlock: 0, blockBytes: 0, maxFrameBytes: 0, peerTxCapabilities: 0, rxStages: [], txAreas: [AREA], rxCounters: 0, txCounters: 0, goneCell: 0 };
  expect(AREA + TX_AREA_BYTES).toBeLessThanOrEqual(FRAMES);
  const batch = new TxBatch(context, windowBytes(context), init, 0);
  return { batch, send: () => batch.send({ records: RECORDS, capacity: 64, arena: 0, arenaBytes: 0 }, plain + segmented) };
}

test('a long frame of which a part went out is not offered again, even where its parts lie in two batches', () => {
  // The first part of the long frame is the last message of the first batch; then the kernel is full.
  room.push(TX_BATCH, 0);
  const { batch, send } = batchOf(TX_BATCH - 1, 1);
  expect(send()).toBe(TX_BATCH);
  expect([batch.packets, batch.errors]).toEqual([TX_BATCH - 1, 1]);
});

test('a frame of which nothing went out is offered again', () => {
  room.push(TX_BATCH - 1, 0);
  const { batch, send } = batchOf(TX_BATCH - 1, 1);
  expect(send()).toBe(TX_BATCH - 1);
  expect([batch.packets, batch.errors]).toEqual([TX_BATCH - 1, 0]);
});

test('a long frame that goes out whole is one packet', () => {
  const { batch, send } = batchOf(3, 2);
  expect(send()).toBe(5);
  expect([batch.packets, batch.bytes, batch.errors]).toEqual([5, 3 * 64 + 2 * 100_000, 0]);
});
