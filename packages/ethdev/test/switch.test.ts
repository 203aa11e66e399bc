import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { FRAME_TX_L4_CSUM, FRAME_TX_TSO, Forwarding, LcorePool, LearningSwitch, MAX_SWITCH_PORTS, type ForwardingOptions, type Port, type SwitchPortStats } from '@emudev/ethdev';
import { POISON_TX } from './fixtures/wire-datapath.ts';
import { WirePort, numberOf, until, type WireOptions } from './fixtures/wire-port.ts';

let window: Window;
let quiescence: Quiescence;
let pool: LcorePool;
let ports: WirePort[];
let made: Forwarding[];

beforeEach(() => {
  window = Window.open();
  quiescence = new Quiescence(window);
  ports = [];
  made = [];
});

afterEach(async () => {
  for (const forwarding of made) await forwarding.stop();
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

function forward(options: ForwardingOptions = {}): Forwarding {
  const forwarding = new Forwarding(pool, options);
  made.push(forwarding);
  return forwarding;
}

/** Station n: 02:00:00:00:00:n; 0xff: everybody. */
function frame(to: number, from: number, number: number): Uint8Array {
  const bytes = new Uint8Array(60);
  if (to === 0xff) bytes.fill(0xff, 0, 6);
  else bytes.set([2, 0, 0, 0, 0, to]);
  bytes.set([2, 0, 0, 0, 0, from], 6);
  new DataView(bytes.buffer).setUint32(14, number);
  return bytes;
}

const BROADCAST = 0xff;

/** Whatever has come, by port: the numbers of frames. */
async function arrivals(ports: readonly WirePort[], expected: readonly (readonly number[])[]): Promise<void> {
  const seen: number[][] = ports.map(() => []);
  const want = expected.reduce((sum, list) => sum + list.length, 0);
  await until(() => {
    ports.forEach((p, n) => seen[n]!.push(...p.received().map(numberOf)));
    return seen.reduce((sum, list) => sum + list.length, 0) >= want;
  }, `${JSON.stringify(expected)} arrive`);
  expect(seen).toEqual(expected);
}

const settled = (forwarding: Forwarding, frames: bigint): Promise<void> =>
  until(() => forwarding.switches()[0]!.ports.reduce((sum, { taken }) => sum + taken, 0n) === frames, `${String(frames)} frames are taken`);

const stats = (forwarding: Forwarding, name: string): SwitchPortStats => forwarding.switches()[0]!.ports.find(({ port: p }) => p === name)!;

test('a port that cannot be stopped keeps neither the others nor the switch', async () => {
  pool = await LcorePool.start(2, { window, quiescence });
  const before = window.allocatedBytes;
  const forwarding = forward();
  const [a, b] = [port('a'), port('b')];
  const ofPorts = window.allocatedBytes - before;
  await forwarding.connect({ switched: [a, b] });
  a.stop = () => Promise.reject(new Error('cannot be stopped'));
  await expect(forwarding.stop()).rejects.toThrow('cannot be stopped');
  Reflect.deleteProperty(a, 'stop');
  expect([b.started, window.allocatedBytes - before]).toEqual([false, ofPorts]);
  await a.stop();
  await forwarding.connect({ switched: [b, a] });
  expect(b.started).toBe(true);
});

describe.each([[1], [2], [3]])('on %i lcores', (lcores) => {
  test('unknown addresses are flooded, known ones are not, and an address that moves is found again', async () => {
    pool = await LcorePool.start(lcores, { window, quiescence });
    const forwarding = forward();
    const [a, b, c] = [port('a'), port('b'), port('c')];
    await forwarding.connect({ switched: [a, b, c] });
    // Nobody knows 2 yet.
    a.send(frame(2, 1, 10));
    await arrivals([a, b, c], [[], [10], [10]]);
    // Its answer goes to a alone, and tells where it is.
    b.send(frame(1, 2, 11));
    await arrivals([a, b, c], [[11], [], []]);
    a.send(frame(2, 1, 12));
    await arrivals([a, b, c], [[], [12], []]);
    a.send(frame(BROADCAST, 1, 13));
    await arrivals([a, b, c], [[], [13], [13]]);
    // 2 moves to c.
    c.send(frame(BROADCAST, 2, 14));
    await arrivals([a, b, c], [[14], [14], []]);
    a.send(frame(2, 1, 15));
    await arrivals([a, b, c], [[], [], [15]]);
    // Behind one port: nothing for the others.
    a.send(frame(BROADCAST, 5, 16));
    await arrivals([a, b, c], [[], [16], [16]]);
    a.send(frame(5, 1, 17));
    b.send(frame(1, 6, 18));
    await arrivals([a, b, c], [[18], [], []]);
    await settled(forwarding, 9n);
    expect(stats(forwarding, 'a')).toMatchObject({ taken: 6n, forwarded: 2n, flooded: 3n, filtered: 1n, learned: 2n, moved: 0n, addresses: 2, delivered: 3n, dropped: 0n });
    expect(stats(forwarding, 'b')).toMatchObject({ taken: 2n, forwarded: 2n, learned: 2n, addresses: 1 });
    expect(stats(forwarding, 'c')).toMatchObject({ taken: 1n, flooded: 1n, moved: 1n, addresses: 1, delivered: 4n });
    expect(forwarding.switches()[0]!.addresses.map(({ mac, port: p }) => `${mac} ${p}`).sort()).toEqual(['02:00:00:00:00:01 a', '02:00:00:00:00:02 c', '02:00:00:00:00:05 a', '02:00:00:00:00:06 b']);
  });

  test('frames of one station stay in order, whatever the mix; every one is accounted for', async () => {
    pool = await LcorePool.start(lcores, { window, quiescence });
    const forwarding = forward({ rxQueues: 1 });
    const all = [port('a', { ringBytes: 1 << 19 }), port('b', { queues: 3, ringBytes: 1 << 19 }), port('c', { ringBytes: 4096 }), port('d', { ringBytes: 1 << 19 })];
    const [a, b, , d] = all as [WirePort, WirePort, WirePort, WirePort];
    await forwarding.connect({ switched: all });
    b.send(frame(BROADCAST, 2, 0));
    d.send(frame(BROADCAST, 4, 0));
    await settled(forwarding, 2n);
    let introductions = 0;
    await until(() => (introductions += [...a.received(), ...d.received(), ...[0, 1, 2].flatMap((q) => b.received(q))].length) === 4, 'the two introductions');
    const to = [2, 4, BROADCAST, 2, 9, 4, 4, 2];
    const COUNT = 1000;
    for (let n = 1; n <= COUNT; n++) expect(a.send(frame(to[n % to.length]!, 1, n))).toBe(true);
    const got = { b: [] as number[], d: [] as number[] };
    const wanted = (station: number): number[] => Array.from({ length: COUNT }, (_, n) => n + 1).filter((n) => [station, BROADCAST, 9].includes(to[n % to.length]!));
    await until(() => {
      got.b.push(...[0, 1, 2].flatMap((q) => b.received(q)).map(numberOf));
      got.d.push(...d.received().map(numberOf));
      return got.b.length === wanted(2).length && got.d.length === wanted(4).length;
    }, 'b and d have got theirs');
    expect(got).toEqual({ b: wanted(2), d: wanted(4) });
    await until(() => {
      const { taken } = stats(forwarding, 'a');
      const { delivered, dropped } = stats(forwarding, 'c');
      const relayed = forwarding.report().filter(({ rxPort, txPort }) => rxPort !== 'a' && txPort === 'c').reduce((sum, s) => sum + s.dropped, 0n);
      // c's ring is small: what it did not take is counted by the switch, or by the stream that relays to it.
      return taken === BigInt(COUNT) && delivered + dropped === 2n + BigInt(COUNT / 4) && (dropped > 0n || relayed > 0n);
    }, 'c has lost some, and they are counted');
  });
});

test('a port that goes down is forgotten, and not flooded to', async () => {
  pool = await LcorePool.start(1, { window, quiescence });
  const forwarding = forward();
  const [a, b, c] = [port('a'), port('b'), port('c')];
  await forwarding.connect({ switched: [a, b, c] });
  expect([a, b, c].map((p) => p.peerLinks)).toEqual([[true], [true], [true]]);
  b.send(frame(BROADCAST, 2, 1));
  await arrivals([a, b, c], [[1], [], [1]]);
  b.plug(false);
  expect(stats(forwarding, 'b').addresses).toBe(0);
  a.send(frame(2, 1, 2));
  await arrivals([a, b, c], [[], [], [2]]);
  c.plug(false);
  a.send(frame(2, 1, 3));
  await settled(forwarding, 3n);
  expect(stats(forwarding, 'a')).toMatchObject({ flooded: 1n, alone: 1n });
  b.plug(true);
  a.send(frame(2, 1, 4));
  await arrivals([a, b, c], [[], [4], []]);
  await forwarding.disconnect({ switched: [a, b, c] });
  expect([a, b, c].map((p) => p.peerLinks.at(-1))).toEqual([false, false, false]);
  expect(forwarding.routes).toEqual([]);
  // And everything can be done again.
  await forwarding.connect({ a, b });
});

test('what a frame may leave undone is what every other port can do', async () => {
  pool = await LcorePool.start(1, { window, quiescence });
  const forwarding = forward();
  const [a, b, c] = [port('a', { txCapabilities: FRAME_TX_L4_CSUM }), port('b', { txCapabilities: FRAME_TX_L4_CSUM | FRAME_TX_TSO }), port('c', { txCapabilities: FRAME_TX_TSO })];
  await forwarding.connect({ switched: [a, b, c] });
  expect([a, b, c].map((p) => p.lastConfig?.peerTxCapabilities)).toEqual([FRAME_TX_TSO, 0, FRAME_TX_L4_CSUM]);
});

test('a port whose data path throws ends the stream that met it; the others go on', async () => {
  pool = await LcorePool.start(1, { window, quiescence });
  const forwarding = forward();
  const [a, b, c] = [port('a'), port('b'), port('c')];
  await forwarding.connect({ switched: [a, b, c] });
  b.send(frame(BROADCAST, 2, 1));
  await arrivals([a, b, c], [[1], [], [1]]);
  const poison = frame(2, 1, 2);
  poison[0] = POISON_TX;
  const failed = new Promise<string>((resolve) => forwarding.onEvent((event) => { if (event.kind === 'stream-failed') resolve(event.error.message); }));
  a.send(poison);
  expect(await failed).toMatch(/stream a:0 → switch on lcore 0:0 was stopped: poisoned frame/);
  c.send(frame(2, 3, 3));
  await arrivals([a, b, c], [[], [3], []]);
});

test('a switch that cannot be made leaves no trace', async () => {
  pool = await LcorePool.start(2, { window, quiescence });
  const forwarding = forward({ switch: { addressesPerPort: 16_384 } });
  const [a, b] = [port('a'), port('b', { module: 'file:///nowhere/datapath.js' })];
  const before = window.allocatedBytes;
  await expect(forwarding.connect({ switched: [a, b] })).rejects.toMatchObject({ code: 'ERR_ETHDEV_DATAPATH' });
  await expect(forwarding.connect({ switched: [a] })).rejects.toThrow(/1 ports: want 2 to 64/);
  await expect(forwarding.connect({ switched: [a, a] })).rejects.toThrow(/twice/);
  expect([window.allocatedBytes, forwarding.routes.length, a.open, a.started]).toEqual([before, 0, 0, false]);
  await expect(forward({ switch: { ageingSeconds: 5 } }).connect({ switched: [a, b] })).rejects.toThrow(/5 seconds until an address is old: want 10 to 1000000/);
});

describe('the clock', () => {
  const names = (count: number): Port[] => Array.from({ length: count }, (_, n) => ({ name: `p${String(n)}` }) as Port);

  test('an address is forgotten after its time, and kept as long as it is seen', async () => {
    let now = 1000;
    pool = await LcorePool.start(1, { window, quiescence });
    const forwarding = forward({ switch: { ageingSeconds: 10, now: () => now } });
    const [a, b, c] = [port('a'), port('b'), port('c')];
    await forwarding.connect({ switched: [a, b, c] });
    const known = (): string => forwarding.switches()[0]!.addresses.map(({ mac, ageSeconds }) => `${mac.slice(-2)}: ${ageSeconds.toFixed(1)}`).sort().join();
    b.send(frame(BROADCAST, 2, 0));
    await arrivals([a, b, c], [[0], [], [0]]);
    now += 7000;
    await until(() => known() === '02: 7.0', 'station 2 is 7 s old');
    a.send(frame(2, 1, 1));
    await arrivals([a, b, c], [[], [1], []]);
    expect(known()).toBe('01: 0.0,02: 7.0');
    now += 3000;
    await until(() => known() === '01: 3.0,02: 10.0', 'it is 10 s old, and still known');
    a.send(frame(2, 1, 2));
    await arrivals([a, b, c], [[], [2], []]);
    now += 100;
    await until(() => known() === '01: 0.1', 'it is forgotten');
    a.send(frame(2, 1, 3));
    await arrivals([a, b, c], [[], [3], [3]]);
    // The process was stopped for so long that ten bits of time say nothing: 1024 ticks are as good as none.
    now += 40_000;
    await until(() => known() === '', 'everything is forgotten');
    expect(forwarding.switches()[0]!.ports.map(({ addresses }) => addresses)).toEqual([0, 0, 0]);
  });

  test('as many ports as there may be, and not one more', async () => {
    pool = await LcorePool.start(1, { window, quiescence });
    new LearningSwitch(window, names(MAX_SWITCH_PORTS))[Symbol.dispose]();
    expect(() => new LearningSwitch(window, names(MAX_SWITCH_PORTS + 1))).toThrow(/65 ports: want 2 to 64/);
  });
});
