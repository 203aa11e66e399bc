/** Features and migration against devices that follow the rules; how they may break them is in hostile-server.test.ts. */
import { countOpenFds } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { migrate } from '../src/index.ts';
import type { MigrationState } from '../src/index.ts';
import { attach, collect } from './fake-server.ts';
import type { Attached, Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

const STATES: MigrationState[] = ['error', 'stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p'];

class Device {
  state: MigrationState = 'running';
  readonly states: MigrationState[] = [];
  /** What it offers in pre-copy and in stop-copy. */
  preCopy = new Uint8Array(0);
  stopCopy = new Uint8Array(0);
  restored: number[] = [];
  padded = false;
  flags = 5;
  refuse: MigrationState | undefined;
  readonly sizes: number[] = [];
  #at = 0;

  readonly handler: Handler = (frame, server) => {
    switch (frame.command) {
      case p.VFIO_USER_DEVICE_FEATURE: {
        const { feature, operations, data } = p.decodeDeviceFeature(frame.payload);
        const known = feature === p.VFIO_DEVICE_FEATURE_MIGRATION ? p.VFIO_DEVICE_FEATURE_GET : feature === p.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE ? p.VFIO_DEVICE_FEATURE_GET | p.VFIO_DEVICE_FEATURE_SET : 0;
        if ((operations & ~p.VFIO_DEVICE_FEATURE_PROBE & ~known) !== 0 || known === 0) return server.refuse(frame, p.EINVAL);
        if ((operations & p.VFIO_DEVICE_FEATURE_PROBE) !== 0) return server.reply(frame, frame.payload);
        if (operations === p.VFIO_DEVICE_FEATURE_GET) {
          return server.reply(frame, p.encodeDeviceFeature(feature, operations, feature === p.VFIO_DEVICE_FEATURE_MIGRATION ? p.encodeMigrationFeature(this.flags) : p.encodeMigDeviceState(STATES.indexOf(this.state))));
        }
        const state = STATES[p.decodeMigDeviceState(data)]!;
        if (state === this.refuse) return server.refuse(frame, p.EBUSY);
        this.state = state;
        this.states.push(state);
        this.#at = 0;
        return server.reply(frame, frame.payload);
      }
      case p.VFIO_USER_MIG_DATA_READ: {
        const size = p.decodeMigDataRead(frame.payload, 64);
        this.sizes.push(size);
        const data = (this.state === 'pre-copy' ? this.preCopy : this.stopCopy).subarray(this.#at, this.#at + size);
        this.#at += data.length;
        return server.reply(frame, p.encodeMigDataReadReply(data, this.padded ? size : data.length));
      }
      case p.VFIO_USER_MIG_DATA_WRITE:
        this.restored.push(...p.decodeMigDataWrite(frame.payload, 64));
        return server.reply(frame);
    }
    server.reply(frame);
  };
}

async function attachDevice(set: Partial<Device> = {}): Promise<Attached & { device: Device }> {
  const device = Object.assign(new Device(), set);
  return Object.assign(await attach(device.handler), { device });
}
const bytes = (length: number, first: number): Uint8Array<ArrayBuffer> => Uint8Array.from({ length }, (_, i) => first + i);

test('features: probed, read and set by number', async () => {
  using at = await attachDevice();
  const { features } = at.client;
  expect(await features.probe(p.VFIO_DEVICE_FEATURE_MIGRATION, ['get'])).toBe(true);
  expect(await features.probe(p.VFIO_DEVICE_FEATURE_MIGRATION, ['get', 'set'])).toBe(false);
  expect(await features.probe(10, ['set'])).toBe(false);
  expect([...(await features.get(p.VFIO_DEVICE_FEATURE_MIGRATION, { maxBytes: 8 }))]).toEqual([5, 0, 0, 0, 0, 0, 0, 0]);
  await features.set(p.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, p.encodeMigDeviceState(1));
  expect(at.device.state).toBe('stop');
  for (const wrong of [() => features.probe(1, []), () => features.get(0x10000, { maxBytes: 8 }), () => features.set(-1, new Uint8Array(0)), () => features.get(1, { maxBytes: -1 }), () => features.get(1, { maxBytes: 1 << 21 })]) {
    await expect(wrong()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  }
});

test('capabilities and state', async () => {
  using at = await attachDevice({ flags: 3 });
  expect(await at.client.migration.capabilities()).toEqual({ stopCopy: true, peerToPeer: true, preCopy: false });
  expect(await at.client.migration.state()).toBe('running');
  await at.client.migration.setState('pre-copy-p2p');
  expect(at.device.state).toBe('pre-copy-p2p');
});

describe('the stream', () => {
  test.each([true, false])('is saved in chunks both sides take, and ends (padded: %s)', async (padded) => {
    using at = await attachDevice({ state: 'stop-copy', stopCopy: bytes(150, 1), padded });
    const chunks = await collect(at.client.migration.save());
    expect(chunks.map((chunk) => chunk.length)).toEqual([64, 64, 22]);
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(bytes(150, 1)));
  });

  test('in chunks of this side where it takes less', async () => {
    const device = Object.assign(new Device(), { state: 'stop-copy', stopCopy: bytes(20, 1) } as const);
    using at = await attach(device.handler, { capabilities: { maxDataXferSize: 16 } });
    expect((await collect(at.client.migration.save())).map((chunk) => chunk.length)).toEqual([16, 4]);
    expect(new Set(device.sizes)).toEqual(new Set([16]));
  });

  test('is asked for one chunk ahead of nobody', async () => {
    using at = await attachDevice({ state: 'stop-copy', stopCopy: bytes(150, 1) });
    for await (const _ of at.client.migration.save()) break;
    expect(at.device.sizes).toHaveLength(1);
  });

  test('that never ends is cut off', async () => {
    using at = await attach((frame, server) => { server.reply(frame, p.encodeMigDataReadReply(new Uint8Array(64))); });
    const all = async (): Promise<void> => { for await (const _ of at.client.migration.save({ maxBytes: 1000 })); };
    await expect(all()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_SHORT' });
  });

  test('is restored from any iterable, split to what the server takes', async () => {
    using at = await attachDevice({ state: 'resuming' });
    await at.client.migration.restore([bytes(100, 0), new Uint8Array(0), bytes(3, 100)]);
    expect(at.device.restored).toEqual([...bytes(103, 0)]);
    for (const size of [0, 65, 1.5]) await expect(at.client.migration.read(size)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });
});

describe('migrate', () => {
  const state = { preCopy: bytes(100, 0), stopCopy: bytes(70, 100) };

  test('moves the state while the source runs, then the rest, then starts the destination', async () => {
    using from = await attachDevice({ ...state, padded: true });
    using to = await attachDevice();
    expect(await migrate(from.client, to.client)).toEqual({ preCopyBytes: 100, stopCopyBytes: 70 });
    expect(from.device.states).toEqual(['pre-copy', 'stop-copy', 'stop']);
    expect(to.device.states).toEqual(['resuming', 'stop', 'running']);
    expect(to.device.restored).toEqual([...bytes(100, 0), ...bytes(70, 100)]);
  });

  test.each([['discard', {}], ['skip', {}], ['send', { flags: 1 }]] as const)('%s, where the source has flags %o', async (preCopy, set) => {
    using from = await attachDevice({ ...state, ...set });
    using to = await attachDevice();
    expect((await migrate(from.client, to.client, { preCopy })).stopCopyBytes).toBe(70);
    expect(to.device.restored).toEqual([...bytes(70, 100)]);
    expect(from.device.states.includes('pre-copy')).toBe(preCopy === 'discard');
  });

  test('a device that is never done while it runs is stopped', async () => {
    using from = await attachDevice({ preCopy: new Uint8Array(10_000), stopCopy: bytes(1, 1) });
    using to = await attachDevice();
    expect(await migrate(from.client, to.client, { maxPreCopyBytes: 200 })).toEqual({ preCopyBytes: 256, stopCopyBytes: 1 });
  });

  test('a destination that fails: the source runs on', async () => {
    using from = await attachDevice(state);
    using to = await attachDevice({ refuse: 'stop' });
    await expect(migrate(from.client, to.client)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED', errno: p.EBUSY });
    expect(from.device.state).toBe('running');
  });

  test('a destination that may be running: the source stays stopped', async () => {
    using from = await attachDevice(state);
    using to = await attachDevice({ refuse: 'running' });
    await expect(migrate(from.client, to.client)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED' });
    expect(from.device.state).toBe('stop');
  });

  test('what was stopped stays stopped', async () => {
    using from = await attachDevice({ ...state, state: 'stop' });
    using to = await attachDevice();
    await migrate(from.client, to.client);
    expect([to.device.state, to.device.restored.length]).toEqual(['stop', 70]);
  });
});
