/** The bus at run time: what comes and goes, in which order, and what happens when two want different things at once. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stringArg } from '../src/args.ts';
import { EmudevError } from '../src/errors.ts';
import { VDEV_DIAGNOSTICS, type VdevDiagnostic } from '../src/vdev-events.ts';
import { VdevBus } from '../src/vdev-bus.ts';
import type { VdevClass, VdevDriver } from '../src/vdev.ts';
import { toyProvider } from './fakes.ts';

const code = (wanted: string): { code: string } => ({ code: wanted });

/** A door that opens when the test says so. */
class Gate {
  open!: () => void;
  readonly opened = new Promise<void>((resolve) => { this.open = resolve; });
}

const log: string[] = [];
let probing: Gate | undefined;
let closing: Gate | undefined;
beforeEach(() => {
  log.length = 0;
  probing = closing = undefined;
});

const card: VdevDriver<object> = {
  name: 'emu_toy', class: 'emudev', summary: 'a card', args: {},
  async probe(name, _args, { registry }) {
    const port = registry.allocate(name, toyProvider());
    await probing?.opened;
    return {
      name,
      emudev: port.device,
      async close() {
        await closing?.opened;
        await port.device.close();
        registry.release(name);
        log.push(`closed ${name}`);
      },
    };
  },
};

const backEnd: VdevDriver<{ emu: string }> = {
  name: 'toy_be', class: 'backend', summary: 'its other half', args: { emu: stringArg({ help: 'the card', required: true }) },
  async probe(name, { emu }, context) {
    const emudev = context.findEmudev(emu);
    if (emudev === undefined) throw new EmudevError('EMUDEV_NOENT', `${name}: no ${emu}`);
    await probing?.opened;
    if (name.endsWith('bad')) throw new Error('on second thoughts');
    return { name, close: async () => { await closing?.opened; log.push(`closed ${name}`); } };
  },
};

const newBus = (): VdevBus => new VdevBus().register(card).register(backEnd);

describe('removal', () => {
  it('closes one device and frees its name, while the others stay', async () => {
    const bus = newBus();
    await bus.probeAll(['emu_toy0', 'emu_toy1']);
    const first = bus.registry.byName('emu_toy0')!;
    await bus.remove('emu_toy0');
    expect(first.state).toBe('closed');
    expect(bus.list().map(({ name }) => name)).toEqual(['emu_toy1']);
    await bus.probe('emu_toy0');
    expect(bus.registry.byName('emu_toy0')).not.toBe(first);
    await expect(bus.remove('emu_toy7')).rejects.toMatchObject(code('EMUDEV_NOENT'));
  });

  it('is refused while others use the device, naming them, and changes nothing', async () => {
    const bus = newBus();
    await bus.probeAll(['emu_toy0', 'toy_be0,emu=emu_toy0', 'toy_be1,emu=emu_toy0']);
    await expect(bus.remove('emu_toy0')).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE', message: expect.stringMatching(/used by toy_be0, toy_be1: remove them first/) as string });
    expect(bus.registry.byName('emu_toy0')!.state).toBe('allocated');
    await bus.remove('toy_be1');
    await expect(bus.remove('emu_toy0')).rejects.toThrow(/used by toy_be0: remove it first/);
    await bus.remove('toy_be0');
    await bus.remove('emu_toy0');
    expect(log).toEqual(['closed toy_be1', 'closed toy_be0', 'closed emu_toy0']);
  });

  it('a user whose probe failed uses nothing', async () => {
    const bus = newBus();
    await bus.probe('emu_toy0');
    await expect(bus.probe('toy_be_bad,emu=emu_toy0')).rejects.toThrow('second thoughts');
    expect(bus.usersOf('emu_toy0')).toEqual([]);
    await bus.remove('emu_toy0');
  });

  it('frees the name also when closing fails, and says so', async () => {
    const bus = new VdevBus().register({ ...backEnd, args: {}, probe: (name) => Promise.resolve({ name, close: () => Promise.reject(new Error('stuck')) }) });
    await bus.probe('toy_be0');
    await expect(bus.remove('toy_be0')).rejects.toThrow('stuck');
    await bus.probe('toy_be0');
  });
});

