import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { countOpenFds, linux, threadAffinity } from '@emudev/linux';
import { Lcore, LcorePool, MAX_HOLD_MS, type LcoreEvent, type LcoreOptions, type Stream, type StreamSpec } from '@emudev/ethdev';
import { POISON_RX, POISON_TX, ABSURD_COUNT } from './fixtures/wire-datapath.ts';
import { WirePort, numberOf, numbered, until } from './fixtures/wire-port.ts';

let window: Window;
let quiescence: Quiescence;
let lcore: Lcore;
let ports: WirePort[];

async function startLcore(options: LcoreOptions = {}): Promise<Lcore> {
  lcore = await Lcore.start(0, { window, quiescence }, options);
  return lcore;
}

async function port(name: string, options: ConstructorParameters<typeof WirePort>[1] = {}): Promise<WirePort> {
  const made = new WirePort(name, options);
  ports.push(made);
  await made.configure({ rxQueues: made.info.maxRxQueues, txQueues: made.info.maxTxQueues, peerTxCapabilities: 0 });
  await made.start();
  return made;
}

const stream = (rxPort: WirePort, txPort: WirePort, more: Partial<StreamSpec> = {}): StreamSpec => ({ rxPort, rxQueue: 0, txPort, txQueue: 0, engine: { name: 'io' }, ...more });
const balanced = (s: Stream): boolean => {
  const { received, generated, sent, dropped, consumed } = s.stats();
  return received + generated === sent + dropped + consumed;
};

beforeEach(() => {
  window = Window.open();
  quiescence = new Quiescence(window);
  ports = [];
});

afterEach(async () => {
  await lcore.close();
  for (const p of ports) await p.close();
  quiescence[Symbol.dispose]();
  expect(window.allocatedBytes).toBe(0);
  window[Symbol.dispose]();
});

