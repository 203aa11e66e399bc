import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Window } from '@emudev/dma';
import { countOpenFds, linux } from '@emudev/linux';
import { EmudevRegistry, FdDoorbell, TrapDoorbell, watchDoorbell, type DoorbellInfo } from '../src/index.ts';
import { CONTRACT, LoggingBackEnd, toyProvider } from './fakes.ts';

/** Waits for calls; each `next` takes one. */
function calls(): { onRing: (value: number | undefined) => void; next: () => Promise<number | undefined>; readonly waiting: number } {
  const seen: (number | undefined)[] = [];
  let wanted: PromiseWithResolvers<undefined> | undefined;
  return {
    onRing: (value) => { seen.push(value); wanted?.resolve(undefined); },
    get waiting() { return seen.length; },
    async next() {
      while (seen.length === 0) await (wanted = Promise.withResolvers<undefined>()).promise;
      return seen.shift();
    },
  };
}
/** A thread that stores into a word as a guest's processor does, and notifies as a provider does that hears of it. */
const STORE = `
const { workerData: { memory, word, value, notify } } = require('node:worker_threads');
const i32 = new Int32Array(memory.buffer);
Atomics.store(i32, word, value);
if (notify) Atomics.notify(i32, word);
`;

describe('doorbells', () => {
  it('of kind trap tell every subscriber what was stored; one that throws is reported, one that left hears nothing', () => {
    const errors: unknown[] = [];
    const bell = new TrapDoorbell(3, (error) => errors.push(error));
    const heard: unknown[] = [];
    using _bad = watchDoorbell(bell.info, () => { throw new Error('deaf'); });
    const leaving = watchDoorbell(bell.info, (value) => heard.push(['left', value]));
    using _good = watchDoorbell(bell.info, (value) => heard.push(value));
    bell.ring(7);
    leaving[Symbol.dispose]();
    bell.ring(8);
    expect(heard).toEqual([['left', 7], 7, 8]);
    expect(errors).toMatchObject([{ message: 'deaf' }, { message: 'deaf' }]);
    bell[Symbol.dispose]();
    bell.ring(9);
    expect(heard.length).toBe(3);
  });

  it('of kind fd ring through a real eventfd, whoever signals it', async () => {
    const before = countOpenFds();
    const bell = new FdDoorbell(4);
    const { onRing, next } = calls();
    const watch = watchDoorbell(bell.info, onRing, { ref: true });
    bell.ring();
    expect(await next()).toBeUndefined();
    linux.eventfdSignal(bell.info.fd);
    await next();
    watch[Symbol.dispose]();
    bell[Symbol.dispose]();
    expect(countOpenFds()).toBeLessThanOrEqual(before);
  });

  it('of kind mem that the provider hears of ring when a thread stores into the word of the window', async () => {
    const window = Window.open();
    const offset = window.alloc(64);
    const { onRing, next } = calls();
    const watch = watchDoorbell({ kind: 'mem', id: 5, offset, trapped: true }, onRing, { ref: true });
    for (const value of [1, 0x8000_0001, 0x8000_0001]) {
      const thread = new Worker(STORE, { eval: true, workerData: { memory: window.memory, word: offset / 4, value: value | 0, notify: true } });
      expect(await next()).toBe(value);
      await once(thread, 'exit');
    }
    watch[Symbol.dispose]();
    window.i32[offset / 4] = 2;
    Atomics.notify(window.i32, offset / 4);
    await nextTurn();
    window.free(offset);
    window[Symbol.dispose]();
  });

  it('of kind mem that nobody hears of are refused with the word to poll, where the store is found', async () => {
    const window = Window.open();
    const offset = window.alloc(64);
    const info: DoorbellInfo = { kind: 'mem', id: 6, offset, trapped: false };
    expect(() => watchDoorbell(info, () => {})).toThrowError(expect.objectContaining({ code: 'EMUDEV_UNSUPPORTED', message: expect.stringContaining(`offset ${offset}`) as string }));
    const thread = new Worker(STORE, { eval: true, workerData: { memory: window.memory, word: offset / 4, value: 17, notify: false } });
    await once(thread, 'exit');
    expect(Atomics.load(window.i32, info.offset / 4)).toBe(17);
    window.free(offset);
    window[Symbol.dispose]();
  });

  it('that change kind, and queues that change, are told in order, awaited, and published', async () => {
    using trap = new TrapDoorbell(0, () => {});
    using fd = new FdDoorbell(0);
    let current: DoorbellInfo = trap.info;
    const port = new EmudevRegistry().allocate('emu_a', toyProvider({ doorbell: (id) => (id === 0 ? current : undefined) }));
    const heard: unknown[] = [];
    port.device.on('queue', (...args) => heard.push(args));
    port.device.on('doorbell', (...args) => heard.push(args));
    class BackEnd extends LoggingBackEnd {
      watch: Disposable | undefined;
      async queue(queue: number, change: string): Promise<void> {
        await nextTurn();
        this.log.push(`queue ${queue} ${change}`);
      }
      async doorbell(id: number): Promise<void> {
        await nextTurn();
        this.log.push(`doorbell ${id} ${port.device.doorbell(id).kind}`);
      }
    }
    const backEnd = new BackEnd();
    port.device.attach(backEnd, CONTRACT);
    await port.ready();
    const changes = [port.queueChanged(2, 'start'), port.queueChanged(2, 'stop'), port.reset('family')];
    current = fd.info;
    changes.push(port.doorbellChanged(0));
    await Promise.all(changes);
    expect(backEnd.log).toEqual(['ready', 'queue 2 start', 'queue 2 stop', 'lock', 'reset family', 'unlock', 'doorbell 0 fd']);
    expect(heard).toEqual([[2, 'start'], [2, 'stop'], [0]]);
  });

  it('and queues whose hook throws are reported; observers hear of the change all the same', async () => {
    const port = new EmudevRegistry().allocate('emu_a', toyProvider());
    const heard: unknown[] = [];
    port.device.on('queue', (queue) => heard.push(queue));
    port.device.on('doorbell', (id) => heard.push(id));
    port.device.on('error', (error) => heard.push((error as Error).message));
    port.device.attach({ lock: () => Promise.resolve(), unlock: () => {}, queue: () => { throw new Error('q'); }, doorbell: () => Promise.reject(new Error('d')) }, CONTRACT);
    await port.queueChanged(1, 'reset');
    await port.doorbellChanged(5);
    expect(heard).toEqual([1, 'q', 5, 'd']);
  });
});
