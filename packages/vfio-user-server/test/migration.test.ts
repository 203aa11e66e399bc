/** Migration beyond the rules of the conformance suite: devices that are slow, throw or lie, clients that leave in the middle. */
import { linux } from '@emudev/linux';
import type { Migration, MigrationState } from '@emudev/pci';
import { describe, expect, it } from 'vitest';
import { VfioUserServer, type VfioUserServerOptions } from '../src/index.ts';
import { FakeDevice, nextEvent, serve, window } from './fixture.ts';
import { CH_VERSION, ERROR, fields, LVU_VERSION, message, QEMU_VERSION, RawClient, u32, version } from './raw-client.ts';
import {
  caps, EINVAL, EIO, feature, FEATURE, GET, info, GET_INFO, MIG_READ, MIG_STATE, MIG_WRITE, MIGRATION, migRead, migWrite, PRE_COPY, RESET, RESUMING, RUNNING, setState, STOP, STOP_COPY, VERSION,
} from './requests.ts';

const [RUNNING_P2P, PRE_COPY_P2P] = [5, 7];
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** Each call is the test's to replace; what is not replaced succeeds. */
class MovableDevice extends FakeDevice {
  readonly migration: Migration;
  enter: (state: MigrationState, from: MigrationState) => void | Promise<void> = () => undefined;
  readState: (into: Uint8Array) => number | Promise<number> = () => 0;
  writeState: (from: Uint8Array) => void | Promise<void> = () => undefined;

  constructor(preCopy = true, peerToPeer = false) {
    super();
    this.migration = {
      preCopy,
      peerToPeer,
      enter: (state, from) => {
        this.log.push(`enter ${state} from ${from}`);
        return this.enter(state, from);
      },
      readState: (into) => this.readState(into),
      writeState: (from) => this.writeState(from),
    };
  }
}

const stateOf = async (client: RawClient): Promise<number> => u32((await client.request(FEATURE, feature(GET | MIG_STATE, new Uint8Array(0), 16))).payload, 8);
const goTo = async (client: RawClient, ...states: number[]): Promise<void> => {
  for (const state of states) expect(await client.errno(FEATURE, setState(state))).toBe(0);
};
async function connect(server: VfioUserServer, proposal: Uint8Array = LVU_VERSION): Promise<RawClient> {
  const [ours, theirs] = linux.unixSocketPair();
  server.adoptConnection(ours);
  const client = new RawClient(theirs);
  expect(await client.errno(VERSION, proposal)).toBe(0);
  return client;
}
const newServer = (device: FakeDevice, options: Partial<VfioUserServerOptions> = {}): VfioUserServer => new VfioUserServer(device, { window, ...options });
async function leave(client: RawClient): Promise<void> {
  const gone = nextEvent('disconnect');
  client.close();
  await gone;
}

describe('VERSION', () => {
  it.each([[QEMU_VERSION, 'QEMU'], [CH_VERSION, 'Cloud Hypervisor'], [LVU_VERSION, 'libvfio-user']])('announces migration for a device that has it (%#)', async (proposal) => {
    await using s = await serve({ device: new MovableDevice(), version: null });
    const reply = await s.client.request(VERSION, proposal);
    expect(reply.size).toBeLessThanOrEqual(200);
    expect(JSON.parse(new TextDecoder().decode(reply.payload.subarray(4, -1)))).toMatchObject({ capabilities: { migration: { pgsize: 4096 } } });
  });

  it.each([[new MovableDevice(), EINVAL], [new FakeDevice(), 0]])('a page size that is none is refused where it matters (%#)', async (device, errno) => {
    await using s = await serve({ device, version: null });
    expect(await s.client.errno(VERSION, caps('{"migration":{"pgsize":4097}}'))).toBe(errno);
  });
});

