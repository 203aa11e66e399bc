import { PRIVATE_BYTES, Window } from '@emudev/dma';
import { expect, test } from 'vitest';
import { DEFAULT_ARENA_BYTES, DEFAULT_BURST } from '../src/burst.ts';
import { allocateBurst } from '../src/burst-memory.ts';
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
