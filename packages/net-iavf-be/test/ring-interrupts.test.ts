/** Interrupts per interval (ITR), with a clock that is turned by hand. */
import { evaluateVector, VECTOR_ARMED, VECTOR_CONTROL, VECTOR_FD, VECTOR_LAST, VECTOR_PENDING } from '@emudev/emudev';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, PAUSED_FOR_NOW, Q_BYTES, Q_ITR, Q_VECTOR } from '../src/layout.ts';
import { LOOK_ROUND_LOOPS } from '../src/limits.ts';
import { RingInterrupts } from '../src/ring-interrupts.ts';

const DEVICE = 256;
const BLOCKS = 1024;
const CELLS = [2048, 2112];
const ITR = [2304, 2308, 2312];

/** Two lcores that raise for four rings, two to a vector. */
class Bench {
  readonly memory = new SharedArrayBuffer(4096);
  readonly i32 = new Int32Array(this.memory);
  readonly u32 = new Uint32Array(this.memory);
  readonly fired: { vector: number; at: number }[] = [];
  now = 5_000_000;
  readonly lcores: readonly RingInterrupts[] = [0, 1].map(() => new RingInterrupts(this, DEVICE, (fd) => this.fired.push({ vector: fd, at: this.now }) > 0, () => this.now >>> 0));

  constructor() {
    for (let ring = 0; ring < 4; ring++) {
      this.u32[(this.block(ring) + Q_VECTOR) >>> 2] = CELLS[ring & 1]! >>> 2;
      this.u32[(this.block(ring) + Q_ITR) >>> 2] = ITR[ring & 1]!;
    }
    CELLS.forEach((cells, vector) => {
      this.i32[(cells >>> 2) + VECTOR_FD] = vector;
      this.i32[(cells >>> 2) + VECTOR_LAST] = 0;
    });
  }

  block(ring: number): number {
    return BLOCKS + ring * Q_BYTES;
  }

  /** The guest sets the interval, in units of 2 us. */
  interval(vector: number, units: number): void {
    this.u32[ITR[vector]! >>> 2] = units;
  }

  raise(lcore: number, ring: number): void {
    this.lcores[lcore]!.raise(this.block(ring));
  }

  /** A guest's DYN_CTLN1: what the control thread does. */
  arm(vector: number): void {
    const cells = CELLS[vector]! >>> 2;
    this.i32[cells + VECTOR_ARMED] = 1;
    evaluateVector(this.i32, cells, (fd) => this.fired.push({ vector: fd, at: this.now }) > 0, () => this.now >>> 0);
  }

  pending(vector: number): boolean {
    return this.i32[(CELLS[vector]! >>> 2) + VECTOR_PENDING] === 1;
  }

  pause(on: boolean): void {
    this.u32[(DEVICE + DEV_PAUSED) >>> 2] = on ? PAUSED_FOR_NOW : 0;
  }
}

