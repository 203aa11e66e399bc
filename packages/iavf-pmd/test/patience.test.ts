/** The patience after a burst is one of an lcore that spins: no frame waits for it from sleep to sleep. */
import { beforeEach, expect, test } from 'vitest';
import type { Burst, LcoreContext, PortDatapath } from '@emudev/ethdev';
import { createDatapath } from '../src/datapath.ts';
import { RXS_DD, RXS_EOP, RX_LENGTH_SHIFT } from '../src/descriptors.ts';
import { RX_DESCRIPTOR_BYTES, RX_PATIENCE } from '../src/layout.ts';
import { ARENA, QUEUE, RECORDS, RING, freshRxQueue, memory, u8, view } from './rig.ts';

const BURST: Burst = { records: RECORDS, capacity: 32, arena: ARENA, arenaBytes: 1024 };

/** A block of a queue that is not enabled. */
const NOBODY = ARENA + 4096;

beforeEach(() => { freshRxQueue(); });

function frameAt(slot: number): void {
  view.setBigUint64(RING + slot * RX_DESCRIPTOR_BYTES + 8, BigInt(RXS_DD | RXS_EOP) | (60n << BigInt(RX_LENGTH_SHIFT)), true);
}

const lcorePath = (): PortDatapath => {
  const { buffer } = memory;
  return createDatapath({ lcore: 0, memory, base: 0n, u8, view, i32: new Int32Array(buffer), u32: new Uint32Array(buffer) } as LcoreContext, { rxBlocks: [QUEUE], txBlocks: [], relay: undefined });
};

test('an lcore that has polled as often as it is told to before a sleep sees the next frame at once', () => {
  const path = lcorePath();
  for (let slot = 0; slot < 3; slot++) {
    frameAt(slot);
    expect(path.rxBurst(0, BURST, 32)).toBe(1);
    for (let polls = 0; polls < (path.pollsBeforeSleep ?? 0); polls++) expect(path.rxBurst(0, BURST, 32)).toBe(0);
  }
});

test('prefetch says whether a poll is worth it: for a frame, and to post what the last burst has consumed; one that is left out counts as a poll', () => {
  const path = lcorePath();
  expect(path.prefetch!(0, true)).toBe(false);
  frameAt(0);
  expect(path.prefetch!(0, true)).toBe(true);
  expect(path.rxBurst(0, BURST, 32)).toBe(1);
  expect(path.prefetch!(0, true)).toBe(true);
  for (let polls = 0; polls < RX_PATIENCE; polls++) expect(path.rxBurst(0, BURST, 32)).toBe(0);
  expect(path.rxBurst(0, BURST, 32)).toBe(0);
  expect(path.prefetch!(0, true)).toBe(false);
  frameAt(1);
  expect(path.rxBurst(0, BURST, 32)).toBe(1);
  expect(path.rxBurst(0, BURST, 32)).toBe(0);
  const other = createDatapath({ lcore: 0, memory, base: 0n, u8, view, i32: new Int32Array(memory.buffer), u32: new Uint32Array(memory.buffer) } as LcoreContext, { rxBlocks: [NOBODY], txBlocks: [], relay: undefined });
  for (let polls = 1; polls < RX_PATIENCE; polls++) expect(other.prefetch!(0, true)).toBe(false);
  frameAt(2);
  expect(path.rxBurst(0, BURST, 32)).toBe(1);
});