describe('races', () => {
  it('a device that is being probed is not removed, not probed again, not found', async () => {
    const bus = newBus();
    probing = new Gate();
    const probe = bus.probe('emu_toy0');
    await expect(bus.remove('emu_toy0')).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE', message: expect.stringContaining('just being probed') as string });
    await expect(bus.probe('emu_toy0')).rejects.toMatchObject(code('EMUDEV_EXISTS'));
    await expect(bus.probe('toy_be0,emu=emu_toy0')).rejects.toMatchObject(code('EMUDEV_NOENT'));
    probing.open();
    await probe;
    await bus.probe('toy_be0,emu=emu_toy0');
  });

  it('a device that a probe under way has found is not removed', async () => {
    const bus = newBus();
    await bus.probe('emu_toy0');
    probing = new Gate();
    const probe = bus.probe('toy_be0,emu=emu_toy0');
    await new Promise((resolve) => { setImmediate(resolve); });
    await expect(bus.remove('emu_toy0')).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE', message: expect.stringContaining('toy_be0') as string });
    probing.open();
    await probe;
  });

  it('a device that goes is not found, its name is taken until it has gone, and removing it twice is one removal', async () => {
    const bus = newBus();
    await bus.probe('emu_toy0');
    closing = new Gate();
    const removals = [bus.remove('emu_toy0'), bus.remove('emu_toy0')];
    expect(bus.list()).toEqual([]);
    await expect(bus.probe('emu_toy0')).rejects.toMatchObject({ code: 'EMUDEV_EXISTS', message: expect.stringContaining('just being removed') as string });
    await expect(bus.probe('toy_be0,emu=emu_toy0')).rejects.toMatchObject(code('EMUDEV_NOENT'));
    closing.open();
    await Promise.all(removals);
    expect(log).toEqual(['closed emu_toy0']);
    await bus.probe('emu_toy0');
  });

  it('a device is used until its user has gone for good', async () => {
    const bus = newBus();
    await bus.probeAll(['emu_toy0', 'toy_be0,emu=emu_toy0']);
    closing = new Gate();
    const removal = bus.remove('toy_be0');
    await expect(bus.remove('emu_toy0')).rejects.toMatchObject(code('EMUDEV_BAD_STATE'));
    closing.open();
    await removal;
    await bus.remove('emu_toy0');
  });

  it('close waits for what is under way, then closes all, and nothing is probed any more', async () => {
    const bus = newBus();
    await bus.probe('emu_toy0');
    probing = new Gate();
    const probes = [bus.probe('emu_toy1'), bus.probe('toy_be0,emu=emu_toy0')];
    const close = bus.close();
    await expect(bus.probe('emu_toy2')).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE', message: expect.stringContaining('closed') as string });
    probing.open();
    await Promise.all([close, bus.close(), ...probes]);
    expect(log.toSorted()).toEqual(['closed emu_toy0', 'closed emu_toy1', 'closed toy_be0']);
    expect(log.indexOf('closed toy_be0')).toBeLessThan(log.indexOf('closed emu_toy0'));
    expect(bus.list()).toEqual([]);
  });

  it('in any order of requests every name is there at most once, and a device outlives its users', async () => {
    const step = fc.tuple(fc.constantFrom('probe', 'remove'), fc.constantFrom('emu_toy0', 'emu_toy1', 'toy_be0,emu=emu_toy0', 'toy_be1,emu=emu_toy1'));
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.scheduler(), async (steps, scheduler) => {
      log.length = 0;
      const bus = newBus();
      const slow = scheduler.scheduleFunction(() => Promise.resolve());
      const outcomes = steps.map(async ([what, text]) => {
        await slow();
        await (what === 'probe' ? bus.probe(text) : bus.remove(text.split(',')[0]!)).catch((error: unknown) => {
          if (!(error instanceof EmudevError)) throw error;
        });
        const names = bus.list().map(({ name }) => name);
        expect(new Set(names).size).toBe(names.length);
        for (const { name } of bus.list()) if (name.startsWith('toy_be')) expect(bus.registry.byName(`emu_toy${name.at(-1)!}`)?.state).toBe('allocated');
      });
      await scheduler.waitAll();
      await Promise.all(outcomes);
      await bus.close();
      expect(bus.registry.byName('emu_toy0')).toBeUndefined();
      expect(bus.registry.byName('emu_toy1')).toBeUndefined();
    }), { numRuns: 100 });
  });
});