describe('streams', () => {
  test('frames pass in order; what the far end has no room for is dropped and counted', async () => {
    await startLcore();
    const a = await port('a', { ringBytes: 1 << 20 });
    const b = await port('b', { ringBytes: 4096 });
    for (let i = 0; i < 1000; i++) a.send(numbered(i));
    const s = await lcore.addStream(stream(a, b));
    await until(() => s.stats().received === 1000n && balanced(s), 'all frames are polled');
    const arrived = b.received().map(numberOf);
    const { sent, dropped, sentBytes, receivedBytes } = s.stats();
    expect(BigInt(arrived.length)).toBe(sent);
    expect(sent + dropped).toBe(1000n);
    expect(dropped).toBeGreaterThan(0n);
    expect(receivedBytes).toBe(60_000n);
    expect(sentBytes).toBe(sent * 60n);
    expect(arrived).toEqual([...arrived].sort((x, y) => x - y));
    expect(a.stats().ipackets).toBe(1000n);
    expect(b.stats().opackets).toBe(sent);
  });

  test('a stream that is removed stops before the promise resolves, and can come back', async () => {
    await startLcore();
    const a = await port('a');
    const b = await port('b');
    for (let round = 0; round < 5; round++) {
      const s = await lcore.addStream(stream(a, b));
      expect(a.open).toBe(1);
      a.send(numbered(round));
      await until(() => s.stats().sent === 1n, 'the frame passes');
      await lcore.removeStream(s);
      expect(s.state).toBe('removed');
      expect([a.open, b.open]).toEqual([0, 0]);
      // The figures outlive the stream; its queue is not polled any more.
      expect(s.stats().sent).toBe(1n);
      await lcore.removeStream(s);
    }
    expect(b.received().map(numberOf)).toEqual([0, 1, 2, 3, 4]);
    expect(lcore.streams).toEqual([]);
  });

  test('streams share the data path of a port on an lcore', async () => {
    await startLcore();
    const a = await port('a', { queues: 3 });
    for (let q = 0; q < 3; q++) await lcore.addStream(stream(a, a, { rxQueue: q, txQueue: q }));
    expect(a.open).toBe(1);
    for (let q = 0; q < 3; q++) a.send(numbered(q), q);
    const seen: number[][] = [[], [], []];
    await until(() => {
      seen.forEach((list, q) => list.push(...a.received(q).map(numberOf)));
      return seen.every((list) => list.length > 0);
    }, 'every queue forwards');
    expect(seen).toEqual([[0], [1], [2]]);
  });

  test('come and go in any order while the frames of another pass, each as it was, and leave nothing behind', async () => {
    await startLcore();
    const [a, b] = [await port('a'), await port('b')];
    const others = await Promise.all(['c', 'd', 'e', 'f'].map((name) => port(name)));
    const before = window.allocatedBytes;
    const lasting = await lcore.addStream(stream(a, b));
    const arrived: Uint8Array[] = [];
    let sent = 0;
    const passing = async <R>(change: Promise<R>): Promise<R> => {
      let done = false;
      const changed = change.finally(() => { done = true; });
      const last = sent + 50;
      await until(() => {
        // No more than there is room for at the other end: while a stream is added none is polled
        if (sent - arrived.length < 500 && a.send(numbered(sent))) sent++;
        arrived.push(...b.received());
        return done && sent > last;
      }, 'streams change');
      return changed;
    };
    for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2]]) {
      const streams: Stream[] = [];
      for (const [n, more] of [{}, { burst: 8 }, { burst: 8, arenaBytes: 65_536 }].entries()) {
        streams.push(await passing(lcore.addStream(stream(others[n]!, others[n + 1]!, more))));
        // In the same memory
        others[n]!.send(new Uint8Array(60).fill(0x55));
      }
      for (const n of order) await passing(lcore.removeStream(streams[n]!));
      for (const other of others) other.received();
    }
    await until(() => {
      arrived.push(...b.received());
      return lasting.stats().sent === BigInt(sent) && arrived.length === sent;
    }, 'all frames pass');
    expect(arrived).toEqual(Array.from({ length: sent }, (_, n) => numbered(n)));
    expect(others.map(({ open }) => open)).toEqual([0, 0, 0, 0]);
    await lcore.removeStream(lasting);
    expect(window.allocatedBytes).toBe(before);
  });

  test('rxonly consumes, txonly generates', async () => {
    await startLcore();
    const a = await port('a');
    const b = await port('b', { ringBytes: 4096 });
    const sink = await lcore.addStream(stream(a, b, { engine: { name: 'rxonly' } }));
    a.send(numbered(1));
    await until(() => sink.stats().consumed === 1n, 'the frame is consumed');
    await lcore.removeStream(sink);
    const source = await lcore.addStream(stream(a, b, { engine: { name: 'txonly', frameBytes: 100 } }));
    await until(() => source.stats().sent > 0n && source.stats().dropped > 0n, 'frames are made until there is no room');
    await lcore.removeStream(source);
    expect(balanced(source)).toBe(true);
    expect(b.received().every((frame) => frame.length === 100)).toBe(true);
  });
});

describe('loans', () => {
  test('end in the same loop; what is kept is known by then', async () => {
    await startLcore();
    const [a, b] = [await port('a'), await port('b')];
    b.hold(true);
    const s = await lcore.addStream(stream(a, b));
    for (const number of [3, 4]) a.send(numbered(number));
    await until(() => a.loans.kept === 7 || s.stats().dropped === 2n, 'frames are kept, or were late');
    b.hold(false);
    a.send(numbered(5));
    await until(() => s.stats().sent > 0n, 'the far end takes frames again');
    await lcore.removeStream(s);
    expect([a.loans.open, b.loans.open]).toEqual([0, 0]);
  });

  test('end when the far end throws', async () => {
    await startLcore();
    const [a, b] = [await port('a'), await port('b')];
    await lcore.addStream(stream(a, b));
    const failure = new Promise<LcoreEvent>((resolve) => lcore.onEvent(resolve));
    a.send(new Uint8Array(60).fill(POISON_TX));
    expect((await failure).kind).toBe('stream-failed');
    expect(a.loans).toEqual({ open: 0, kept: 0 });
  });
});

