import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { loadKernels, Window } from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import { KERNELS_WASM_BASE64 } from '../src/kernels.gen.ts';
import * as layout from '../src/switch-layout.ts';
import { SWC_CELLS, SWC_FLOODED, SWC_LEARNED, SWC_MOVED, SWC_UNLEARNED, SWITCH_COUNTED, SWITCH_MIXED, TO_FLOOD, TO_NOWHERE } from '../src/switch-layout.ts';
import { createSwitchTwin, type SwitchKernels } from '../src/switch-twin.ts';
import { SwitchBench, type TestFrame } from './fixtures/switch-bench.ts';

const window = Window.open();
const kernels = loadKernels<SwitchKernels>(KERNELS_WASM_BASE64, window.memory);
const twin = createSwitchTwin(window.memory.buffer);
afterAll(() => {
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

const STATION = 0x02_00_00_00_00_00;
const BROADCAST = 0xff_ff_ff_ff_ff_ff;
const RESERVED = 0x01_80_c2_00_00_00;

test('the AssemblyScript mirror says what the TypeScript layout says', () => {
  const source = readFileSync(new URL('../src/kernels/switch-layout.ts', import.meta.url), 'utf8');
  const mirror = [...source.matchAll(/^export const (\w+): u32 = (.+);$/gm)];
  const truth = { ...layout, ...ethdev } as unknown as Record<string, number>;
  expect(mirror.length).toBeGreaterThan(25);
  for (const [, name, value] of mirror) expect(truth[name!], name).toBe(value === '1 << 8' ? 256 : Number(value));
});

/** Addresses from a small pool, so that they meet again; some that nobody may have. */
const address = fc.oneof({ weight: 12, arbitrary: fc.nat(11).map((n) => STATION + n * 0x01_00_01) }, { weight: 1, arbitrary: fc.constantFrom(0, BROADCAST, RESERVED, RESERVED + 14, RESERVED + 16, 0x01_00_5e_00_00_01) });
const frame: fc.Arbitrary<TestFrame> = fc.record({ to: address, from: address, length: fc.constantFrom(60, 60, 60, 60, 14, 13, 0) });
type Step = { readonly kind: 'burst'; readonly source: number; readonly frames: TestFrame[] } | { readonly kind: 'wait'; readonly ticks: number } | { readonly kind: 'forget'; readonly low: number; readonly high: number } | { readonly kind: 'up'; readonly low: number; readonly high: number };
const mask = fc.constantFrom(0, 1, 2, 3, 5, 7, 0x8000_0000);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('burst' as const), source: fc.constantFrom(0, 1, 2, 31, 32, 63), frames: fc.array(frame, { minLength: 1, maxLength: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ticks: fc.constantFrom(1, 100, 256, 257) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), low: mask, high: mask }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('up' as const), low: mask, high: mask }) },
);

/** The rules of a bridge, in a Map. */
class Model {
  readonly table = new Map<number, { port: number; tick: number }>();
  tick = 0;
  up = (1n << 64n) - 1n;

  /** By port, the frames it gets; and what else is counted. */
  burst(source: number, frames: readonly TestFrame[]): { to: Map<number, number[]>; learned: number; moved: number; flooded: number } {
    const to = new Map<number, number[]>();
    let [learned, moved, flooded] = [0, 0, 0];
    const isGroup = (mac: number): boolean => Math.floor(mac / 2 ** 40) % 2 === 1;
    frames.forEach(({ to: destination, from, length = 60 }, n) => {
      if (length < 14 || from === 0 || isGroup(from)) return;
      const before = this.#fresh(from);
      if (before === undefined) learned++;
      else if (before !== source) moved++;
      this.table.set(from, { port: source, tick: this.tick });
      if (destination >= RESERVED && destination < RESERVED + 16) return;
      const known = isGroup(destination) ? undefined : this.#fresh(destination);
      if (known === source) return;
      const hasLink = (port: number): boolean => ((this.up >> BigInt(port)) & 1n) === 1n;
      if (known !== undefined && hasLink(known)) {
        to.set(known, [...(to.get(known) ?? []), n]);
        return;
      }
      const others = Array.from({ length: 64 }, (_, port) => port).filter((port) => port !== source && hasLink(port));
      if (others.length > 0) flooded++;
      for (const port of others) to.set(port, [...(to.get(port) ?? []), n]);
    });
    return { to, learned, moved, flooded };
  }

  forget(ports: bigint): void {
    for (const [mac, { port }] of this.table) if (((ports >> BigInt(port)) & 1n) === 1n || this.#fresh(mac) === undefined) this.table.delete(mac);
  }

  #fresh(mac: number): number | undefined {
    const entry = this.table.get(mac);
    return entry !== undefined && this.tick - entry.tick <= 256 ? entry.port : undefined;
  }
}

const ports = (low: number, high: number): bigint => BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);