describe('changes of state', () => {
  it('happen hop by hop while the device is quiescent, and not at all where there is nothing to do', async () => {
    await using s = await serve({ device: new MovableDevice() });
    s.device.take();
    await goTo(s.client, PRE_COPY, STOP);
    expect(s.device.take()).toEqual(['quiesce migration', 'enter pre-copy from running', 'resume', 'quiesce migration', 'enter running from pre-copy', 'enter stop from running', 'resume']);
    await goTo(s.client, STOP);
    expect(await s.client.errno(FEATURE, setState(RUNNING_P2P))).toBe(EINVAL);
    expect(s.device.take()).toEqual([]);
  });

  it.each<[string, boolean, boolean, number, number[]]>([
    ['nothing optional', false, false, 1, [STOP, RUNNING, STOP_COPY, RESUMING]],
    ['pre-copy', true, false, 5, [STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY]],
    ['peer-to-peer', false, true, 3, [STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P]],
    ['both', true, true, 7, [STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P]],
  ])('a device with %s says so and has these states only', async (_name, preCopy, peerToPeer, flags, states) => {
    await using s = await serve({ device: new MovableDevice(preCopy, peerToPeer) });
    expect(u32((await s.client.request(FEATURE, feature(GET | MIGRATION, new Uint8Array(0), 16))).payload, 8)).toBe(flags);
    for (let state = 0; state < 10; state++) {
      await goTo(s.client, RUNNING);
      expect([state, await s.client.errno(FEATURE, setState(state))]).toEqual([state, states.includes(state) ? 0 : EINVAL]);
      expect(await stateOf(s.client)).toBe(states.includes(state) ? state : RUNNING);
    }
  });

  it('a hop that fails, late and without an errno, is EIO; the device is in the state before, the next attempt starts there', async () => {
    await using s = await serve({ device: new MovableDevice() });
    s.device.enter = async (state) => {
      await turn();
      if (state === 'stop-copy') throw new Error('as told');
    };
    expect(await s.client.errno(FEATURE, setState(STOP_COPY))).toBe(EIO);
    expect(s.server.session?.counters).toMatchObject({ errors: 1, unexpectedErrors: 1 });
    expect(await stateOf(s.client)).toBe(STOP);
    s.device.enter = () => undefined;
    s.device.take();
    await goTo(s.client, STOP_COPY);
    expect(s.device.take()).toEqual(['quiesce migration', 'enter stop-copy from stop', 'resume']);
  });

  it('a reset leaves the state alone', async () => {
    await using s = await serve({ device: new MovableDevice() });
    await goTo(s.client, PRE_COPY);
    expect(await s.client.errno(RESET, new Uint8Array(0))).toBe(0);
    expect(await stateOf(s.client)).toBe(PRE_COPY);
  });
});

describe('the stream', () => {
  it('arrives as it was sent, in whatever pieces', async () => {
    const state = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) ^ (i >> 8));
    const [source, target] = [new MovableDevice(), new MovableDevice()];
    let sent = 0;
    source.readState = async (into) => {
      await turn();
      const piece = state.subarray(sent, sent + Math.min(into.length, 1 + (sent % 997)));
      into.set(piece);
      sent += piece.length;
      return piece.length;
    };
    const received: number[] = [];
    target.writeState = async (from) => {
      await turn();
      received.push(...from);
    };
    await using from = await serve({ device: source });
    await using to = await serve({ device: target });
    await goTo(from.client, STOP_COPY);
    await goTo(to.client, RESUMING);
    for (;;) {
      const { payload } = await from.client.request(MIG_READ, migRead(1024));
      const size = u32(payload, 4);
      if (size === 0) break;
      expect(await to.client.errno(MIG_WRITE, migWrite(payload.subarray(8, 8 + size)))).toBe(0);
    }
    expect(Buffer.compare(Uint8Array.from(received), state)).toBe(0);
  });

  it('waits for the device: the next piece is asked for when the one before has been answered', async () => {
    await using s = await serve({ device: new MovableDevice() });
    const waiting: ((got: number) => void)[] = [];
    s.device.readState = () => new Promise((resolve) => { waiting.push(resolve); });
    await goTo(s.client, STOP_COPY);
    for (let id = 0; id < 3; id++) s.client.send(message(100 + id, MIG_READ, migRead(8)));
    for (let id = 0; id < 3; id++) {
      while (waiting.length === 0) await turn();
      await turn();
      expect([waiting.length, s.client.received]).toEqual([1, 0]);
      waiting.shift()!(id);
      expect(await s.client.next()).toMatchObject({ id: 100 + id, errno: 0 });
    }
  });

  it.each([[LVU_VERSION, 40], [QEMU_VERSION, 3], [CH_VERSION, 3]])('replies are padded for clients that need it, and for no others (%#)', async (proposal, length) => {
    await using s = await serve({ device: new MovableDevice(), version: proposal });
    s.device.readState = (into) => into.fill(9, 0, 3).length && 3;
    await goTo(s.client, PRE_COPY);
    const { payload } = await s.client.request(MIG_READ, migRead(40));
    expect(payload).toEqual(fields(11, 3, Uint8Array.from({ length }, (_, i) => (i < 3 ? 9 : 0))));
  });

  it('a device that claims to have read what it cannot have is EIO, and counted as a defect', async () => {
    await using s = await serve({ device: new MovableDevice() });
    await goTo(s.client, STOP_COPY);
    const nonsense = [9, -1, Number.NaN, 1.5, Number.POSITIVE_INFINITY, undefined as unknown as number, '4' as unknown as number, Promise.resolve(2 ** 40)];
    for (const got of nonsense) {
      s.device.readState = () => got;
      expect(await s.client.errno(MIG_READ, migRead(8))).toBe(EIO);
    }
    expect(s.server.session?.counters).toMatchObject({ errors: nonsense.length, unexpectedErrors: nonsense.length });
    s.device.readState = () => 8;
    expect(await s.client.errno(MIG_READ, migRead(8))).toBe(0);
  });

  it('a device that throws from a piece loses that piece only', async () => {
    await using s = await serve({ device: new MovableDevice() });
    s.device.readState = () => { throw Object.assign(new Error('as told'), { errno: 61 }); };
    s.device.writeState = () => Promise.reject(new Error('as told'));
    await goTo(s.client, STOP_COPY);
    expect(await s.client.errno(MIG_READ, migRead(8))).toBe(61);
    await goTo(s.client, RESUMING);
    expect(await s.client.errno(MIG_WRITE, migWrite(fields(1)))).toBe(EIO);
    expect(await stateOf(s.client)).toBe(RESUMING);
  });

  it.each<[string, Uint8Array]>([['longest size', fields(0xffffffff, 0xffffffff)], ['above the client\'s own limit', migRead(1025)], ['argsz below the size', fields(8, 1024)], ['seven bytes', migRead(8).subarray(0, 7)]])('a read of the %s is EINVAL', async (_name, payload) => {
    await using s = await serve({ device: new MovableDevice() });
    await goTo(s.client, STOP_COPY);
    expect(await s.client.errno(MIG_READ, payload)).toBe(EINVAL);
    expect(await s.client.errno(MIG_READ, migRead(1024))).toBe(0);
  });

  it('a device without migration has none', async () => {
    await using s = await serve();
    for (const [command, payload] of [[MIG_READ, migRead(8)], [MIG_WRITE, migWrite(fields(1))], [FEATURE, setState(STOP)]] as const) expect(await s.client.errno(command, payload)).toBe(EINVAL);
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
  });
});

