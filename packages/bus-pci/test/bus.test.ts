/** The bus: which devices are probed, by whom, and what becomes of those that fail, vanish, or come later. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BUS_CHANNEL, formatAddress, parseAddress, PciBus, Selection } from '../src/index.ts';
import type { BusDevice, BusEvent, PciDriver } from '../src/index.ts';
import { IDS, ScriptedSource } from './scripted.ts';

const [A, B, C] = ['0000:01:00.0', '0000:01:00.1', '0000:02:00.0'] as const;
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const SOCKET = 'vfio-user:/run/vm0.sock';

/** Takes everything of these ids; says what it did. */
class RecordingDriver implements PciDriver<string> {
  readonly name: string;
  readonly ids: PciDriver<string>['ids'];
  readonly probed: string[] = [];
  readonly removed: string[] = [];
  readonly args: unknown[] = [];
  devices: BusDevice[] = [];
  onProbe: ((device: BusDevice) => Promise<string | 'not-mine'> | string) | undefined;
  onRemove: (() => void) | undefined;

  constructor(name = 'recorder', ids: PciDriver<string>['ids'] = [{}]) {
    this.name = name;
    this.ids = ids;
  }

  async probe(device: BusDevice, args: readonly unknown[]): Promise<string | 'not-mine'> {
    this.probed.push(formatAddress(device.address));
    this.devices.push(device);
    this.args.push(args);
    return await this.onProbe?.(device) ?? `${this.name} ${formatAddress(device.address)}`;
  }

  async remove(handle: string): Promise<void> {
    this.removed.push(handle);
    this.onRemove?.();
  }
}

let events: BusEvent[] = [];
let waiting: { readonly isIt: (event: BusEvent) => boolean; readonly resolve: () => void }[] = [];
const record = (event: unknown): void => {
  events.push(event as BusEvent);
  for (const { isIt, resolve } of waiting) if (isIt(event as BusEvent)) resolve();
};
const until = (isIt: (event: BusEvent) => boolean): Promise<void> => new Promise((resolve) => {
  if (events.some(isIt)) resolve();
  else waiting.push({ isIt, resolve });
});
beforeEach(() => {
  [events, waiting] = [[], []];
  subscribe(BUS_CHANNEL, record);
});
afterEach(() => { unsubscribe(BUS_CHANNEL, record); });

const states = (bus: PciBus): Record<string, string> => Object.fromEntries(bus.devices.map(({ address, state }) => [formatAddress(address), state]));

describe('scan', () => {
  test('lists devices in DPDK\'s order, and says what has changed since', async () => {
    const [kernel, sockets] = [new ScriptedSource(), new ScriptedSource(['vfio-user'])];
    await using bus = new PciBus().addSource(sockets).addSource(kernel);
    sockets.add(SOCKET);
    kernel.add(UUID).add(C).add(A);
    const first = await bus.scan();
    expect(first.devices.map(({ address }) => formatAddress(address))).toEqual([A, C, UUID, SOCKET]);
    expect(first.added).toHaveLength(4);
    kernel.remove(C);
    kernel.add(B).add(UUID, {}, { iommuGroup: 4 });
    const second = await bus.scan();
    expect([second.added, second.removed, second.changed].map((list) => list.map(formatAddress))).toEqual([[B], [C], [UUID]]);
    expect(states(bus)).toEqual({ [A]: 'found', [B]: 'found', [UUID]: 'found', [SOCKET]: 'found' });
  });

  test('a source that fails is in the report, and its devices stay', async () => {
    const [kernel, sockets] = [new ScriptedSource().add(A), new ScriptedSource(['vfio-user']).add(SOCKET)];
    await using bus = new PciBus().addSource(kernel).addSource(sockets);
    await bus.scan();
    kernel.scanError = new Error('no sysfs');
    sockets.remove(SOCKET);
    const report = await bus.scan();
    expect(report).toMatchObject({ failures: [{ kinds: ['pci', 'mdev'], error: { message: 'no sysfs' } }], removed: [{ path: '/run/vm0.sock' }] });
    expect(states(bus)).toEqual({ [A]: 'found' });
  });

  test('of a driven device a difference is reported only', async () => {
    const kernel = new ScriptedSource().add(A);
    await using bus = new PciBus().addSource(kernel).register(new RecordingDriver());
    await bus.probe();
    kernel.add(A, {}, { numaNode: 1 });
    expect((await bus.scan()).changed.map(formatAddress)).toEqual([A]);
    expect(bus.devices[0]).toMatchObject({ state: 'driven', found: { address: { bus: 1 } } });
    expect(bus.devices[0]!.found.numaNode).toBeUndefined();
    kernel.remove(A);
    expect((await bus.scan()).removed.map(formatAddress)).toEqual([A]);
    expect((await bus.scan()).removed).toEqual([]);
    expect(states(bus)).toEqual({ [A]: 'driven' });
    await bus.unplug(parseAddress(A));
    expect(states(bus)).toEqual({});
  });

  test('two sources of one kind are refused', () => {
    expect(() => new PciBus().addSource(new ScriptedSource()).addSource(new ScriptedSource(['mdev']))).toThrow(expect.objectContaining({ code: 'ERR_BUS_STATE' }));
  });
});