function play(steps: readonly Step[], benches: readonly SwitchBench[], model?: Model): void {
  let tick = 0;
  for (const s of steps) {
    if (s.kind === 'wait') {
      tick += s.ticks;
      // As the control thread does: what is old is forgotten before the clock moves on.
      for (const bench of benches) {
        bench.forget(tick);
        bench.tick(tick);
      }
      if (model !== undefined) model.tick = tick;
    } else if (s.kind === 'forget') {
      const [forgotten] = new Set(benches.map((bench) => bench.forget(tick, s.low, s.high)));
      expect(forgotten).toBeGreaterThanOrEqual(0);
      model?.forget(ports(s.low, s.high));
    } else if (s.kind === 'up') {
      for (const bench of benches) bench.up(s.low, s.high);
      if (model !== undefined) model.up = ports(s.low, s.high);
    } else {
      const seen = benches.map((bench) => bench.classify(s.source, s.frames));
      for (const other of seen.slice(1)) expect(other).toEqual(seen[0]);
      const { result, counts } = seen[0]!;
      const gathered = new Map<number, number[]>();
      for (let port = 0; port < 64; port++) {
        const lists = benches.map((bench) => bench.gather(s.source, s.frames.length, port));
        for (const other of lists.slice(1)) expect(other).toEqual(lists[0]);
        if (lists[0]!.length > 0 && ((ports(seen[0]!.set[0]!, seen[0]!.set[1]!) >> BigInt(port)) & 1n) === 1n) gathered.set(port, lists[0]!);
      }
      if ((result & ~SWITCH_COUNTED) !== SWITCH_MIXED) expect([...gathered]).toEqual([[result & ~SWITCH_COUNTED, s.frames.map((_, n) => n)]]);
      if (model === undefined) continue;
      const expected = model.burst(s.source, s.frames);
      expect(gathered).toEqual(expected.to);
      expect([counts[SWC_LEARNED], counts[SWC_MOVED], counts[SWC_FLOODED], counts[SWC_UNLEARNED]]).toEqual([expected.learned, expected.moved, expected.flooded, 0]);
    }
    const states = benches.map((bench) => bench.state());
    for (const other of states.slice(1)) expect(other).toEqual(states[0]);
    const held = new Uint32Array(64);
    for (const word of states[0]!.words) if (word !== 0n) held[Number((word >> 48n) & 63n)]!++;
    expect(states[0]!.held).toEqual(held);
  }
}

describe('kernel and twin', () => {
  test.each([
    ['room for all: and both do what a Map would', { buckets: 512, quota: 1000 }, true],
    ['a table of eight places', { buckets: 2, quota: 1000 }, false],
    ['a quota of two', { buckets: 512, quota: 2 }, false],
  ])('%s', (_, options, modelled) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), fc.integer(), fc.integer(), (steps, a, b) => {
        using first = new SwitchBench(window, kernels, { ...options, seed: [a, b] });
        using second = new SwitchBench(window, twin, { ...options, seed: [a, b] });
        play(steps, [first, second], modelled ? new Model() : undefined);
      }),
      { numRuns: 40 },
    );
  });
});

describe.each([['kernel', kernels], ['twin', twin]])('%s', (_, implementation) => {
  test('a guest that makes up addresses keeps its neighbours known', () => {
    using bench = new SwitchBench(window, implementation, { buckets: 256, quota: 256 });
    for (let n = 0; n < 100; n++) bench.classify(1, [{ to: BROADCAST, from: STATION + n }]);
    let made = 0;
    let counts = 0;
    for (let round = 0; round < 200; round++) {
      const { counts: cells } = bench.classify(2, Array.from({ length: 64 }, () => ({ to: BROADCAST, from: 0x06_00_00_00_00_00 + made++ * 0x10_01 })));
      counts += cells[SWC_UNLEARNED]!;
    }
    const { held } = bench.state();
    expect(held[2]).toBeLessThanOrEqual(256);
    expect(held[1]).toBe(100);
    expect(counts).toBe(made - held[2]!);
    for (let n = 0; n < 100; n++) expect(bench.classify(0, [{ to: STATION + n, from: STATION + 5000 }]).destinations).toEqual([1]);
  });

  test('with all quotas used up an address still finds a place, nearly always', () => {
    using bench = new SwitchBench(window, implementation, { buckets: 512, quota: 256 });
    for (let port = 0; port < 4; port++) {
      for (let n = 0; n < 256; n++) bench.classify(port, [{ to: BROADCAST, from: STATION + port * 0x100_0000 + n * 7 }]);
    }
    const { held } = bench.state();
    expect(held.slice(0, 4).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(1024 * 0.99);
  });

  test('a full port cannot take an address over: it is then nowhere, and flooded', () => {
    using bench = new SwitchBench(window, implementation, { buckets: 16, quota: 1 });
    bench.classify(0, [{ to: BROADCAST, from: STATION }]);
    bench.classify(1, [{ to: BROADCAST, from: STATION + 1 }]);
    expect(bench.classify(2, [{ to: STATION, from: STATION + 2 }]).destinations).toEqual([0]);
    expect(bench.classify(1, [{ to: BROADCAST, from: STATION }]).counts[SWC_UNLEARNED]).toBe(1);
    expect(bench.classify(2, [{ to: STATION, from: STATION + 2 }]).destinations).toEqual([TO_FLOOD]);
    expect([...bench.state().held.slice(0, 3)]).toEqual([0, 1, 1]);
  });

  test('a burst of the largest size: every frame has a destination, and none is written behind them', () => {
    using bench = new SwitchBench(window, implementation, { buckets: 16, quota: 64, capacity: 1024 });
    const frames = Array.from({ length: 1024 }, (__, n) => ({ to: n % 2 === 0 ? BROADCAST : RESERVED, from: STATION }));
    const { destinations, counts } = bench.classify(63, frames);
    expect(destinations).toEqual(frames.map(({ to }) => (to === BROADCAST ? TO_FLOOD : TO_NOWHERE)));
    expect(counts).toHaveLength(SWC_CELLS);
    expect(bench.gather(63, 1024, 0)).toEqual(Array.from({ length: 512 }, (__, n) => 2 * n));
    expect(bench.gather(63, 1024, 63)).toEqual([]);
  });
});
