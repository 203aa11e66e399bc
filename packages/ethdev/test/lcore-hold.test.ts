/** A port that holds for a moment gets what was kept for it, whenever that moment ends. */
import { expect, test } from 'vitest';
import { allocateBurst, readCounter, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop } from '../src/lcore-loop.ts';
import { LCORE_COMMAND, LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, STREAM_DROPPED, STREAM_TX_PACKETS, type LcoreWorkerData } from '../src/lcore-protocol.ts';

const FRAMES = 4;

test.each([
  ['before it is asked whether it does', false],
  ['in the middle of a burst that it refuses', true],
])('the moment ends %s', (_, inBurst) => {
  using window = Window.open();
  using resources = new DisposableStack();
  const alloc = (bytes: number): number => resources.adopt(window.alloc(bytes, 64), (offset) => { window.free(offset); });
  const context = { ...attachWindow(window.memory, window.base), lcore: 0 };
  const control = alloc(LCORE_CONTROL_BYTES);
  const counters = alloc(STREAM_COUNTERS_BYTES);
  const reader = { online: () => {}, offline: () => {}, checkpoint: () => {} } as unknown as QuiescentReader;
  const loop = new LcoreLoop(context, reader, { eventfdDrain: () => 0, pollIn: () => 0, yieldProcessor: () => {} }, { control, idleSpins: 1, idleLatencyUs: 100, wakeFd: -1 } as LcoreWorkerData);
  let holds = false;
  let received = 0;
  let refusals = 0;
  let loops = 0;
  const port: PortDatapath = {
    rxBurst: () => {
      if (received !== 0) return 0;
      received = FRAMES;
      return FRAMES;
    },
    txBurst: (_queue, _burst, count) => {
      if (refusals === 2) return count;
      refusals++;
      // It is paused after it was asked the first time, and goes on while or after it refuses the second burst.
      holds = refusals === 1 || !inBurst;
      return 0;
    },
    holding: () => {
      const answer = holds;
      if (refusals === 2) holds = false;
      return answer;
    },
    tick: () => {
      if (++loops === 10) Atomics.store(context.i32, (control >>> 2) + LCORE_COMMAND, 1);
      return 0;
    },
  };
  loop.setPorts([port], []);
  loop.add({ id: 7, rx: port, rxQueue: 0, tx: port, txQueue: 0, engine: createEngine(context, { name: 'io' }), announced: false, burst: resources.use(allocateBurst(window, 8)), counters });
  loop.run();
  expect(refusals).toBe(2);
  expect(readCounter(context.u32, (counters + STREAM_TX_PACKETS) >>> 2)).toBe(BigInt(FRAMES));
  expect(readCounter(context.u32, (counters + STREAM_DROPPED) >>> 2)).toBe(0n);
});