describe('probe', () => {
  test('the first driver whose table matches and that takes it wins; \'not-mine\' goes on, with the device as new', async () => {
    const kernel = new ScriptedSource().add(A);
    const [other, shy, keen, late] = [new RecordingDriver('other', [{ vendor: 1 }]), new RecordingDriver('shy'), new RecordingDriver('keen', [{ vendor: IDS.vendor }]), new RecordingDriver('late')];
    shy.onProbe = async (device) => {
      await device.dma.allocate(64);
      return 'not-mine';
    };
    await using bus = new PciBus().addSource(kernel).register(other).register(shy).register(keen).register(late);
    const report = await bus.probe();
    expect(report).toMatchObject({ driven: [{ driver: 'keen', handle: `keen ${A}`, state: 'driven' }], unclaimed: [], failed: [] });
    expect([other.probed, shy.probed, keen.probed, late.probed]).toEqual([[], [A], [A], []]);
    expect(kernel.opened.map(({ ended }) => ended)).toEqual(['closed', undefined]);
    expect(kernel.opened[1]!.maps.size).toBe(0);
  });

  test('a device whose ids sysfs shows is opened for a driver that matches only', async () => {
    const kernel = new ScriptedSource().add(A).add(UUID);
    await using bus = new PciBus().addSource(kernel).register(new RecordingDriver('other', [{ vendor: 1 }]));
    expect((await bus.probe()).unclaimed.map(formatAddress)).toEqual([A, UUID]);
    // The mediated device tells its ids only when it is open: it is closed again.
    expect(kernel.opened.map(({ address, ended }) => [address.kind, ended])).toEqual([['mdev', 'closed']]);
    expect(bus.devices[1]!.ids).toEqual(IDS);
    await bus.probe();
    expect(kernel.opened).toHaveLength(1);
  });

  test('what fails is in the report, and stops no other', async () => {
    const kernel = new ScriptedSource().add(A).add(B).add(C, {}, { unusable: { reason: 'no-driver', detail: 'bind it' } });
    const driver = new RecordingDriver();
    driver.onProbe = (device) => {
      if (formatAddress(device.address) === A) throw new Error('broken card');
      return 'fine';
    };
    await using bus = new PciBus({ selection: Selection.parse({ allow: [A, B, C, '0000:09:00.0'] }) }).addSource(kernel).register(driver);
    const { driven, failed } = await bus.probe();
    expect(driven.map(({ address }) => formatAddress(address))).toEqual([B]);
    expect(failed.map(({ address, error }) => [formatAddress(address), error.code])).toEqual([[C, 'ERR_BUS_UNUSABLE'], ['0000:09:00.0', 'ERR_BUS_GONE'], [A, 'ERR_BUS_PROBE']]);
    expect(failed[2]!.error.cause).toMatchObject({ message: 'broken card' });
    expect(kernel.stillOpen.map(({ address }) => formatAddress(address))).toEqual([B]);
    // What is driven is not probed again; what failed is.
    driver.onProbe = undefined;
    expect((await bus.probe()).driven.map(({ address }) => formatAddress(address))).toEqual([A]);
    expect(driver.probed).toEqual([A, B, A]);
  });

  test('the allow list says who is probed, and with which arguments; the block list who is not', async () => {
    const kernel = new ScriptedSource().add(A).add(B);
    const driver = new RecordingDriver();
    {
      await using bus = new PciBus({ selection: Selection.parse({ allow: [`${B},queues=4`] }) }).addSource(kernel).register(driver);
      await bus.probe();
      expect([driver.probed, driver.args]).toEqual([[B], [[['queues', '4']]]]);
    }
    await using bus = new PciBus({ selection: Selection.parse({ block: [B] }) }).addSource(kernel).register(driver);
    await bus.probe();
    expect(driver.probed).toEqual([B, A]);
  });

  test('a vfio-user socket is connected to when it is named only', async () => {
    const sockets = new ScriptedSource(['vfio-user']).add(SOCKET);
    const driver = new RecordingDriver();
    {
      await using bus = new PciBus().addSource(sockets).register(driver);
      expect(await bus.probe()).toEqual({ driven: [], unclaimed: [], failed: [] });
      expect(sockets.opened).toEqual([]);
      await bus.plug(SOCKET);
    }
    await using bus = new PciBus({ selection: Selection.parse({ allow: [SOCKET] }) }).addSource(sockets).register(driver);
    expect((await bus.probe()).driven).toHaveLength(1);
    expect(driver.probed).toEqual([SOCKET, SOCKET]);
  });

  test('a device that vanishes meanwhile is a typed error, and what the driver made too late is removed', async () => {
    const kernel = new ScriptedSource().add(A);
    const driver = new RecordingDriver();
    const answer = Promise.withResolvers<string>();
    driver.onProbe = async () => {
      kernel.opened[0]!.goAway();
      return answer.promise;
    };
    await using bus = new PciBus().addSource(kernel).register(driver);
    expect((await bus.probe()).failed).toMatchObject([{ error: { code: 'ERR_BUS_GONE' } }]);
    expect(kernel.stillOpen).toEqual([]);
    answer.resolve('late');
    await new Promise(setImmediate);
    expect(driver.removed).toEqual(['late']);
  });

  test('a device that went and came back before its turn is another one: it is not opened for the one that the list had', async () => {
    const kernel = new ScriptedSource();
    const [driver, bus] = [new RecordingDriver(), new PciBus().addSource(kernel)];
    bus.register(driver);
    for (const name of [A, B]) kernel.add(name);
    driver.onProbe = async () => {
      driver.onProbe = undefined;
      kernel.remove(B);
      await bus.scan();
      kernel.add(B);
      return 'mine';
    };
    const { driven, failed } = await bus.probe();
    expect(driven.map(({ address }) => formatAddress(address))).toEqual([A]);
    expect(failed).toMatchObject([{ address: parseAddress(B), error: { code: 'ERR_BUS_GONE' } }]);
    expect(kernel.stillOpen).toHaveLength(1);
    await bus.scan();
    await bus.probe();
    expect(states(bus)).toEqual({ [A]: 'driven', [B]: 'driven' });
    await bus[Symbol.asyncDispose]();
    expect(kernel.stillOpen).toEqual([]);
  });

  test('a device that cannot be opened is a failure of its own kind', async () => {
    const kernel = new ScriptedSource().add(A);
    await using bus = new PciBus().addSource(kernel).register(new RecordingDriver());
    kernel.openError = new Error('EIO');
    expect((await bus.probe()).failed).toMatchObject([{ error: { code: 'ERR_BUS_PROBE', cause: { message: 'EIO' } } }]);
    expect(bus.devices[0]).toMatchObject({ state: 'failed', error: { code: 'ERR_BUS_PROBE' } });
  });
});

