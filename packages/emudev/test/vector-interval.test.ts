import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluateVector, monotonicMicros, raiseVector, VECTOR_ARMED, VECTOR_FD, VECTOR_PENDING } from '../src/vector.ts';

/** A vector, and a clock that is turned by hand. */
class Bench {
  readonly i32 = new Int32Array(16);
  readonly fired: number[] = [];
  now: number;

  constructor(now = 0) {
    this.now = now;
    this.i32[VECTOR_FD] = 5;
    // An interrupt of long ago.
    this.i32[4] = (now - 1_000_000) | 0;
  }

  readonly clock = (): number => this.now >>> 0;
  readonly #signal = (): boolean => this.fired.push(this.now) > 0;

  raise(intervalUs: number): number {
    return raiseVector(this.i32, 0, this.#signal, intervalUs, this.clock);
  }

  evaluate(): number {
    return evaluateVector(this.i32, 0, this.#signal, this.clock);
  }

  arm(): number {
    this.i32[VECTOR_ARMED] = 1;
    return this.evaluate();
  }
}

describe('intervals', () => {
  it('the first event after a pause fires at once, the next one when the interval is over, though nothing else comes', () => {
    const bench = new Bench();
    bench.arm();
    expect(bench.raise(50)).toBe(0);
    bench.arm();
    bench.now = 20;
    expect(bench.raise(50)).toBe(30);
    bench.now = 49;
    expect(bench.evaluate()).toBe(1);
    bench.now = 50;
    expect(bench.evaluate()).toBe(0);
    expect(bench.fired).toEqual([0, 50]);
  });

  it('an event that was latched before the vector was armed waits, too', () => {
    const bench = new Bench();
    bench.arm();
    bench.raise(50);
    bench.now = 10;
    expect(bench.raise(50)).toBe(40);
    expect(bench.arm()).toBe(40);
    bench.now = 60;
    bench.evaluate();
    expect(bench.fired).toEqual([0, 60]);
  });

  it('what may not wait takes along what may', () => {
    const bench = new Bench();
    bench.arm();
    bench.raise(50);
    bench.arm();
    bench.now = 10;
    bench.raise(8000);
    expect(bench.raise(20)).toBe(10);
    expect(bench.raise(8000)).toBe(10);
    expect(bench.raise(0)).toBe(0);
    expect(bench.fired).toEqual([0, 10]);
    expect(bench.i32[VECTOR_PENDING]).toBe(0);
  });

  it('the clock may wrap', () => {
    const bench = new Bench(2 ** 32 - 10);
    bench.arm();
    bench.raise(50);
    bench.arm();
    bench.now = 2 ** 32 + 20;
    expect(bench.raise(50)).toBe(20);
    bench.now = 2 ** 32 + 40;
    bench.evaluate();
    expect(bench.fired.length).toBe(2);
  });

  it('time is that of the whole process, not of the thread', () => {
    const [seconds, nanoseconds] = process.hrtime();
    const difference = (monotonicMicros() - ((seconds * 1e6 + nanoseconds / 1000) >>> 0)) | 0;
    expect(Math.abs(difference)).toBeLessThan(50_000);
  });

  it('never two interrupts within an interval, and none lost', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('raise' as const) }),
      fc.record({ do: fc.constant('arm' as const) }),
      fc.record({ do: fc.constant('disarm' as const) }),
      fc.record({ do: fc.constant('wait' as const), us: fc.integer({ min: 1, max: 120 }) }),
      fc.record({ do: fc.constant('tick' as const) }),
    );
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 100 }), fc.array(step, { maxLength: 60 }), (start, interval, steps) => {
      const bench = new Bench(start);
      let wanted = false;
      for (const s of steps) {
        const before = bench.fired.length;
        if (s.do === 'raise') { wanted = true; bench.raise(interval); }
        else if (s.do === 'arm') bench.arm();
        else if (s.do === 'disarm') bench.i32[VECTOR_ARMED] = 0;
        else if (s.do === 'wait') bench.now += s.us;
        else bench.evaluate();
        if (bench.fired.length > before) wanted = false;
      }
      for (let i = 1; i < bench.fired.length; i++) expect(bench.fired[i]! - bench.fired[i - 1]!).toBeGreaterThanOrEqual(interval);
      // Armed at last, and looked at when it says so: what was latched comes.
      const before = bench.fired.length;
      bench.now += bench.arm();
      expect(bench.evaluate()).toBe(0);
      expect(bench.fired.length - before).toBe(wanted ? 1 : 0);
    }), { numRuns: 2000 });
  });
});