describe('interrupts of rings', () => {
  it('wait for the interval that the guest has set, and tell the loop for how long', () => {
    const bench = new Bench();
    const [lcore] = bench.lcores;
    bench.interval(0, 25);
    bench.arm(0);
    bench.raise(0, 0);
    expect(bench.fired.length).toBe(1);
    expect(lcore!.tick()).toBe(0);
    bench.arm(0);
    bench.raise(0, 0);
    bench.raise(0, 0);
    expect(lcore!.tick()).toBe(50);
    bench.now += 49;
    expect(lcore!.tick()).toBe(1);
    bench.now += 1;
    expect(lcore!.tick()).toBe(0);
    expect(bench.fired.map(({ at }) => at - 5_000_000)).toEqual([0, 50]);
    expect(lcore!.tick()).toBe(0);
  });

  it('bits that are none of the interval are ignored, and no interval is none', () => {
    const bench = new Bench();
    bench.interval(0, 0xffff_f000);
    for (let n = 1; n <= 3; n++) {
      bench.arm(0);
      bench.raise(0, 0);
      expect(bench.fired.length).toBe(n);
    }
    bench.u32[(bench.block(0) + Q_ITR) >>> 2] = 0;
    bench.arm(0);
    bench.raise(0, 0);
    expect(bench.fired.length).toBe(4);
  });

  it('nothing is raised while the device is paused, nor for a ring without a vector', () => {
    const bench = new Bench();
    const [lcore] = bench.lcores;
    bench.interval(0, 25);
    bench.arm(0);
    bench.raise(0, 0);
    bench.arm(0);
    bench.raise(0, 0);
    bench.pause(true);
    bench.now += 1000;
    expect(lcore!.tick()).toBeGreaterThan(0);
    lcore!.close();
    expect(bench.fired.length).toBe(1);
    bench.pause(false);
    bench.u32[(bench.block(0) + Q_VECTOR) >>> 2] = 0;
    expect(lcore!.tick()).toBe(0);
    expect(bench.fired.length).toBe(1);
  });

  it('an lcore that stops fires what waits', () => {
    const bench = new Bench();
    bench.interval(0, 4095);
    bench.arm(0);
    bench.raise(0, 0);
    bench.arm(0);
    bench.raise(0, 0);
    bench.lcores[0]!.close();
    expect(bench.fired.length).toBe(2);
    expect(bench.pending(0)).toBe(false);
  });

  it('whatever several lcores raise and the guest arms: no two within an interval, and none lost', () => {
    const units = 30;
    const step = fc.oneof(
      fc.tuple(fc.constant('raise' as const), fc.nat({ max: 1 }), fc.nat({ max: 3 })),
      fc.tuple(fc.constant('arm' as const), fc.nat({ max: 1 }), fc.constant(0)),
      fc.tuple(fc.constant('wait' as const), fc.integer({ min: 1, max: 70 }), fc.constant(0)),
      fc.tuple(fc.constant('loop' as const), fc.nat({ max: 1 }), fc.constant(0)),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const bench = new Bench();
      bench.interval(0, units);
      bench.interval(1, units);
      const raised = [0, 0];
      const seen = [0, 0];
      let done = 0;
      const handle = (): void => {
        for (const { vector } of bench.fired.slice(done)) seen[vector] = raised[vector]!;
        done = bench.fired.length;
      };
      for (const [kind, a, b] of steps) {
        if (kind === 'raise') { raised[b & 1]!++; bench.raise(a, b); }
        else if (kind === 'arm') bench.arm(a);
        else if (kind === 'wait') bench.now += a;
        else bench.lcores[a]!.tick();
        handle();
      }
      // The guest arms at last; the lcores loop as they said they would.
      bench.arm(0);
      bench.arm(1);
      for (let due = Math.max(...bench.lcores.map((lcore) => lcore.tick())); due > 0; due = Math.max(...bench.lcores.map((lcore) => lcore.tick()))) bench.now += due;
      handle();
      expect(seen).toEqual(raised);
      for (const vector of [0, 1]) {
        const times = bench.fired.filter((fire) => fire.vector === vector).map(({ at }) => at);
        for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(2 * units);
      }
    }), { numRuns: 1000 });
  });
});

describe('that frames have been sent', () => {
  /** Ring 0 is the guest's Tx ring, ring 2 its Rx ring, of vector 0. */
  const armed = (units = 25): Bench => {
    const bench = new Bench();
    bench.interval(0, units);
    bench.arm(0);
    return bench;
  };

  it('is told at the end of the interval, once', () => {
    const bench = armed();
    const [lcore] = bench.lcores;
    lcore!.putOff(bench.block(0));
    lcore!.putOff(bench.block(0));
    expect(lcore!.tick()).toBe(50);
    expect(bench.fired).toEqual([]);
    bench.now += 50;
    lcore!.tick();
    bench.arm(0);
    bench.now += 1000;
    lcore!.tick();
    expect(bench.fired.map(({ at }) => at - 5_000_000)).toEqual([50]);
  });

  it('is not told if the vector fires meanwhile for what was received, and is if it fired before', () => {
    const bench = armed();
    const [lcore] = bench.lcores;
    lcore!.putOff(bench.block(0));
    bench.raise(0, 2);
    expect(bench.fired.length).toBe(1);
    bench.arm(0);
    bench.now += 1000;
    lcore!.tick();
    expect(bench.fired.length).toBe(1);
    lcore!.putOff(bench.block(0));
    bench.now += 1000;
    lcore!.tick();
    lcore!.tick();
    expect(bench.fired.length).toBe(2);
  });

  it('is told at once without an interval, when the ring gets another vector, and when the lcore stops', () => {
    const bench = armed(0);
    const [lcore] = bench.lcores;
    lcore!.putOff(bench.block(0));
    expect(bench.fired.length).toBe(1);
    bench.interval(0, 25);
    bench.arm(0);
    bench.arm(1);
    lcore!.putOff(bench.block(0));
    bench.u32[(bench.block(0) + Q_VECTOR) >>> 2] = CELLS[1]! >>> 2;
    lcore!.tick();
    expect(bench.fired.map(({ vector }) => vector)).toEqual([0, 1]);
    bench.arm(1);
    bench.now += 1000;
    lcore!.putOff(bench.block(0));
    lcore!.close();
    expect(bench.fired.map(({ vector }) => vector)).toEqual([0, 1, 1]);
  });

  it('waits while the device is paused', () => {
    const bench = armed();
    const [lcore] = bench.lcores;
    lcore!.putOff(bench.block(0));
    bench.pause(true);
    bench.now += 1000;
    expect(lcore!.tick()).toBeGreaterThan(0);
    expect(bench.fired).toEqual([]);
    bench.pause(false);
    lcore!.tick();
    lcore!.tick();
    expect(bench.fired.length).toBe(1);
  });
});

