/** A loan is over before the lcore says that it holds no guest memory: at the next checkpoint, or by going offline. */
import { expect, test } from 'vitest';
import { FRAME_DATA, FRAME_RECORD_BYTES, allocateBurst, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop } from '../src/lcore-loop.ts';
import { LCORE_COMMAND, LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, type LcoreWorkerData } from '../src/lcore-protocol.ts';

test.each([
  ['all are taken', 4, false],
  ['some are kept', 1, true],
  ['none is, and all are dropped', 0, false],
  ['the far end throws', -1, false],
])('where %s', (_, taken, holding) => {
  using window = Window.open();
  using resources = new DisposableStack();
  const alloc = (bytes: number): number => resources.adopt(window.alloc(bytes, 64), (offset) => { window.free(offset); });
  const context = { ...attachWindow(window.memory, window.base), lcore: 0 };
  const control = alloc(LCORE_CONTROL_BYTES);
  let lent = 0;
  let bursts = 0;
  /** Which of the frames. */
  const kept: number[] = [];
  const atRest: number[] = [];
  const reader = { online: () => {}, offline: () => { atRest.push(lent); }, checkpoint: () => { atRest.push(lent); } } as unknown as QuiescentReader;
  const sys = { eventfdDrain: () => 0, pollIn: () => 0, yieldProcessor: () => { expect(lent).toBe(0); } };
  const loop = new LcoreLoop(context, reader, sys, { control, idleSpins: 1, idleLatencyUs: 100, wakeFd: -1 } as LcoreWorkerData);
  const burst = resources.use(allocateBurst(window, 8));
  for (const id of [7, 8]) {
    const port: PortDatapath = {
      rxBurst: () => {
        expect(lent).toBe(0);
        for (let i = 0; i < 4; i++) window.u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2] = burst.arena + i * 64;
        if (++bursts === 3) Atomics.store(context.i32, (control >>> 2) + LCORE_COMMAND, 1);
        return (lent = 4);
      },
      txBurst: () => {
        if (taken < 0) throw new WebAssembly.RuntimeError('memory access out of bounds');
        return taken;
      },
      takeBack: (_queue, rest, count) => {
        if (lent !== 0) kept.push(...Array.from({ length: count }, (_, i) => (window.u32[(rest.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2]! - keeping.arena) / 64));
        lent = 0;
      },
      holding: () => holding && lent !== 0,
    };
    const keeping = resources.use(allocateBurst(window, 8));
    loop.add({ id, rx: port, rxQueue: 0, tx: port, txQueue: 0, engine: createEngine(context, { name: 'io' }), announced: false, burst, keeping, counters: alloc(STREAM_COUNTERS_BYTES) });
  }
  if (taken < 0) expect(() => { loop.run(); }).toThrow(/out of bounds/);
  else loop.run();
  expect(lent).toBe(0);
  expect(new Set(atRest)).toEqual(new Set([0]));
  expect(holding ? kept.slice(0, 4 - taken) : kept).toEqual(holding ? [1, 2, 3] : []);
});
