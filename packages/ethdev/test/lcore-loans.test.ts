/** A loan is over before the lcore says that it holds no guest memory: at the next checkpoint, or by going offline. */
import { expect, test } from 'vitest';
import { FRAME_DATA, FRAME_RECORD_BYTES, type PortDatapath } from '@emudev/ethdev';
import { loopRig, type RigStream } from './loop-rig.ts';

test.each([
  ['all are taken', 4, false],
  ['some are kept', 1, true],
  ['none is, and all are dropped', 0, false],
  ['the far end throws', -1, false],
])('where %s', (_, taken, holding) => {
  using resources = new DisposableStack();
  let lent = 0;
  let bursts = 0;
  /** Which of the frames. */
  const kept: number[] = [];
  const atRest: number[] = [];
  const reader = { online: () => {}, offline: () => { atRest.push(lent); }, checkpoint: () => { atRest.push(lent); } };
  const { window, loop, burst, add, stop } = loopRig(resources, { reader, sys: { yieldProcessor: () => { expect(lent).toBe(0); } } });
  for (let streams = 0; streams < 2; streams++) {
    const port: PortDatapath = {
      rxBurst: () => {
        expect(lent).toBe(0);
        for (let i = 0; i < 4; i++) window.u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2] = burst.arena + i * 64;
        if (++bursts === 3) stop();
        return (lent = 4);
      },
      txBurst: () => {
        if (taken < 0) throw new WebAssembly.RuntimeError('memory access out of bounds');
        return taken;
      },
      takeBack: (_queue, rest, count) => {
        if (lent !== 0) kept.push(...Array.from({ length: count }, (_, i) => (window.u32[(rest.records + i * FRAME_RECORD_BYTES + FRAME_DATA) >>> 2]! - stream.keeping.arena) / 64));
        lent = 0;
      },
      holding: () => holding && lent !== 0,
    };
    const stream: RigStream = add(port);
  }
  if (taken < 0) expect(() => { loop.run(); }).toThrow(/out of bounds/);
  else loop.run();
  expect(lent).toBe(0);
  expect(new Set(atRest)).toEqual(new Set([0]));
  expect(holding ? kept.slice(0, 4 - taken) : kept).toEqual(holding ? [1, 2, 3] : []);
});
