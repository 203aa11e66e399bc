import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Window } from '@emudev/dma';
import { countOpenFds, linux, type Sys } from '@emudev/linux';
import { EventConsumer, EventProducer, EventRing, type EmudevError } from '../src/index.ts';
import { checksum, fillRecord } from './event-ring-records.ts';

let window: Window;
beforeAll(() => { window = Window.open(); });
afterAll(() => { window[Symbol.dispose](); });

const failing = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return (error as EmudevError).code;
  }
  return 'none';
};
/** Cells of a ring, by the table of event-ring.ts. */
const CELL = { magic: 0, capacity: 1, maxRecord: 2, tail: 16, refused: 17, head: 32, sleep: 48 };
const worker = (data: object): Worker => new Worker(new URL('./event-ring-hammer.ts', import.meta.url), { workerData: { memory: window.memory, base: window.base, ...data } });

describe('an event ring', () => {
  it('is a queue of bounded length, whatever is posted and taken, also when its counters wrap', () => {
    const op = fc.oneof(fc.record({ post: fc.uint8Array({ maxLength: 40 }) }), fc.constant('take' as const));
    fc.assert(fc.property(fc.constantFrom(64, 128, 256), fc.constantFrom(0, 0xffff_ff00, 0x7fff_fff0), fc.array(op, { maxLength: 120 }), (capacityBytes, start, ops) => {
      using ring = new EventRing(window, { capacityBytes, maxRecordBytes: 40 });
      const cells = ring.handle.offset / 4;
      window.u32[cells + CELL.tail] = window.u32[cells + CELL.head] = start;
      const producer = new EventProducer(window, ring.handle);
      const consumer = new EventConsumer(window, ring.handle);
      const model: Uint8Array[] = [];
      const space = (records: Uint8Array[]): number => records.reduce((sum, record) => sum + 4 + Math.ceil(record.length / 4) * 4, 0);
      const into = new Uint8Array(40);
      let refused = 0;
      for (const each of ops) {
        if (each === 'take') {
          const length = consumer.take(into);
          const wanted = model.shift();
          expect(length).toBe(wanted?.length ?? -1);
          if (wanted !== undefined) expect(into.subarray(0, length)).toEqual(wanted);
        } else {
          const fits = space([...model, each.post]) <= capacityBytes;
          expect(producer.post(each.post)).toBe(fits);
          if (fits) model.push(each.post);
          else refused++;
        }
      }
      expect([producer.refused, consumer.refused]).toEqual([refused, refused]);
    }), { numRuns: 200 });
  });

  it('carries a million records to a thread that sleeps and wakes, none lost, changed or out of order', async () => {
    using ring = new EventRing(window, { capacityBytes: 65_536, maxRecordBytes: 64 });
    const producer = new EventProducer(window, ring.handle);
    const thread = worker({ handle: ring.handle, role: 'take' });
    const report = once(thread, 'message');
    const record = new Uint8Array(64);
    let sum = 0;
    for (let i = 0; i < 1_000_000; i++) {
      const length = fillRecord(record, i);
      sum = checksum(sum, record, length);
      // Full: the consumer catches up. Now and then it may run dry and sleep.
      while (!producer.post(record, length)) await nextTurn();
      if (i % 100_000 === 99_999) while (window.i32[ring.handle.offset / 4 + CELL.sleep] !== 1) await nextTurn();
    }
    while (!producer.post(record, 0)) await nextTurn();
    const [seen] = await report as [{ sum: number; taken: number; sleeps: number }];
    expect(seen).toMatchObject({ sum, taken: 1_000_000 });
    expect(seen.sleeps).toBeGreaterThanOrEqual(10);
    expect(producer.refused).toBeGreaterThan(0);
    await thread.terminate();
  });

  it('carries them to an event loop, woken by the eventfd', async () => {
    using ring = new EventRing(window, { capacityBytes: 16_384, maxRecordBytes: 64 });
    const consumer = new EventConsumer(window, ring.handle);
    const into = new Uint8Array(64);
    const records = 50_000;
    const all = Promise.withResolvers<undefined>();
    let [sum, taken] = [0, 0];
    using _watch = consumer.watch(() => {
      // A few a helping: it is called again for the rest.
      for (let i = 0; i < 300; i++) {
        const length = consumer.take(into);
        if (length < 0) break;
        sum = checksum(sum, into, length);
        if (++taken === records) all.resolve(undefined);
      }
    }, all.reject, { ref: true });
    const thread = worker({ handle: ring.handle, role: 'post', records });
    const [posted] = await once(thread, 'message') as [{ sum: number }];
    await all.promise;
    expect([sum, taken]).toEqual([posted.sum, records]);
    await thread.terminate();
  });

  it('costs its producer one system call per sleep of an event loop, and none while the consumer polls', async () => {
    let signals = 0;
    const counting: Sys = Object.assign(Object.create(linux) as Sys, { eventfdSignal: (fd: number) => { signals++; return linux.eventfdSignal(fd); } });
    using ring = new EventRing(window, { capacityBytes: 4096 });
    const producer = new EventProducer(window, ring.handle, counting);
    const consumer = new EventConsumer(window, ring.handle);
    const into = new Uint8Array(consumer.maxRecordBytes);
    for (let i = 0; i < 20; i++) producer.post(Uint8Array.of(i));
    for (let i = 0; i < 20; i++) consumer.take(into);
    expect(signals).toBe(0);
    let woken = Promise.withResolvers<number>();
    using _watch = consumer.watch(() => {
      let count = 0;
      while (consumer.take(into) >= 0) count++;
      woken.resolve(count);
    }, woken.reject, { ref: true });
    // The watch has found nothing and sleeps.
    while (window.i32[ring.handle.offset / 4 + CELL.sleep] !== 2) await nextTurn();
    for (let i = 0; i < 20; i++) producer.post(Uint8Array.of(i));
    expect(await woken.promise).toBe(20);
    expect(signals).toBe(1);
    woken = Promise.withResolvers<number>();
    while (window.i32[ring.handle.offset / 4 + CELL.sleep] !== 2) await nextTurn();
    producer.post(Uint8Array.of(1));
    expect(await woken.promise).toBe(1);
    expect(signals).toBe(2);
  });

  it('wakes a sleeping thread and a watch when it ends', async () => {
    const ring = new EventRing(window, { capacityBytes: 1024 });
    const thread = worker({ handle: ring.handle, role: 'take' });
    const failure = once(thread, 'error').then(() => undefined, (error: unknown) => error);
    while (window.i32[ring.handle.offset / 4 + CELL.sleep] !== 1) await nextTurn();
    const end = once(thread, 'error');
    ring.end();
    expect(await end).toMatchObject([{ code: 'EMUDEV_TRANSPORT' }]);
    await failure;
    ring[Symbol.dispose]();

    const other = new EventRing(window, { capacityBytes: 1024 });
    const ended = Promise.withResolvers<unknown>();
    new EventConsumer(window, other.handle).watch(() => {}, ended.resolve, { ref: true });
    while (window.i32[other.handle.offset / 4 + CELL.sleep] !== 2) await nextTurn();
    other.end();
    expect(await ended.promise).toMatchObject({ code: 'EMUDEV_TRANSPORT' });
    other[Symbol.dispose]();
  });

  it('that is damaged is a typed error to either end, never a hang or a read outside', () => {
    using ring = new EventRing(window, { capacityBytes: 64, maxRecordBytes: 32 });
    const cells = ring.handle.offset / 4;
    const into = new Uint8Array(64);
    const damage = (cell: number, value: number, call: () => unknown): string => {
      const before = window.i32[cells + cell]!;
      window.i32[cells + cell] = value;
      const seen = failing(call);
      window.i32[cells + cell] = before;
      return seen;
    };
    const open = (): EventConsumer => new EventConsumer(window, ring.handle);
    const producer = new EventProducer(window, ring.handle);
    const consumer = open();
    producer.post(Uint8Array.of(1, 2, 3));
    for (const [cell, value] of [[CELL.magic, 0], [CELL.capacity, 96], [CELL.capacity, 128], [CELL.capacity, -64], [CELL.maxRecord, 0], [CELL.maxRecord, 64], [CELL.tail, 2], [CELL.tail, 1000], [CELL.head, 64]] as const) {
      expect([cell, value, damage(cell, value, open)]).toEqual([cell, value, 'EMUDEV_TRANSPORT']);
    }
    for (const call of [() => consumer.take(into), () => consumer.wait(0)]) {
      for (const tail of [2, 3, 1000, -4]) expect(damage(CELL.tail, tail, call)).toBe('EMUDEV_TRANSPORT');
    }
    for (const head of [1, 100, 12]) expect(damage(CELL.head, head, () => producer.post(into, 1))).toBe('EMUDEV_TRANSPORT');
    // The length word of the only record.
    for (const length of [-1, 5, 33, 0x7fff_ffff]) expect(damage(64, length, () => consumer.take(into))).toBe('EMUDEV_TRANSPORT');
    expect(consumer.take(into)).toBe(3);
  });

  it('refuses sizes, places and records that cannot be, and gives memory and descriptor back', () => {
    const [fds, bytes] = [countOpenFds(), window.allocatedBytes];
    for (const capacityBytes of [0, 63, 96, 2 ** 25, Number.NaN]) expect(failing(() => new EventRing(window, { capacityBytes }))).toBe('EMUDEV_BAD_ARG');
    for (const maxRecordBytes of [0, 61, 1.5]) expect(failing(() => new EventRing(window, { capacityBytes: 64, maxRecordBytes }))).toBe('EMUDEV_BAD_ARG');
    const ring = new EventRing(window, { capacityBytes: 64, maxRecordBytes: 32 });
    for (const offset of [0, -64, 65, 2 ** 32, Number.NaN]) expect(failing(() => new EventProducer(window, { ...ring.handle, offset }))).toBe('EMUDEV_BAD_ARG');
    expect(failing(() => new EventProducer(window, { ...ring.handle, sizeBytes: 256 }))).toBe('EMUDEV_TRANSPORT');
    const producer = new EventProducer(window, ring.handle);
    expect(failing(() => producer.post(new Uint8Array(33)))).toBe('EMUDEV_RANGE');
    expect(failing(() => producer.post(new Uint8Array(3), 4))).toBe('EMUDEV_RANGE');
    producer.post(new Uint8Array(9));
    const consumer = new EventConsumer(window, ring.handle);
    expect(failing(() => consumer.take(new Uint8Array(8)))).toBe('EMUDEV_RANGE');
    expect(consumer.take(new Uint8Array(9))).toBe(9);
    const isOpen = (): boolean => existsSync(`/proc/self/fd/${ring.handle.fd}`);
    expect(isOpen()).toBe(true);
    ring[Symbol.dispose]();
    expect(isOpen()).toBe(false);
    ring[Symbol.dispose]();
    expect(failing(() => producer.post(new Uint8Array(1)))).toBe('EMUDEV_TRANSPORT');
    expect(window.allocatedBytes).toBe(bytes);
    // Threads of the tests before may still be giving up descriptors of theirs.
    expect(countOpenFds()).toBeLessThanOrEqual(fds);
  });
});
