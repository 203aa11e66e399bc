import { PRIVATE_BYTES, Window } from '@emudev/dma';
import { expect, test } from 'vitest';
import { DEFAULT_ARENA_BYTES, DEFAULT_BURST } from '../src/burst.ts';
import { SharedBursts, allocateBurst } from '../src/burst-memory.ts';
import { MAX_STREAMS_PER_LCORE } from '../src/limits.ts';

test('an lcore with all the streams it may have takes less than half of the private memory of the window', () => {
  using window = Window.open();
  using undo = new DisposableStack();
  for (let n = 0; n < MAX_STREAMS_PER_LCORE; n++) undo.use(allocateBurst(window));
  expect(window.allocatedBytes).toBeLessThan(PRIVATE_BYTES / 2);
});

test('a burst of ordinary frames and two TSO frames of the largest size fit an arena', () => {
  expect(DEFAULT_BURST * 1536 + 2 * (65535 + 18)).toBeLessThanOrEqual(DEFAULT_ARENA_BYTES);
});

test('streams that want bursts of one size share one, as long as one of them is there', () => {
  using window = Window.open();
  const before = window.allocatedBytes;
  const bursts = new SharedBursts(window);
  const first = bursts.use();
  const second = bursts.use(DEFAULT_BURST, DEFAULT_ARENA_BYTES);
  const small = bursts.use(8);
  expect(second.records).toBe(first.records);
  expect(small.records).not.toBe(first.records);
  small[Symbol.dispose]();
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const third = bursts.use();
  expect(third.arena).toBe(second.arena);
  third[Symbol.dispose]();
  second[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(before);
  using again = bursts.use();
  expect(again.capacity).toBe(DEFAULT_BURST);
});