describe('plug and unplug', () => {
  test('a device that comes later, with arguments of its own, whatever the selection says', async () => {
    const kernel = new ScriptedSource();
    const driver = new RecordingDriver();
    await using bus = new PciBus({ selection: Selection.parse({ block: [A] }) }).addSource(kernel).register(driver);
    await bus.probe();
    await expect(bus.plug(A)).rejects.toMatchObject({ code: 'ERR_BUS_GONE' });
    kernel.add(A);
    expect(await bus.plug(`${A},speed=9`)).toMatchObject({ driver: 'recorder', handle: `recorder ${A}` });
    expect(driver.args).toEqual([[['speed', '9']]]);
    await expect(bus.plug(A)).rejects.toMatchObject({ code: 'ERR_BUS_STATE' });
    await bus.unplug(parseAddress(A));
    await bus.unplug(parseAddress(A));
    await bus.unplug(parseAddress(B));
    expect([driver.removed, kernel.stillOpen, states(bus)]).toEqual([[`recorder ${A}`], [], { [A]: 'found' }]);
    await bus.plug(A);
    expect(driver.probed).toEqual([A, A]);
  });

  test('of two that plug a device at once, one gets it', async () => {
    const kernel = new ScriptedSource().add(A);
    const driver = new RecordingDriver();
    await using bus = new PciBus().addSource(kernel).register(driver);
    const results = await Promise.allSettled([bus.plug(A), bus.plug(A), bus.unplug(parseAddress(A))]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect([driver.probed.length, kernel.opened.length]).toEqual([1, 1]);
  });

  test('what nobody takes, cannot be used, or fails, is said', async () => {
    const kernel = new ScriptedSource().add(A).add(B, {}, { unusable: { reason: 'not-vfio', detail: 'e1000e has it' } });
    const driver = new RecordingDriver();
    driver.onProbe = () => 'not-mine';
    await using bus = new PciBus().addSource(kernel).register(driver);
    await expect(bus.plug(A)).rejects.toMatchObject({ code: 'ERR_BUS_STATE', message: `no driver takes ${A}` });
    await expect(bus.plug(B)).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE' });
    driver.onProbe = () => { throw new Error('broken'); };
    await expect(bus.plug(A)).rejects.toMatchObject({ code: 'ERR_BUS_PROBE' });
    await expect(bus.plug('nonsense')).rejects.toMatchObject({ code: 'ERR_BUS_ADDRESS' });
    expect(kernel.stillOpen).toEqual([]);
  });

  test('a driver that fails to let go does not keep the device', async () => {
    const kernel = new ScriptedSource().add(A);
    const driver = new RecordingDriver();
    driver.onRemove = () => { throw new Error('stuck'); };
    await using bus = new PciBus().addSource(kernel).register(driver);
    await bus.probe();
    await expect(bus.unplug(parseAddress(A))).rejects.toMatchObject({ code: 'ERR_BUS_PROBE', cause: { message: 'stuck' } });
    expect([kernel.stillOpen, states(bus)]).toEqual([[], { [A]: 'found' }]);
  });

  test('without its driver a device is free for the next one', async () => {
    const kernel = new ScriptedSource().add(A).add(B);
    const [first, second] = [new RecordingDriver('first'), new RecordingDriver('second')];
    await using bus = new PciBus().addSource(kernel).register(first).register(second);
    expect(() => bus.register(new RecordingDriver('first'))).toThrow(expect.objectContaining({ code: 'ERR_BUS_STATE' }));
    await bus.probe();
    await bus.unregister('first');
    await bus.unregister('first');
    expect(first.removed).toHaveLength(2);
    expect((await bus.probe()).driven.map(({ driver }) => driver)).toEqual(['second', 'second']);
  });

  test('a driver may plug another device while it probes', async () => {
    const kernel = new ScriptedSource().add(A).add(B);
    await using bus = new PciBus({ selection: Selection.parse({ allow: [A] }) }).addSource(kernel);
    const driver = new RecordingDriver();
    driver.onProbe = async (device) => {
      if (formatAddress(device.address) === A) await bus.plug(B);
      return 'ok';
    };
    bus.register(driver);
    await bus.probe();
    expect(states(bus)).toEqual({ [A]: 'driven', [B]: 'driven' });
  });
});

describe('devices that go', () => {
  test('a driven device that vanishes, or that is wanted back, is unplugged', async () => {
    const kernel = new ScriptedSource().add(A).add(B);
    const driver = new RecordingDriver();
    await using bus = new PciBus().addSource(kernel).register(driver);
    await bus.probe();
    kernel.opened[0]!.goAway();
    await until((event) => event.type === 'undriven' && formatAddress(event.address) === A);
    kernel.opened[1]!.wantBack();
    await until((event) => event.type === 'undriven' && formatAddress(event.address) === B);
    expect(driver.removed).toHaveLength(2);
    expect(kernel.stillOpen).toEqual([]);
    expect(events.map(({ type }) => type)).toEqual(['driven', 'driven', 'gone', 'undriven', 'wanted-back', 'undriven']);
  });

  test('one whose owner cannot ask for it back is driven all the same', async () => {
    const kernel = new ScriptedSource().add(A);
    const driver = new RecordingDriver();
    driver.onProbe = () => {
      kernel.opened[0]!.refuses = (call) => call === 'onReleaseRequest';
      return 'ok';
    };
    await using bus = new PciBus().addSource(kernel).register(driver);
    expect((await bus.probe()).driven).toMatchObject([{ handle: 'ok' }]);
  });

  test('or, if it is not to be, only reported', async () => {
    const kernel = new ScriptedSource().add(A);
    const driver = new RecordingDriver();
    await using bus = new PciBus({ onGone: 'report' }).addSource(kernel).register(driver);
    await bus.probe();
    kernel.opened[0]!.goAway();
    await until((event) => event.type === 'gone');
    await new Promise(setImmediate);
    expect([driver.removed, states(bus)]).toEqual([[], { [A]: 'driven' }]);
  });
});

describe('hot-plug', () => {
  test('devices of the selection that appear are probed, those that vanish are unplugged', async () => {
    const kernel = ScriptedSource.watched();
    const driver = new RecordingDriver();
    await using bus = new PciBus({ selection: Selection.parse({ block: [B] }) }).addSource(kernel).register(driver);
    using _ = bus.watch();
    kernel.add(A).add(B);
    kernel.event('added', A);
    await until((event) => event.type === 'driven');
    kernel.remove(A);
    kernel.event('removed', A);
    await until((event) => event.type === 'undriven');
    expect([driver.probed, driver.removed.length, states(bus)]).toEqual([[A], 1, { [B]: 'found' }]);
  });

  test('a device that failed is tried again when another one comes in its place, and not before', async () => {
    const kernel = ScriptedSource.watched().add(A);
    const driver = new RecordingDriver();
    driver.onProbe = () => { throw new Error('broken'); };
    await using bus = new PciBus().addSource(kernel).register(driver);
    using _ = bus.watch();
    await until((event) => event.type === 'failed');
    kernel.event('changed');
    await bus.scan();
    await new Promise(setImmediate);
    expect(driver.probed).toHaveLength(1);
    driver.onProbe = undefined;
    kernel.event('added', A);
    await until((event) => event.type === 'driven');
  });

  test('what the user has unplugged stays so', async () => {
    const kernel = ScriptedSource.watched().add(A);
    const driver = new RecordingDriver();
    await using bus = new PciBus().addSource(kernel).register(driver);
    using _ = bus.watch();
    await until((event) => event.type === 'driven');
    await bus.unplug(parseAddress(A));
    kernel.add(B);
    kernel.event('added', B);
    await until((event) => event.type === 'driven' && formatAddress(event.address) === B);
    expect(driver.probed).toEqual([A, B]);
  });

  test('without plug nothing is probed, and after its end nothing happens', async () => {
    const kernel = ScriptedSource.watched().add(A);
    const driver = new RecordingDriver();
    await using bus = new PciBus().addSource(kernel).register(driver);
    {
      using _ = bus.watch({ plug: false });
      kernel.event('changed');
      await bus.scan();
      await bus.scan();
      expect(kernel.isWatched).toBe(true);
    }
    expect([kernel.isWatched, driver.probed]).toEqual([false, []]);
  });

  test('what comes while a source can no longer be watched, and is not polled yet, is not missed', async () => {
    const kernel = new ScriptedSource();
    let fail: (error: unknown) => void = () => {};
    kernel.watch = (_onEvent, onError) => {
      fail = onError;
      return { [Symbol.dispose]: () => {} };
    };
    await using bus = new PciBus().addSource(kernel).register(new RecordingDriver());
    using _ = bus.watch();
    await bus.scan();
    for (let i = 0; i < 8; i++) await new Promise(setImmediate);
    kernel.add(A);
    fail(new Error('the socket is broken'));
    await until((event) => event.type === 'driven');
  });

  test('a source that cannot be watched is polled', async () => {
    const kernel = new ScriptedSource();
    kernel.watch = () => { throw new Error('no netlink here'); };
    await using bus = new PciBus().addSource(kernel).register(new RecordingDriver());
    await bus.scan();
    using _ = bus.watch();
    await until((event) => event.type === 'source-failed');
    await new Promise(setImmediate);
    kernel.add(A);
    await until((event) => event.type === 'driven');
  });
});

describe('the end', () => {
  test('everything is unplugged, the last device first, and every failure is told', async () => {
    const kernel = ScriptedSource.watched().add(A).add(B).add(UUID);
    const driver = new RecordingDriver();
    const bus = new PciBus().addSource(kernel).register(driver);
    bus.watch();
    await bus.probe();
    driver.onRemove = () => { throw new Error('stuck'); };
    await expect(bus[Symbol.asyncDispose]()).rejects.toMatchObject({ code: 'ERR_BUS_PROBE', cause: { errors: [{}, {}, {}] } });
    expect(driver.removed).toEqual([UUID, B, A].map((name) => `recorder ${name}`));
    expect([kernel.stillOpen, kernel.isWatched]).toEqual([[], false]);
    for (const call of [() => bus.scan(), () => bus.probe(), () => bus.plug(A)]) await expect(call()).rejects.toMatchObject({ code: 'ERR_BUS_CLOSED' });
  });

  test('a driver that never answers does not hold it up', async () => {
    const kernel = new ScriptedSource().add(A).add(B);
    const driver = new RecordingDriver();
    driver.onProbe = () => new Promise(() => {});
    const bus = new PciBus().addSource(kernel).register(driver);
    const probed = bus.probe();
    while (driver.probed.length === 0) await new Promise(setImmediate);
    await bus[Symbol.asyncDispose]();
    expect((await probed).failed.map(({ error }) => error.code)).toEqual(['ERR_BUS_CLOSED', 'ERR_BUS_CLOSED']);
    expect([driver.probed, kernel.stillOpen]).toEqual([[A], []]);
  });
});