describe('a client that leaves in another state', () => {
  it.each([[STOP, 'stop'], [STOP_COPY, 'stop-copy'], [PRE_COPY, 'pre-copy'], [RESUMING, 'resuming']] as const)('%s: the device runs again behind its detach, and for the next client', async (state, name) => {
    const device = new MovableDevice();
    await using server = newServer(device);
    const first = await connect(server);
    await goTo(first, state);
    device.take();
    await leave(first);
    expect(device.take()).toEqual(['quiesce detach', 'detach closed', `enter running from ${name}`, 'resume']);
    const next = await connect(server);
    expect(await stateOf(next)).toBe(RUNNING);
    await leave(next);
    expect(device.take()).toEqual(['attach', 'quiesce detach', 'detach closed', 'resume']);
  });

  it('a device that does not want to is told of, and keeps nobody out', async () => {
    const device = new MovableDevice();
    await using server = newServer(device);
    const first = await connect(server);
    await goTo(first, RESUMING);
    device.enter = () => { throw new Error('as told'); };
    const fault = nextEvent('fault');
    await leave(first);
    expect(await fault).toMatchObject({ what: 'leaving the migration state' });
    const next = await connect(server);
    expect(await stateOf(next)).toBe(RUNNING);
    next.close();
  });

  it('while a hop hangs: the session ends, the device is taken back when the hop does, and the next client\'s change comes after that', async () => {
    const device = new MovableDevice();
    await using server = newServer(device, { limits: { departureTimeoutMs: 20 } });
    const first = await connect(server);
    const { promise: hop, resolve: endHop } = Promise.withResolvers<undefined>();
    device.enter = () => hop;
    device.take();
    first.send(message(9, FEATURE, setState(STOP_COPY)));
    while (!device.log.includes('enter stop from running')) await turn();
    await leave(first);
    const next = await connect(server);
    expect(device.take()).toEqual(['quiesce migration', 'enter stop from running', 'quiesce detach', 'detach closed', 'resume', 'attach']);
    next.send(message(7, FEATURE, setState(PRE_COPY)));
    while (!device.log.includes('quiesce migration')) await turn();
    await turn();
    expect(device.take()).toEqual(['quiesce migration']);
    device.enter = () => undefined;
    endHop(undefined);
    expect(await next.next()).toMatchObject({ id: 7, errno: 0 });
    // The hop of the first session was made; its second never is.
    expect(device.take().filter((line) => line.startsWith('enter'))).toEqual(['enter running from stop', 'enter pre-copy from running']);
    expect(await stateOf(next)).toBe(PRE_COPY);
    next.close();
  });

  it('while a piece of state hangs: the session ends', async () => {
    const device = new MovableDevice();
    await using server = newServer(device, { limits: { departureTimeoutMs: 20 } });
    for (const [state, command, payload] of [[STOP_COPY, MIG_READ, migRead(8)], [RESUMING, MIG_WRITE, migWrite(fields(1))]] as const) {
      const { promise: piece, resolve: endPiece } = Promise.withResolvers<number>();
      let asked = false;
      device.readState = device.writeState = (): Promise<never> => {
        asked = true;
        return piece as Promise<never>;
      };
      const client = await connect(server);
      await goTo(client, state);
      client.send(message(9, command, payload));
      while (!asked) await turn();
      await leave(client);
      expect(device.take().at(-1)).toBe('resume');
      endPiece(0);
      while (device.log.length === 0) await turn();
      expect(device.take()).toEqual([`enter running from ${state === STOP_COPY ? 'stop-copy' : 'resuming'}`]);
    }
  });
});

it('a client that says it takes little gets little', async () => {
  await using s = await serve({ device: new MovableDevice(), version: version('{"capabilities":{"max_data_xfer_size":16}}') });
  await goTo(s.client, STOP_COPY);
  expect((await s.client.request(MIG_READ, migRead(17))).flags & ERROR).toBe(ERROR);
  expect((await s.client.request(MIG_READ, migRead(16))).flags & ERROR).toBe(0);
});
