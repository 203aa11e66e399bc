import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { evaluateVector, raiseVector, VECTOR_ARMED, VECTOR_FD, VECTOR_FIRED, VECTOR_PENDING } from '../src/vector.ts';

const PUBLISHED = 16;
const SIGNALS = 17;

function cells(): { i32: Int32Array; fired: number[]; raise: () => void; arm: () => void } {
  const i32 = new Int32Array(new SharedArrayBuffer(128));
  i32[VECTOR_FD] = 5;
  const fired: number[] = [];
  const signal = (fd: number): boolean => fired.push(fd) > 0;
  return {
    i32, fired,
    raise: () => { raiseVector(i32, 0, signal); },
    arm: () => { Atomics.store(i32, VECTOR_ARMED, 1); evaluateVector(i32, 0, signal); },
  };
}

describe('vector cells', () => {
  it('fire once per arming and hold what comes in between', () => {
    const { fired, raise, arm, i32 } = cells();
    raise();
    raise();
    expect(fired).toEqual([]);
    arm();
    arm();
    expect(fired).toEqual([5]);
    raise();
    raise();
    expect(fired).toEqual([5, 5]);
    arm();
    expect(fired).toEqual([5, 5, 5]);
    expect(i32[VECTOR_FIRED]).toBe(3);
  });

  it('keep the event while there is no descriptor', () => {
    const { fired, raise, arm, i32 } = cells();
    i32[VECTOR_FD] = -1;
    arm();
    raise();
    expect([fired.length, i32[VECTOR_PENDING], i32[VECTOR_ARMED]]).toEqual([0, 1, 1]);
    i32[VECTOR_FD] = 5;
    arm();
    expect(fired).toEqual([5]);
  });

  it('lose no event under workers that raise while a guest re-arms: after the last signal everything was seen', async () => {
    const { i32 } = cells();
    const events = 200_000;
    const workers = [0, 1].map(() => new Worker(new URL('./vector-hammer.ts', import.meta.url), { workerData: { buffer: i32.buffer, events } }));
    const total = events * workers.length;
    const signal = (): boolean => { Atomics.add(i32, SIGNALS, 1); Atomics.notify(i32, SIGNALS); return true; };
    // The guest: wait for a signal, read what is published, re-arm. A lost event leaves it waiting for ever, short of the total.
    let seen = 0;
    let signals = 0;
    Atomics.store(i32, VECTOR_ARMED, 1);
    evaluateVector(i32, 0, signal);
    while (seen < total) {
      const waited = Atomics.waitAsync(i32, SIGNALS, signals, 10_000);
      expect(await waited.value).not.toBe('timed-out');
      signals = Atomics.load(i32, SIGNALS);
      seen = Atomics.load(i32, PUBLISHED);
      Atomics.store(i32, VECTOR_ARMED, 1);
      evaluateVector(i32, 0, signal);
    }
    await Promise.all(workers.map((worker) => worker.terminate()));
    expect(seen).toBe(total);
    expect(signals).toBeLessThanOrEqual(total + 1);
  });
});
