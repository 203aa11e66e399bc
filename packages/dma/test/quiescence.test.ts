import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, QuiescenceTimeoutError, QuiescentReader, Window } from '../src/index.ts';

let window: Window;
let quiescence: Quiescence;
beforeEach(() => {
  window = Window.open();
  quiescence = new Quiescence(window);
});
afterEach(() => {
  quiescence[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

/** Has the promise settled, once everything that is due has run? */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => (done = true));
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

describe('one reader in this thread', () => {
  test('offline readers delay nobody', async () => {
    quiescence.addReader();
    const reader = new QuiescentReader(window.i32, quiescence.addReader());
    await quiescence.synchronize(1);
    reader.online();
    reader.offline();
    await quiescence.synchronize(1);
  });

  test('an online reader is waited for until its next checkpoint', async () => {
    const reader = new QuiescentReader(window.i32, quiescence.addReader());
    reader.online();
    reader.checkpoint();
    const done = quiescence.synchronize();
    expect(await settled(done)).toBe(false);
    reader.checkpoint();
    await done;
  });

  test('going offline is a checkpoint', async () => {
    const reader = new QuiescentReader(window.i32, quiescence.addReader());
    reader.online();
    const done = quiescence.synchronize();
    expect(await settled(done)).toBe(false);
    reader.offline();
    await done;
  });

  test('a reader that came online after the request has seen what was made visible before', async () => {
    const reader = new QuiescentReader(window.i32, quiescence.addReader());
    const done = quiescence.synchronize(1);
    reader.online();
    await done;
  });

  test('several requests at once are all answered by one checkpoint', async () => {
    const reader = new QuiescentReader(window.i32, quiescence.addReader());
    reader.online();
    const done = Promise.all([quiescence.synchronize(), quiescence.synchronize(), quiescence.synchronize()]);
    expect(await settled(done)).toBe(false);
    reader.checkpoint();
    await done;
  });

  test('the deadline names who never came by', async () => {
    new QuiescentReader(window.i32, quiescence.addReader('lcore 3')).offline();
    const stuck = new QuiescentReader(window.i32, quiescence.addReader('lcore 7'));
    stuck.online();
    const error = await quiescence.synchronize(20).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(QuiescenceTimeoutError);
    expect(error).toMatchObject({ code: 'ERR_QUIESCENCE_TIMEOUT', errno: 110, reader: 'lcore 7' });
    expect((error as Error).message).toContain('lcore 7 passed no checkpoint within 20 ms');
    stuck.checkpoint();
    await quiescence.synchronize(20).catch((e: unknown) => e);
  });

  test('a removed reader is not waited for any more', async () => {
    const cells = quiescence.addReader();
    new QuiescentReader(window.i32, cells).online();
    const done = quiescence.synchronize();
    expect(await settled(done)).toBe(false);
    quiescence.removeReader(cells);
    quiescence.removeReader(cells);
    await done;
    await quiescence.synchronize(1);
  });

  test('request numbers may wrap', async () => {
    const cells = quiescence.addReader();
    const reader = new QuiescentReader(window.i32, cells);
    Atomics.store(window.i32, cells.request, 0x7fffffff);
    reader.online();
    const done = quiescence.synchronize();
    expect(await settled(done)).toBe(false);
    reader.checkpoint();
    await done;
  });
});

test('the quiescence of a window is one object until the window is emptied', async () => {
  const other = Window.open();
  const shared = Quiescence.of(window);
  expect(Quiescence.of(other)).toBe(shared);
  const reader = new QuiescentReader(window.i32, shared.addReader('lcore 0'));
  reader.online();
  await expect(Quiescence.of(other).synchronize(1)).rejects.toThrow('lcore 0');
  quiescence[Symbol.dispose]();
  other[Symbol.dispose]();
  window[Symbol.dispose]();
  window = Window.open();
  quiescence = new Quiescence(window);
  const next = Quiescence.of(window);
  expect(next).not.toBe(shared);
  await next.synchronize(1);
  next[Symbol.dispose]();
});

test('no thread is ever inside a burst when synchronize has resolved', async () => {
  const shared = window.alloc(64);
  const [PAUSED, MAPPED, STOP] = [shared >>> 2, (shared >>> 2) + 1, (shared >>> 2) + 2];
  const readers = await Promise.all(
    [false, true].map(async (sleepy) => {
      const own = window.alloc(64);
      const cells = quiescence.addReader();
      const worker = new Worker(new URL('./burst.worker.ts', import.meta.url), { workerData: { memory: window.memory, base: window.base, cells, shared: shared >>> 2, own: own >>> 2, sleepy } });
      const exited = once(worker, 'exit');
      Atomics.store(window.i32, MAPPED, 1);
      await once(worker, 'message');
      return { own, exited, cells };
    }),
  );
  for (let round = 0; round < 120; round++) {
    for (const { own } of readers) {
      const bursts = (own >>> 2) + 1;
      // Every reader is at work again: without that the rounds would be over before the threads have begun.
      expect(await Atomics.waitAsync(window.i32, bursts, Atomics.load(window.i32, bursts), 5000).value).not.toBe('timed-out');
    }
    Atomics.store(window.i32, PAUSED, 1);
    await quiescence.synchronize(5000);
    for (const { own } of readers) expect(Atomics.load(window.i32, own >>> 2)).toBe(0);
    Atomics.store(window.i32, MAPPED, 0);
    for (let i = 0; i < 2000; i++) Atomics.load(window.i32, MAPPED);
    Atomics.store(window.i32, MAPPED, 1);
    Atomics.store(window.i32, PAUSED, 0);
  }
  Atomics.store(window.i32, STOP, 1);
  for (const { own, exited, cells } of readers) {
    await exited;
    const bursts = window.i32[(own >>> 2) + 1]!;
    const violations = window.i32[(own >>> 2) + 2]!;
    expect(violations).toBe(0);
    expect(bursts).toBeGreaterThanOrEqual(120);
    quiescence.removeReader(cells);
    window.free(own);
  }
  window.free(shared);
});