describe('failures', () => {
  test.each([
    ['rxBurst throws', POISON_RX, /a:0 → b:0 was stopped: poisoned frame/],
    ['txBurst throws', POISON_TX, /was stopped: poisoned frame/],
    ['rxBurst returns more than it was asked for', ABSURD_COUNT, /rxBurst returned 65: want 0 to 64/],
  ])('%s: that stream ends, the others go on', async (_, poison, message) => {
    await startLcore();
    const [a, b, c, d] = [await port('a'), await port('b'), await port('c'), await port('d')];
    const bad = await lcore.addStream(stream(a, b));
    const good = await lcore.addStream(stream(c, d));
    const failure = new Promise<LcoreEvent>((resolve) => lcore.onEvent(resolve));
    a.send(new Uint8Array(60).fill(poison));
    const event = await failure;
    // Not toMatchObject: a difference would print the window.
    expect([event.kind, event.lcore]).toEqual(['stream-failed', 0]);
    expect(event.kind === 'stream-failed' && event.stream === bad).toBe(true);
    expect(bad.error?.code).toBe('ERR_ETHDEV_STREAM');
    expect(bad.state).toBe('failed');
    expect(bad.error?.message).toMatch(message);
    // The frame it stumbled over is accounted for.
    expect(balanced(bad)).toBe(true);
    c.send(numbered(7));
    await until(() => good.stats().sent === 1n, 'the other stream forwards');
    expect([a.open, b.open, c.open, d.open]).toEqual([0, 0, 1, 1]);
    await lcore.removeStream(bad);
    // The port itself is as good as before.
    const again = await lcore.addStream(stream(a, b));
    a.send(numbered(8));
    await until(() => again.stats().sent === 1n, 'a new stream forwards');
  });

  test('a data path that cannot be loaded is refused and leaves nothing behind', async () => {
    await startLcore();
    const a = await port('a');
    const missing = await port('missing', { module: 'file:///nowhere/datapath.js' });
    const wrong = await port('wrong', { module: new URL('./fixtures/wire-port.ts', import.meta.url).href });
    await expect(lcore.addStream(stream(a, missing))).rejects.toMatchObject({ code: 'ERR_ETHDEV_DATAPATH' });
    await expect(lcore.addStream(stream(wrong, a))).rejects.toThrow(/wrong: .*wire-port.ts exports no createDatapath/);
    await expect(lcore.addStream(stream(a, a, { engine: { name: 'txonly', frameBytes: 1 } }))).rejects.toThrow(/1 bytes: want 60/);
    expect(a.open).toBe(0);
    expect(lcore.streams).toEqual([]);
    await expect(lcore.addStream(stream(a, a))).resolves.toMatchObject({ state: 'running' });
  });

  test('a thread that dies is reported, and everything of it is given back', async () => {
    await startLcore();
    const a = await port('a');
    const deadly = await port('deadly', { module: new URL('./fixtures/deadly-datapath.ts', import.meta.url).href });
    const s = await lcore.addStream(stream(a, a));
    const death = new Promise<LcoreEvent>((resolve) => lcore.onEvent(resolve));
    await expect(lcore.addStream(stream(deadly, a))).rejects.toMatchObject({ code: 'ERR_ETHDEV_LCORE_DIED' });
    expect(await death).toMatchObject({ kind: 'lcore-died', lcore: 0, error: { code: 'ERR_ETHDEV_LCORE_DIED' } });
    expect(s.state).toBe('failed');
    expect(lcore.state).toBe('dead');
    await expect(lcore.addStream(stream(a, a))).rejects.toMatchObject({ code: 'ERR_ETHDEV_STATE' });
    // Nobody waits for the dead.
    await quiescence.synchronize();
  });
});

