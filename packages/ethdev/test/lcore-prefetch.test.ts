/** Whose fault it is when asking for cache lines throws: of the stream whose guest has taken its memory away, not of the lcore. */
import { expect, test } from 'vitest';
import { allocateBurst, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop } from '../src/lcore-loop.ts';
import { LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, type LcoreWorkerData } from '../src/lcore-protocol.ts';

const reader = { online: () => {}, offline: () => {}, checkpoint: () => {} } as unknown as QuiescentReader;
const sys = { eventfdDrain: () => 0, pollIn: () => 0, yieldProcessor: () => {} };

test.each([[0, 7], [1, 8], [2, 9]])('stream %d of three', (failing, id) => {
  using window = Window.open();
  using resources = new DisposableStack();
  const alloc = (bytes: number): number => resources.adopt(window.alloc(bytes, 64), (offset) => { window.free(offset); });
  const context = { ...attachWindow(window.memory, window.base), lcore: 0 };
  const loop = new LcoreLoop(context, reader, sys, { control: alloc(LCORE_CONTROL_BYTES), idleSpins: 1, idleLatencyUs: 100, wakeFd: -1 } as LcoreWorkerData);
  for (let n = 0; n < 3; n++) {
    const port: PortDatapath = {
      prefetch: () => { if (n === failing) throw new WebAssembly.RuntimeError('memory access out of bounds'); },
      rxBurst: () => 0,
      txBurst: (_queue, _burst, count) => count,
    };
    const burst = resources.use(allocateBurst(window, 8));
    loop.add({ id: 7 + n, rx: port, rxQueue: 0, tx: port, txQueue: 0, engine: createEngine(context, { name: 'rxonly' }), announced: false, burst, counters: alloc(STREAM_COUNTERS_BYTES) });
  }
  expect(() => { loop.run(); }).toThrow(/out of bounds/);
  expect(loop.currentId).toBe(id);
});