describe('a guest that arms by a store', () => {
  const MAPPED_ITR = 4096;
  const CONTROL = (MAPPED_ITR + 0x1000) >>> 2;

  /** One ring, its vector's VFINT_DYN_CTLN1 and VFINT_ITRN1 in memory; `looks` counts the clock. */
  class Mapped {
    readonly i32 = new Int32Array(new SharedArrayBuffer(12 << 10));
    readonly u32 = new Uint32Array(this.i32.buffer);
    fired = 0;
    looks = 0;
    now = 5_000_000;
    readonly lcore = new RingInterrupts(this, DEVICE, () => ++this.fired > 0, () => {
      this.looks++;
      return this.now;
    });

    constructor() {
      this.u32[(BLOCKS + Q_VECTOR) >>> 2] = CELLS[0]! >>> 2;
      this.u32[(BLOCKS + Q_ITR) >>> 2] = MAPPED_ITR + 64;
      this.u32[(DEVICE + DEV_QUEUE_PAIRS) >>> 2] = 1;
      this.u32[(DEVICE + DEV_TX_BLOCKS) >>> 2] = BLOCKS;
      this.u32[(DEVICE + DEV_RX_BLOCKS) >>> 2] = BLOCKS + Q_BYTES;
      this.i32[(CELLS[0]! >>> 2) + VECTOR_FD] = 3;
      this.i32[(CELLS[0]! >>> 2) + VECTOR_CONTROL] = CONTROL;
    }

    write(word: number): void {
      this.i32[CONTROL] = word;
    }

    loop(times = 1): void {
      for (let i = 0; i < times; i++) this.lcore.tick();
    }
  }

  it('gets what was latched in the next loop, and one interrupt for each arming', () => {
    const mapped = new Mapped();
    mapped.lcore.raise(BLOCKS);
    mapped.loop(3);
    expect(mapped.fired).toBe(0);
    mapped.write(0x19);
    mapped.loop();
    expect(mapped.fired).toBe(1);
    expect(mapped.u32[CONTROL]! & 1).toBe(0);
    mapped.lcore.raise(BLOCKS);
    mapped.loop(1000);
    expect(mapped.fired).toBe(1);
    mapped.write(0x1b);
    mapped.loop();
    expect(mapped.fired).toBe(2);
  });

  it('is looked at again soon by an lcore that nothing else keeps awake, as long as something is latched', () => {
    const mapped = new Mapped();
    expect(mapped.lcore.tick()).toBe(0);
    mapped.lcore.raise(BLOCKS);
    const dueUs = mapped.lcore.tick();
    expect(dueUs).toBeGreaterThan(0);
    expect(dueUs).toBeLessThanOrEqual(1000);
    mapped.write(0x19);
    expect([mapped.lcore.tick(), mapped.fired]).toEqual([0, 1]);
    // While there is no descriptor, the control thread is the one that hears of the next.
    mapped.i32[(CELLS[0]! >>> 2) + VECTOR_FD] = -1;
    mapped.write(0x19);
    mapped.lcore.raise(BLOCKS);
    expect(mapped.lcore.tick()).toBe(0);
  });

  it('sets the interval of the ITR that it names, once: a later write of VFINT_ITRN1 counts', () => {
    const mapped = new Mapped();
    mapped.write(1 | (1 << 3) | (20 << 5));
    mapped.lcore.raise(BLOCKS);
    expect([mapped.fired, mapped.u32[(MAPPED_ITR + 64) >>> 2]]).toEqual([1, 20]);
    mapped.write(0x19);
    mapped.lcore.raise(BLOCKS);
    expect(mapped.lcore.tick()).toBe(40);
    mapped.u32[(MAPPED_ITR + 64) >>> 2] = 7;
    mapped.now += 40;
    mapped.loop();
    expect([mapped.fired, mapped.u32[(MAPPED_ITR + 64) >>> 2]]).toEqual([2, 7]);
  });

  it('a word of 0 disarms and sets no interval', () => {
    const mapped = new Mapped();
    mapped.u32[MAPPED_ITR >>> 2] = 9;
    mapped.write(0x19);
    mapped.write(0);
    mapped.lcore.raise(BLOCKS);
    mapped.loop(2 * LOOK_ROUND_LOOPS);
    expect([mapped.fired, mapped.u32[MAPPED_ITR >>> 2]]).toEqual([0, 9]);
  });

  it('SWINT_TRIG is found though nothing is raised; without INTENA it waits for the next arming, and WB_ON_ITR is none', () => {
    const mapped = new Mapped();
    mapped.write(0x0100_001d);
    mapped.loop(LOOK_ROUND_LOOPS);
    expect(mapped.fired).toBe(1);
    mapped.loop(2 * LOOK_ROUND_LOOPS);
    expect(mapped.fired).toBe(1);
    mapped.write(0x1c);
    mapped.loop(LOOK_ROUND_LOOPS);
    mapped.write(0x4000_0018);
    mapped.loop(LOOK_ROUND_LOOPS);
    expect(mapped.fired).toBe(1);
    mapped.write(0x19);
    mapped.loop();
    expect(mapped.fired).toBe(2);
  });

  it('what the control thread or an lcore that is gone has latched is found by the next that looks round', () => {
    const mapped = new Mapped();
    mapped.i32[(CELLS[0]! >>> 2) + VECTOR_PENDING] = 1;
    mapped.write(0x19);
    mapped.loop(LOOK_ROUND_LOOPS);
    expect(mapped.fired).toBe(1);
  });

  it('INTENA_MSK counts as armed, because what it would leave alone is gone', () => {
    const mapped = new Mapped();
    mapped.write(0x8000_0018 | 0);
    mapped.lcore.raise(BLOCKS);
    mapped.lcore.raise(BLOCKS);
    mapped.loop(2 * LOOK_ROUND_LOOPS);
    expect(mapped.fired).toBe(1);
  });

  it('one that never arms, because it polls, costs no look at the clock', () => {
    const mapped = new Mapped();
    mapped.u32[(MAPPED_ITR + 64) >>> 2] = 25;
    const send = (): void => {
      mapped.lcore.putOff(BLOCKS);
      mapped.lcore.raise(BLOCKS);
      mapped.now += 10;
      mapped.loop();
    };
    for (let i = 0; i < 100; i++) send();
    const { looks } = mapped;
    for (let i = 0; i < 100; i++) send();
    expect(mapped.looks).toBe(looks);
    expect(mapped.fired).toBe(0);
  });
});

