/** Asking for cache lines: which streams are polled then, and whose fault it is when that throws. */
import { expect, test, vi } from 'vitest';
import { MAX_HOLD_MS, type PortDatapath } from '@emudev/ethdev';
import { loopRig, type LoopRig } from './loop-rig.ts';

/** A stream for each port, back to itself unless told otherwise. */
function looped(resources: DisposableStack, ports: readonly PortDatapath[], txOf: (rx: PortDatapath) => PortDatapath = (rx) => rx): LoopRig {
  const rig = loopRig(resources);
  for (const port of ports) rig.add(port, txOf(port));
  return rig;
}

// Of the stream whose guest has taken its memory away, not of the lcore
test.each([[0, 7], [1, 8], [2, 9]])('stream %d of three throws: it is its own fault', (failing, id) => {
  using resources = new DisposableStack();
  const ports = Array.from({ length: 3 }, (_, n): PortDatapath => ({
    prefetch: () => {
      if (n === failing) throw new WebAssembly.RuntimeError('memory access out of bounds');
      return true;
    },
    rxBurst: () => 0,
    txBurst: (_queue, _burst, count) => count,
  }));
  const { loop } = looped(resources, ports);
  expect(() => { loop.run(); }).toThrow(/out of bounds/);
  expect(loop.currentId).toBe(id);
});

// More than are asked together
test.each([1, 2, 19])('of %d streams those are polled that may have something, and an only one is', (count) => {
  using resources = new DisposableStack();
  const polls = new Array<number>(count).fill(0);
  const hasSome = (n: number): boolean => n % 3 === 1;
  let loops = 0;
  const ports = Array.from({ length: count }, (_, n): PortDatapath => ({
    prefetch: () => hasSome(n),
    rxBurst: () => {
      polls[n]!++;
      return 0;
    },
    txBurst: (_queue, _burst, sent) => sent,
    tick: () => {
      if (++loops === 5) stop();
      return 0;
    },
  }));
  const { loop, stop } = looped(resources, ports);
  loop.setPorts([ports[0]!], []);
  loop.run();
  expect(polls).toEqual(polls.map((_, n) => (count === 1 || hasSome(n) ? 5 : 0)));
});

test('a port that answers nothing is polled', () => {
  using resources = new DisposableStack();
  let polls = 0;
  const old = { prefetch: () => undefined } as unknown as Required<Pick<PortDatapath, 'prefetch'>>;
  const silent: PortDatapath = {
    ...old,
    rxBurst: () => {
      polls++;
      return 0;
    },
    txBurst: () => 0,
    tick: () => {
      stop();
      return 0;
    },
  };
  const { loop, stop } = looped(resources, [silent, silent]);
  loop.setPorts([silent], []);
  loop.run();
  expect(polls).toBe(2);
});

test('a port is told whether its lcore sends to it, too', () => {
  using resources = new DisposableStack();
  const told: [string, boolean][] = [];
  const port = (name: string): PortDatapath => ({
    prefetch: (_queue, sends) => {
      told.push([name, sends]);
      return false;
    },
    rxBurst: () => 0,
    txBurst: () => 0,
    tick: () => {
      stop();
      return 0;
    },
  });
  const [a, b, c] = [port('a'), port('b'), port('c')];
  const { loop, stop, add, resume } = looped(resources, [a, b], (rx) => (rx === a ? b : a));
  loop.setPorts([a], []);
  add(c, a);
  loop.run();
  expect(told.splice(0)).toEqual([['a', true], ['b', true], ['c', false]]);
  loop.remove(7); // from a to b
  resume();
  loop.run();
  expect(told).toEqual([['b', false], ['c', false]]);
});

test('the moment that a port asks for begins when something waits for it, however long ago the last one was', () => {
  using resources = new DisposableStack();
  using clock = vi.spyOn(performance, 'now');
  let now = 1;
  clock.mockImplementation(() => now);
  let loops = 0;
  let waiting = 3;
  let holds = true;
  let sent = 0;
  const steps: (() => void)[] = [
    // The guest whose frames waited has reset its card
    () => { waiting = 0; },
    () => { holds = false; },
    () => { [now, waiting, holds] = [now + 5 * MAX_HOLD_MS, 3, true]; },
    () => {},
    () => { holds = false; },
    () => { stop(); },
  ];
  const busy: PortDatapath = {
    prefetch: () => waiting !== 0,
    rxBurst: () => {
      const count = waiting;
      waiting = 0;
      return count;
    },
    txBurst: (_queue, _burst, count) => {
      if (holds) return 0;
      sent += count;
      return count;
    },
    holding: () => holds,
    tick: () => {
      steps[loops++]!();
      return 0;
    },
  };
  const quiet: PortDatapath = { rxBurst: () => 0, txBurst: () => 0 };
  const { loop, stop } = looped(resources, [busy, quiet]);
  loop.setPorts([busy], []);
  loop.run();
  expect(sent).toBe(3);
});

test('a port that always has frames delays another by one burst', () => {
  using resources = new DisposableStack();
  const order: string[] = [];
  const port = (name: string, frames: () => number): PortDatapath => ({
    prefetch: () => frames() !== 0,
    rxBurst: (_queue, _burst, max) => {
      order.push(name);
      return Math.min(frames(), max);
    },
    txBurst: (_queue, _burst, count) => count,
  });
  let loops = 0;
  const saturated: PortDatapath = {
    ...port('saturated', () => 1000),
    tick: () => {
      if (++loops === 6) stop();
      return 0;
    },
  };
  const rare = port('rare', () => Number(loops % 3 === 1));
  const { loop, stop } = looped(resources, [saturated, rare]);
  loop.setPorts([saturated], []);
  loop.run();
  expect(order).toEqual(Array.from({ length: 6 }, (_, n) => (n % 3 === 1 ? ['saturated', 'rare'] : ['saturated'])).flat());
});

test('what a stream keeps is sent, though nothing comes', () => {
  using resources = new DisposableStack();
  let held = true;
  let waiting = 3;
  let sent = 0;
  let loops = 0;
  const busy: PortDatapath = {
    prefetch: () => waiting !== 0,
    rxBurst: () => {
      const count = waiting;
      waiting = 0;
      return count;
    },
    txBurst: (_queue, _burst, count) => {
      if (held) return 0;
      sent += count;
      return count;
    },
    holding: () => held,
    tick: () => {
      held = ++loops < 3;
      if (loops === 6) stop();
      return 0;
    },
  };
  const quiet: PortDatapath = { rxBurst: () => 0, txBurst: () => 0 };
  const { loop, stop } = looped(resources, [busy, quiet]);
  loop.setPorts([busy], []);
  loop.run();
  expect(sent).toBe(3);
});
