/** When an lcore spins, how long it sleeps, and for whose sake: its loop with a clock that is turned by hand. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { allocateBurst, type EngineSpec, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop } from '../src/lcore-loop.ts';
import { LCORE_ATTENTIVE, LCORE_COMMAND, LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, type LcoreWorkerData } from '../src/lcore-protocol.ts';
import { IDLE_SPIN_MS, IDLE_SPINS, MAX_AWAY_MS } from '../src/limits.ts';

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
/** Milliseconds that others have the processor when it is offered to them. */
let awayMs: number;
let busyPollUs: number;
let pollsBeforeSleep: number;
/** There is something that no descriptor announces. */
let attentive: boolean;
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
  awayMs = 0;
  busyPollUs = 0;
  pollsBeforeSleep = 0;
  attentive = true;
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
    yieldProcessor: () => {
      gaveWay.push(looks);
      now += awayMs;
    },
    pollIn: (_fds: Int32Array, _count: number, timeoutNs: number) => {
      asked.push(timeoutNs);
      if (timeoutNs > 0) now += timeoutNs / 1e6;
      beforeSleep(asked.length);
      if (asked.length === times) Atomics.store(i32, (control >>> 2) + LCORE_COMMAND, 1);
      return 0;
    },
  };
  Atomics.store(i32, (control >>> 2) + LCORE_ATTENTIVE, attentive ? 1 : 0);
  const context = { ...attachWindow(window.memory, window.base), lcore: 0, wakeUps };
  const loop = new LcoreLoop(context, reader, sys, { control, idleSpins: IDLE_SPINS, idleLatencyUs: IDLE_LATENCY_US, busyPollUs, wakeFd: -1 } as LcoreWorkerData);
  using burst = allocateBurst(window, 8);
  loop.add({ id: 1, rx: port, rxQueue: 0, tx: port, txQueue: 0, engine: createEngine(context, ENGINE), announced: false, burst, counters: alloc(STREAM_COUNTERS_BYTES) });
  loop.setPorts([port], []);
  loop.run();
  return asked;
}

/** How many looks there were before each of so many sleeps. In the sleep of that number a frame comes. */
function looksBeforeSleeps(times: number, frameIn = 0): number[] {
  const counts: number[] = [];
  let before = looks;
  sleeps(times, (number) => {
    counts.push(looks - before);
    before = looks;
    if (number === frameIn) frames = 1;
  });
  return counts;
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

  test('looks without sleeping for a while after a frame, offering its processor to others, and again after the next', () => {
    busyPollUs = 5000;
    const slept = looksBeforeSleeps(4, 2);
    const often = (looks_: number): void => {
      expect(looks_).toBeGreaterThan((0.9 * busyPollUs) / 1000 / lookMs);
      expect(looks_).toBeLessThan((1.1 * busyPollUs) / 1000 / lookMs);
    };
    often(slept[0]!);
    expect(slept[1]).toBe(1);
    often(slept[2]!);
    expect(slept[3]).toBe(1);
    // Not while it spins.
    expect(gaveWay[0]).toBeGreaterThan(IDLE_SPIN_MS / lookMs);
    expect(gaveWay[1]).toBe(gaveWay[0]! + 1);
  });

  test('looks once more and sleeps when others want the processor for long, until the next frame', () => {
    busyPollUs = 5000;
    awayMs = 2 * MAX_AWAY_MS;
    const slept = looksBeforeSleeps(4, 2);
    expect(gaveWay.length).toBe(2);
    expect(slept[0]).toBe(gaveWay[0]! + 1);
    expect(slept[2]).toBe(gaveWay[1]! + 1 - slept[0]! - slept[1]!);
    awayMs = MAX_AWAY_MS / 2;
    gaveWay = [];
    looksBeforeSleeps(1);
    expect(gaveWay.length).toBeGreaterThan(busyPollUs / 1000 / (awayMs + lookMs) - 2);
  });

  test('sleeps where a descriptor announces whatever comes', () => {
    busyPollUs = 5000;
    attentive = false;
    expect(looksBeforeSleeps(1)[0]).toBeLessThan(IDLE_SPIN_MS / lookMs + 16);
    expect(gaveWay).toEqual([]);
  });
});