it('rings of a card and what the control thread raises for the same ones wait side by side, all of them', () => {
  const memory = new SharedArrayBuffer(1 << 16);
  const i32 = new Int32Array(memory);
  const u32 = new Uint32Array(memory);
  const blocks = 1 << 14;
  const cells = (n: number): number => 1024 + n * 16;
  const fired: number[] = [];
  const interrupts = new RingInterrupts({ i32, u32 }, DEVICE, (fd) => fired.push(fd) > 0, () => 5_000_000);
  u32[(DEVICE + DEV_QUEUE_PAIRS) >>> 2] = 16;
  u32[(DEVICE + DEV_TX_BLOCKS) >>> 2] = blocks;
  u32[(DEVICE + DEV_RX_BLOCKS) >>> 2] = blocks + 16 * Q_BYTES;
  const all = Array.from({ length: 64 }, (_, n) => n);
  for (const n of all) {
    i32[cells(n) + VECTOR_FD] = n;
    u32[(blocks + n * Q_BYTES + Q_VECTOR) >>> 2] = cells(n);
    interrupts.raise(blocks + n * Q_BYTES);
  }
  for (const n of all) i32[cells(n) + VECTOR_ARMED] = 1;
  interrupts.tick();
  expect(fired.toSorted((a, b) => a - b)).toEqual(all);
});