describe('idle and busy', () => {
  test('an idle lcore looks at what nothing announces, as long as that has link', async () => {
    await startLcore({ idleSpins: 10, idleLatencyUs: 500 });
    const a = await port('a');
    const b = await port('b');
    b.plug(false);
    const s = await lcore.addStream(stream(a, b));
    await lcore.addStream(stream(b, a));
    const slept = async (times: bigint): Promise<void> => {
      const { sleeps } = lcore.stats();
      await until(() => lcore.stats().sleeps >= sleeps + times, 'it sleeps, again and again');
    };
    await slept(4n);
    a.send(numbered(1));
    await until(() => s.stats().sent === 1n, 'a polled doorbell is found');
    await slept(4n);
    a.plug(false);
    // One sleep may have begun before it heard of that.
    await until(() => { const { sleeps } = lcore.stats(); return linux.pollIn(Int32Array.of(), 0, 20_000_000) === 0 && lcore.stats().sleeps === sleeps; }, 'it sleeps and does not look');
    a.send(numbered(2));
    a.plug(true);
    await until(() => s.stats().sent === 2n, 'a link that comes wakes it');
  });

  test('what a descriptor announces is not looked for; one that is ready for ever is no reason to spin', async () => {
    const wake = linux.eventfd();
    try {
      await startLcore({ idleSpins: 10 });
      const a = await port('a', { wakeFds: [wake] });
      const s = await lcore.addStream(stream(a, a));
      await until(() => lcore.stats().sleeps > 0n, 'it sleeps');
      await until(() => { const { sleeps } = lcore.stats(); return linux.pollIn(Int32Array.of(), 0, 20_000_000) === 0 && lcore.stats().sleeps === sleeps; }, 'it does not look');
      a.send(numbered(1));
      linux.eventfdSignal(wake);
      await until(() => s.stats().sent === 1n, 'the descriptor wakes it');
      // Readable for ever, and nothing comes of it: the lcore must go on sleeping, not spin.
      const before = lcore.stats().sleeps;
      await until(() => lcore.stats().sleeps > before + 12n, 'it still sleeps');
      const { loops } = lcore.stats();
      const sleeps = lcore.stats().sleeps;
      await until(() => lcore.stats().sleeps > sleeps + 3n, 'it still sleeps');
      expect(lcore.stats().loops - loops).toBeLessThan(2048n);
      a.send(numbered(2));
      await until(() => s.stats().sent === 2n, 'frames are still found');
    } finally {
      await lcore.close();
      linux.close(wake);
    }
  });

  test('an lcore is woken by the queues that it polls, not by those of others', async () => {
    const [first, second] = [linux.eventfd(), linux.eventfd()];
    try {
      await startLcore({ idleSpins: 10 });
      const a = await port('a', { queues: 2, wakeFds: [first, second] });
      const b = await port('b', { queues: 2, wakeFds: [second] });
      const s = await lcore.addStream({ ...stream(a, b), rxQueue: 0 });
      await until(() => lcore.stats().sleeps > 0n, 'it sleeps');
      linux.eventfdSignal(second);
      await until(() => { const { sleeps } = lcore.stats(); return linux.pollIn(Int32Array.of(), 0, 20_000_000) === 0 && lcore.stats().sleeps === sleeps; }, 'it sleeps on');
      a.send(numbered(1));
      linux.eventfdSignal(first);
      await until(() => s.stats().sent === 1n, 'its own wakes it');
    } finally {
      await lcore.close();
      for (const fd of [first, second]) linux.close(fd);
    }
  });

  test('frames for a port that holds stay where they are, and none is lost', async () => {
    await startLcore({ idleSpins: 10 });
    const a = await port('a', { ringBytes: 1 << 20 });
    const b = await port('b', { ringBytes: 1 << 20 });
    const s = await lcore.addStream(stream(a, b));
    let next = 0;
    const seen: number[] = [];
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 100; i++) a.send(numbered(next++));
      b.hold(true);
      await quiescence.synchronize();
      const { sent } = s.stats();
      for (let i = 0; i < 100; i++) a.send(numbered(next++));
      await quiescence.synchronize();
      expect(s.stats().sent).toBe(sent);
      b.hold(false);
      seen.push(...b.received().map(numberOf));
    }
    await until(() => s.stats().sent === BigInt(next), 'all are sent');
    seen.push(...b.received().map(numberOf));
    expect(s.stats().dropped).toBe(0n);
    expect(seen).toEqual(Array.from({ length: next }, (_, i) => i));
  });

  test('a port that holds for ever gets no more than its moment', async () => {
    await startLcore({ idleSpins: 10 });
    const a = await port('a');
    const b = await port('b');
    b.hold(true);
    const s = await lcore.addStream(stream(a, b));
    const began = performance.now();
    for (let i = 0; i < 10; i++) a.send(numbered(i));
    await until(() => s.stats().dropped === 10n, 'they are dropped');
    expect(performance.now() - began).toBeGreaterThan(MAX_HOLD_MS - 200);
    b.hold(false);
    a.send(numbered(10));
    await until(() => s.stats().sent === 1n, 'it goes on');
    expect(balanced(s)).toBe(true);
  });

  test('an lcore stays on the processor it is told, and refuses one that does not exist', async () => {
    await startLcore({ cpu: threadAffinity()[0]! });
    await expect(Lcore.start(1, { window, quiescence }, { cpu: 1023 })).rejects.toMatchObject({ code: 'ERR_ETHDEV_LCORE_DIED', message: expect.stringMatching(/sched_setaffinity/) as string });
    for (const options of [{ cpu: -1 }, { cpu: 1.5 }, { idleLatencyUs: 0 }, { idleLatencyUs: 1e9 }]) {
      await expect(Lcore.start(1, { window, quiescence }, options)).rejects.toMatchObject({ code: 'ERR_ETHDEV_CONFIG' });
    }
  });

  test('the signal of a command that comes after it was obeyed does not keep the lcore awake', async () => {
    const signalled: number[] = [];
    const sys = { ...linux, eventfdSignal: (fd: number) => signalled.push(fd) > 0 && linux.eventfdSignal(fd) };
    lcore = await Lcore.start(0, { window, quiescence, sys }, { idleSpins: 10 });
    const a = await port('a');
    await lcore.addStream(stream(a, a));
    const wake = signalled.at(-1)!;
    linux.eventfdSignal(wake);
    await until(() => linux.pollIn(Int32Array.of(wake), 1, 0) === 0, 'the signal is taken');
  });

  test('quiescence is reached while traffic flows and while it does not', async () => {
    await startLcore();
    const a = await port('a', { ringBytes: 1 << 20 });
    const b = await port('b', { ringBytes: 4096 });
    await quiescence.synchronize();
    const s = await lcore.addStream(stream(a, b));
    const source = await port('source', { ringBytes: 4096 });
    const generator = await lcore.addStream(stream(source, source, { engine: { name: 'txonly' } }));
    for (let i = 0; i < 200; i++) {
      a.send(numbered(i));
      await quiescence.synchronize();
      source.received();
    }
    await lcore.removeStream(generator);
    await until(() => s.stats().received === 200n && balanced(s), 'all frames are polled');
    await until(() => lcore.stats().sleeps > 2n, 'it sleeps');
    await quiescence.synchronize();
  });
});

test('a pool starts all its lcores or none, and leaks nothing', async () => {
  await startLcore();
  const fds = countOpenFds();
  const bytes = window.allocatedBytes;
  for (let i = 0; i < 3; i++) {
    const pool = await LcorePool.start(3, { window, quiescence });
    expect(pool.lcores.map((l) => l.id)).toEqual([0, 1, 2]);
    await pool.close();
    await pool.close();
    expect(pool.lcores.map((l) => l.state)).toEqual(['dead', 'dead', 'dead']);
  }
  expect(window.allocatedBytes).toBe(bytes);
  // A thread's own descriptors (its event loop) go a moment after its exit event.
  await until(() => countOpenFds() <= fds, 'descriptors are closed');
  await expect(LcorePool.start(0, { window, quiescence })).rejects.toThrow(/0 lcores: want 1 to 64/);
});

test('an lcore that is closed with streams running lets go of their ports first', async () => {
  await startLcore();
  const a = await port('a');
  const s = await lcore.addStream(stream(a, a));
  a.send(numbered(1));
  await lcore.close();
  expect(a.open).toBe(0);
  expect(s.state).toBe('removed');
  expect(lcore.state).toBe('dead');
});
