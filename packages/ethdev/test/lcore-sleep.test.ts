/** When an lcore spins, how long it sleeps, and for whose sake: its loop with a clock that is turned by hand. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { allocateBurst, type EngineSpec, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop } from '../src/lcore-loop.ts';
import { LCORE_ATTENTIVE, LCORE_COMMAND, LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, type LcoreWorkerData } from '../src/lcore-protocol.ts';
import { EAGER_MS, EAGER_SLEEP_NS, IDLE_SPIN_MS, IDLE_SPINS } from '../src/limits.ts';

const IDLE_LATENCY_US = 100;
const ENGINE: EngineSpec = { name: 'rxonly' };

let window: Window;
let offsets: number[];
let now: number;
/** Milliseconds that a look at the port takes. */
let lookMs: number;
let looks: number;
/** Frames that the next look finds. */
let frames: number;
/** Milliseconds that a sleep takes beyond what was asked. */
let lateMs: number;
let pollsBeforeSleep: number;
/** The next look wakes somebody: an interrupt. */
let wakes: boolean;
const wakeUps = { count: 0 };
/** Looks before each time that the processor was given to others. */
let gaveWay: number[];

const reader = { online: () => {}, offline: () => {}, checkpoint: () => {} } as unknown as QuiescentReader;
const port: PortDatapath = {
  rxBurst: () => {
    now += lookMs;
    looks++;
    const count = frames;
    frames = 0;
    if (wakes) wakeUps.count++;
    wakes = false;
    return count;
  },
  txBurst: (_queue, _burst, count) => count,
  get pollsBeforeSleep() {
    return pollsBeforeSleep;
  },
};

const alloc = (bytes: number): number => {
  const offset = window.alloc(bytes, 64);
  offsets.push(offset);
  return offset;
};

beforeEach(() => {
  window = Window.open();
  offsets = [];
  now = 1000;
  lookMs = 0.001;
  looks = 0;
  frames = 0;
  lateMs = 0;
  pollsBeforeSleep = 0;
  wakes = false;
  wakeUps.count = 0;
  gaveWay = [];
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});

afterEach(() => {
  vi.restoreAllMocks();
  for (const offset of offsets) window.free(offset);
  window[Symbol.dispose]();
});

/** Polls until it has slept `times` times, and returns for how long it meant to, ns. `beforeSleep` may bring frames. */
function sleeps(times: number, beforeSleep: (number: number) => void = () => {}): number[] {
  const control = alloc(LCORE_CONTROL_BYTES);
  const asked: number[] = [];
  const { i32 } = window;
  const sys = {
    eventfdDrain: () => 0,
    yieldProcessor: () => void gaveWay.push(looks),
    pollIn: (_fds: Int32Array, _count: number, timeoutNs: number) => {
      asked.push(timeoutNs);
      now += timeoutNs / 1e6 + lateMs;
      beforeSleep(asked.length);
      if (asked.length === times) Atomics.store(i32, (control >>> 2) + LCORE_COMMAND, 1);
      return 0;
    },
  };
  Atomics.store(i32, (control >>> 2) + LCORE_ATTENTIVE, 1);
  const context = { ...attachWindow(window.memory, window.base), lcore: 0, wakeUps };
  const loop = new LcoreLoop(context, reader, sys, { control, idleSpins: IDLE_SPINS, idleLatencyUs: IDLE_LATENCY_US, wakeFd: -1 } as LcoreWorkerData);
  using burst = allocateBurst(window, 8);
  using keeping = allocateBurst(window, 8);
  loop.add({ id: 1, rx: port, rxQueue: 0, tx: port, txQueue: 0, engine: createEngine(context, ENGINE), announced: false, burst, keeping, counters: alloc(STREAM_COUNTERS_BYTES) });
  loop.setPorts([port], []);
  loop.run();
  return asked;
}

test('an lcore whose port has woken somebody lets others have its processor, once, before it looks again', () => {
  frames = 1;
  wakes = true;
  sleeps(20, (number) => { wakes = number === 10; });
  const beforeSleep = looks - 20;
  expect(gaveWay).toEqual([1, beforeSleep + 11]);
});

describe('an lcore that finds nothing', () => {
  test.each([[0.002, 'a system call for each look'], [0.00003, 'looks at memory']])('spins for a time, not for a number of loops: %s ms, %s', (ms) => {
    lookMs = ms;
    sleeps(1);
    expect(looks).toBeLessThanOrEqual(Math.min(IDLE_SPINS, IDLE_SPIN_MS / ms + 16));
    expect(looks).toBeGreaterThan(Math.min(IDLE_SPINS - 1, IDLE_SPIN_MS / ms));
  });

  test('polls a port as often as that wants, however long it takes', () => {
    lookMs = 0.01;
    pollsBeforeSleep = 288;
    sleeps(1);
    expect(looks).toBeGreaterThan(288);
    expect(looks).toBeLessThanOrEqual(296);
    looks = 0;
    sleeps(5);
    // Once after each sleep, and no more than that.
    expect(looks).toBeLessThanOrEqual(296 + 4);
  });

  test('looks often for a while after a frame, then as rarely as it may, and often again after the next', () => {
    const asked = sleeps(800, (number) => { if (number === 600) frames = 1; });
    const short = (from: number): number => asked.slice(from).findIndex((ns) => ns !== EAGER_SLEEP_NS);
    const eager = short(0);
    expect(eager).toBeGreaterThan((0.8 * EAGER_MS * 1e6) / EAGER_SLEEP_NS);
    expect(eager).toBeLessThanOrEqual((EAGER_MS * 1e6) / EAGER_SLEEP_NS + 1);
    expect(new Set(asked.slice(eager, 600))).toEqual(new Set([IDLE_LATENCY_US * 1000]));
    expect(asked[600]).toBe(EAGER_SLEEP_NS);
  });

  test('looks rarely as soon as it is woken late: others want the processor', () => {
    lateMs = 1;
    const asked = sleeps(100, (number) => { if (number === 50) frames = 1; });
    expect(asked.filter((ns) => ns === EAGER_SLEEP_NS).length).toBe(2);
    expect(asked[0]).toBe(EAGER_SLEEP_NS);
    expect(asked[50]).toBe(EAGER_SLEEP_NS);
  });
});