describe('events', () => {
  const seen: VdevDiagnostic[] = [];
  const listen = (message: unknown): void => { seen.push(message as VdevDiagnostic); };
  beforeEach(() => { seen.length = 0; subscribe(VDEV_DIAGNOSTICS, listen); });
  afterEach(() => { unsubscribe(VDEV_DIAGNOSTICS, listen); });

  it('tell of devices that have come and gone, not of those that failed', async () => {
    const bus = newBus();
    await bus.probeAll(['emu_toy0', 'toy_be0,emu=emu_toy0']);
    await bus.probe('toy_be_bad,emu=emu_toy0').catch(() => undefined);
    await bus.close();
    expect(seen).toEqual([
      { event: 'added', device: 'emu_toy0', driver: 'emu_toy', class: 'emudev' },
      { event: 'added', device: 'toy_be0', driver: 'toy_be', class: 'backend' },
      { event: 'removed', device: 'toy_be0', driver: 'toy_be', class: 'backend' },
      { event: 'removed', device: 'emu_toy0', driver: 'emu_toy', class: 'emudev' },
    ]);
  });

  it('come when what they tell is so: who hears of a card can attach to it, who hears of its end can have the name', async () => {
    const bus = newBus();
    const followUps: Promise<unknown>[] = [];
    const follow = (message: unknown): void => {
      const { event, device } = message as VdevDiagnostic;
      if (event === 'added' && device === 'emu_toy0') followUps.push(bus.probe('toy_be0,emu=emu_toy0'));
      if (event === 'removed' && device === 'toy_be0') followUps.push(bus.probe('toy_be0,emu=emu_toy0'));
    };
    subscribe(VDEV_DIAGNOSTICS, follow);
    await bus.probe('emu_toy0');
    await Promise.all(followUps);
    await bus.remove('toy_be0');
    await Promise.all(followUps);
    unsubscribe(VDEV_DIAGNOSTICS, follow);
    expect(bus.usersOf('emu_toy0')).toEqual(['toy_be0']);
    await bus.close();
  });
});

describe('drivers', () => {
  const port = (name: string, probe: VdevDriver<object>['probe'], more: Partial<VdevDriver<object>> = {}): VdevDriver<object> => ({ name, class: 'port' as VdevClass, summary: name, args: {}, probe, ...more });
  const take: VdevDriver<object>['probe'] = (name) => Promise.resolve({ name, close: () => Promise.resolve() });
  const decline: VdevDriver<object>['probe'] = (name) => Promise.reject(new EmudevError('EMUDEV_NOT_MINE', `${name} is too old for me`));

  it('that decline are passed over for the next whose name fits, the longest first', async () => {
    const bus = new VdevBus().register(port('net_x', take)).register(port('net_x_fast', decline)).register(port('net', decline));
    expect((await bus.probe('net_x_fast0')).driver.name).toBe('net_x');
    expect(bus.classOf('net_x_fast0')).toBe('port');
  });

  it('when all decline, that is what is said; any other error is the answer at once', async () => {
    const bus = new VdevBus().register(port('net_x', () => Promise.reject(new Error('no such interface')))).register(port('net_x_fast', decline)).register(port('net', take));
    await expect(bus.probe('net_x_fast0')).rejects.toThrow('no such interface');
    await expect(new VdevBus().register(port('net', decline)).probe('net0')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER', message: 'no driver takes device net0: net declines (net0 is too old for me)' });
  });

  it('go by their aliases, too, which are nobody else\'s', async () => {
    const bus = new VdevBus().register(port('net_x', take, { aliases: ['eth_x'] }));
    expect((await bus.probe('eth_x0')).driver.name).toBe('net_x');
    expect(await bus.help()).toBe('  net_x, eth_x  net_x');
    for (const other of [port('eth_x', take), port('net_y', take, { aliases: ['eth_x'] }), port('net_y', take, { aliases: ['net_x3'] })]) {
      expect(() => bus.register(other)).toThrowError(expect.objectContaining(code('EMUDEV_EXISTS')));
    }
  });

  it('that are not there: the nearest name, and what to install', async () => {
    const bus = newBus();
    await expect(bus.probe('emu_tyo0')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER', message: expect.stringMatching(/install the package @emudev\/tyo-emu.*did you mean 'emu_toy'\?; drivers here: emu_toy, toy_be/) as string });
  });

  it.each(['emu toy0', 'emu_toy0\n', 'emu_toy/0', 'é', `emu_${'x'.repeat(64)}`])('a device is not called %j', async (name) => {
    await expect(newBus().probe({ name, pairs: [] })).rejects.toMatchObject(code('EMUDEV_BAD_ARG'));
  });
});
