import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { FRAME_TX_L4_CSUM, FRAME_TX_TSO, Forwarding, LcorePool, parseRoutes, portsOf, routeText, type LcoreEvent } from '@emudev/ethdev';
import { POISON_RX } from './fixtures/wire-datapath.ts';
import { WirePort, numberOf, numbered, until, type WireOptions } from './fixtures/wire-port.ts';

let window: Window;
let quiescence: Quiescence;
let pool: LcorePool;
let ports: WirePort[];

beforeEach(async () => {
  window = Window.open();
  quiescence = new Quiescence(window);
  pool = await LcorePool.start(2, { window, quiescence });
  ports = [];
});

afterEach(async () => {
  await pool.close();
  for (const port of ports) await port.close();
  quiescence[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

function port(name: string, options: WireOptions = {}): WirePort {
  const made = new WirePort(name, options);
  ports.push(made);
  return made;
}

describe('parseRoutes', () => {
  test('A=B, A=A and A', () => {
    const byName = new Map(['a', 'b', 'c', 'd'].map((name) => [name, port(name)]));
    const routes = parseRoutes(' a=b, c ,d=d,', byName);
    expect(routes.map((route) => 'a' in route && [route.a.name, route.b.name])).toEqual([['a', 'b'], ['c', 'c'], ['d', 'd']]);
    expect(routes.map(routeText)).toEqual(['a=b', 'c', 'd']);
  });

  test('A+B+C', () => {
    const byName = new Map(['a', 'b', 'c', 'd', 'e'].map((name) => [name, port(name)]));
    const routes = parseRoutes('a+ b +c,d=e', byName);
    expect(routes.map((route) => portsOf(route).map(({ name }) => name))).toEqual([['a', 'b', 'c'], ['d', 'e']]);
    expect(routes.map(routeText)).toEqual(['a+b+c', 'd=e']);
  });

  test.each([
    ['a=nope', /no port "nope": there are a, b/],
    ['a=b,b', /"b" is in two places/],
    ['a+b,b', /"b" is in two places/],
    ['a+a', /"a" is in two places/],
    ['a+b=a', /want A\+B\+C/],
    ['a+', /want A\+B\+C/],
    [Array.from({ length: 65 }, (_, n) => `p${String(n)}`).join('+'), /2 to 64 ports, these are 65/],
    ['a=b=a', /"a=b=a": want A=B/],
    ['=b', /want A=B/],
    ['a=', /want A=B/],
  ])('%s is refused', (text, message) => {
    const byName = new Map([port('a'), port('b')].map((p) => [p.name, p]));
    expect(() => parseRoutes(text, byName)).toThrow(message);
  });
});

describe('queues and lcores', () => {
  test('every Rx queue has one stream; every Tx queue is filled from one lcore', async () => {
    const a = port('a', { queues: 5, txQueues: 3 });
    const b = port('b', { queues: 2, txQueues: 1 });
    const c = port('c', { queues: 4 });
    const forwarding = new Forwarding(pool);
    await forwarding.start([{ a, b }, { a: c, b: c }]);
    const report = forwarding.report();
    const rx = report.map((s) => `${s.rxPort}:${String(s.rxQueue)}`);
    expect(rx.sort()).toEqual(['a:0', 'a:1', 'a:2', 'a:3', 'a:4', 'b:0', 'b:1', 'c:0', 'c:1', 'c:2', 'c:3']);
    const lcoresOfTx = new Map<string, Set<number>>();
    for (const s of report) {
      const key = `${s.txPort}:${String(s.txQueue)}`;
      lcoresOfTx.set(key, (lcoresOfTx.get(key) ?? new Set()).add(s.lcore));
    }
    expect([...lcoresOfTx.values()].every((lcores) => lcores.size === 1)).toBe(true);
    // One Tx queue: one lcore does it all. Enough queues: both lcores take part.
    expect(new Set(report.filter((s) => s.rxPort === 'a').map((s) => s.lcore)).size).toBe(1);
    expect(new Set(report.filter((s) => s.rxPort === 'c').map((s) => s.lcore)).size).toBe(2);
    expect(b.lastConfig).toMatchObject({ rxQueues: 2, txQueues: 1 });
    expect(c.lastConfig).toMatchObject({ rxQueues: 4, txQueues: 2 });
    await forwarding.stop();
  });

  test('a port learns what its peer does for it', async () => {
    const a = port('a', { txCapabilities: FRAME_TX_TSO | FRAME_TX_L4_CSUM });
    const b = port('b');
    const forwarding = new Forwarding(pool);
    await forwarding.connect({ a, b });
    expect(b.lastConfig?.peerTxCapabilities).toBe(FRAME_TX_TSO | FRAME_TX_L4_CSUM);
    expect(a.lastConfig?.peerTxCapabilities).toBe(0);
    await forwarding.stop();
  });

  test.each([
    [{ name: 'io' }, true],
    [{ name: 'macswap' }, true],
    [{ name: 'rxonly' }, false],
  ] as const)('a port lends frames to a peer that takes them, if the engine looks at headers only: %o', async (engine, lends) => {
    const a = port('a', { takesLoans: true });
    const b = port('b');
    const forwarding = new Forwarding(pool, { engine });
    await forwarding.connect({ a, b });
    expect([a.lastConfig?.peerTakesLoans, b.lastConfig?.peerTakesLoans]).toEqual([false, lends]);
    await forwarding.stop();
    await forwarding.connect({ a, b: a });
    expect(a.lastConfig?.peerTakesLoans).toBe(lends);
    await forwarding.stop();
  });

  test('ports on a switch lend nothing: it sends one frame to several', async () => {
    const [a, b] = [port('a', { takesLoans: true }), port('b', { takesLoans: true })];
    const forwarding = new Forwarding(pool);
    await forwarding.connect({ switched: [a, b] });
    expect([a.lastConfig?.peerTakesLoans ?? false, b.lastConfig?.peerTakesLoans ?? false]).toEqual([false, false]);
    await forwarding.stop();
  });
});

test('both directions forward; frames sent are frames received or counted as dropped', async () => {
  const a = port('a', { queues: 2, ringBytes: 1 << 18 });
  const b = port('b', { queues: 2, ringBytes: 4096 });
  const forwarding = new Forwarding(pool);
  await forwarding.connect({ a, b });
  let sent = 0;
  let fromB = 0;
  for (let i = 0; i < 2000; i++) {
    if (a.send(numbered(i), i % 2)) sent++;
    if (i % 100 === 0 && b.send(numbered(i), 1)) fromB++;
  }
  const towards = (name: string) => forwarding.report().filter((s) => s.txPort === name);
  const sum = (name: string, field: 'received' | 'sent' | 'dropped'): number => Number(towards(name).reduce((total, s) => total + s[field], 0n));
  let arrived = 0;
  await until(() => {
    arrived += b.received(0).length + b.received(1).length;
    return sum('b', 'received') === sent && sum('b', 'sent') + sum('b', 'dropped') === sent && sum('a', 'sent') === fromB;
  }, 'everything is polled');
  arrived += b.received(0).length + b.received(1).length;
  expect(arrived + sum('b', 'dropped')).toBe(sent);
  expect(a.received(0).length + a.received(1).length).toBe(fromB);
  await forwarding.stop();
});

test('stop and start again: order kept, nothing lost that was waiting, nothing twice', async () => {
  const a = port('a');
  const forwarding = new Forwarding(pool, { engine: { name: 'io' } });
  const seen: number[] = [];
  for (let round = 0; round < 4; round++) {
    a.send(numbered(2 * round));
    await forwarding.start([{ a, b: a }]);
    a.send(numbered(2 * round + 1));
    await until(() => {
      seen.push(...a.received().map(numberOf));
      return seen.length === 2 * round + 2;
    }, 'both frames come back');
    await forwarding.stop();
    expect(forwarding.report()).toEqual([]);
  }
  expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(a.calls).toEqual(['start', 'stop', 'start', 'stop', 'start', 'stop', 'start', 'stop']);
});

test('links: each side sees the other, and sees it go when forwarding stops', async () => {
  const a = port('a');
  const b = port('b');
  const forwarding = new Forwarding(pool);
  await forwarding.connect({ a, b });
  expect([a.peerLinks, b.peerLinks]).toEqual([[true], [true]]);
  a.plug(false);
  a.plug(false);
  a.plug(true);
  expect([a.peerLinks, b.peerLinks]).toEqual([[true], [true, false, true]]);
  await forwarding.disconnect({ a, b });
  expect([a.peerLinks.at(-1), b.peerLinks.at(-1)]).toEqual([false, false]);
});

test('a port in two pairs is refused; a pair that fails to connect leaves no trace', async () => {
  const a = port('a');
  const b = port('b');
  const broken = port('broken', { module: 'file:///nowhere.js' });
  const forwarding = new Forwarding(pool);
  await forwarding.connect({ a, b: a });
  await expect(forwarding.connect({ a, b })).rejects.toMatchObject({ code: 'ERR_ETHDEV_STATE' });
  await expect(forwarding.connect({ a: b, b: broken })).rejects.toMatchObject({ code: 'ERR_ETHDEV_DATAPATH' });
  expect([b.started, broken.started, b.open]).toEqual([false, false, 0]);
  await forwarding.connect({ a: b, b });
  expect(forwarding.report().map((s) => s.rxPort)).toEqual(['a', 'b']);
  await forwarding.stop();
});

test('a failed stream stays in the report with its error while the rest goes on', async () => {
  const a = port('a', { queues: 2 });
  const forwarding = new Forwarding(pool, { engine: (rx) => ({ name: 'icmpecho', mac: rx.info.mac ?? Uint8Array.of(2, 0, 0, 0, 0, 1) }) });
  const failure = new Promise<LcoreEvent>((resolve) => forwarding.onEvent(resolve));
  await forwarding.connect({ a, b: a });
  a.send(new Uint8Array(60).fill(POISON_RX), 1);
  expect((await failure).kind).toBe('stream-failed');
  expect(forwarding.report().map((s) => [s.rxQueue, s.state, s.engine])).toEqual([[0, 'running', 'icmpecho'], [1, 'failed', 'icmpecho']]);
  a.send(numbered(1));
  await until(() => forwarding.report()[0]!.consumed === 1n, 'queue 0 is still polled');
  await forwarding.stop();
});
