import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EmudevError } from '../src/errors.ts';
import { LIFECYCLE } from '../src/lifecycle.ts';
import { EmudevRegistry } from '../src/registry.ts';
import { COLOUR, PAGE, SERIAL, TALK, toyProvider } from './fakes.ts';
import { attrKey, channelKey, regionKey, type EmudevState } from '../src/device.ts';

const fails = (call: () => unknown, wanted: string): void => {
  expect(call).toThrowError(expect.objectContaining({ name: 'EmudevError', code: wanted }));
};

describe('registry', () => {
  it('finds devices by name and id, refuses a name twice, never uses an id twice', () => {
    const registry = new EmudevRegistry();
    const a = registry.allocate('emu_a', toyProvider()).device;
    const b = registry.allocate('emu_b', toyProvider()).device;
    expect(registry.byName('emu_a')).toBe(a);
    expect(registry.byId(b.info.id)).toBe(b);
    expect(registry.list()).toEqual([a, b]);
    fails(() => registry.allocate('emu_a', toyProvider()), 'EMUDEV_EXISTS');
    registry.release('emu_a');
    expect(registry.byName('emu_a')).toBeUndefined();
    const again = registry.allocate('emu_a', toyProvider()).device;
    expect(new Set([a.info.id, b.info.id, again.info.id]).size).toBe(3);
  });

  it('refuses to release what is unknown or in use, and names that cannot be typed', async () => {
    const registry = new EmudevRegistry();
    const { device } = registry.allocate('emu_a', toyProvider());
    fails(() => { registry.release('emu_b'); }, 'EMUDEV_NOENT');
    await device.configure({});
    fails(() => { registry.release('emu_a'); }, 'EMUDEV_BAD_STATE');
    await device.close();
    registry.release('emu_a');
    for (const bad of ['', 'a,b', 'a b', 'x'.repeat(65)]) fails(() => registry.allocate(bad, toyProvider()), 'EMUDEV_BAD_ARG');
  });
});

describe('life', () => {
  it('follows the transition table from every state under every sequence of operations', async () => {
    const operation = fc.constantFrom('configure', 'start', 'stop', 'close' as const);
    await fc.assert(fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
      const { device } = new EmudevRegistry().allocate('emu_a', toyProvider());
      let expected: EmudevState = 'allocated';
      for (const op of operations) {
        const next: EmudevState | undefined = LIFECYCLE[op as keyof typeof LIFECYCLE][expected];
        const outcome = await (op === 'configure' ? device.configure({}) : device[op as 'start' | 'stop' | 'close']()).then(() => 'done', (error: EmudevError) => error.code);
        expect(outcome).toBe(next === undefined ? 'EMUDEV_BAD_STATE' : 'done');
        expected = next ?? expected;
        expect(device.state).toBe(expected);
      }
    }), { numRuns: 200 });
  });

  it('operations asked for at once run one after the other', async () => {
    const provider = toyProvider();
    const { device } = new EmudevRegistry().allocate('emu_a', provider);
    await Promise.all([device.configure({ queuePairs: 2 }), device.start(), device.stop(), device.start(), device.close()]);
    expect(provider.log).toEqual(['configure 2', 'start', 'stop', 'start', 'stop', 'close']);
  });

  it('a start that fails leaves the device configured, with the provider stopped again', async () => {
    const provider = toyProvider();
    const { device } = new EmudevRegistry().allocate('emu_a', provider);
    device.attach({ start: () => { throw new Error('no memory'); }, lock: () => Promise.resolve(), unlock: () => {} }, { devType: 'toy', version: 1 });
    await device.configure({});
    await expect(device.start()).rejects.toThrow('no memory');
    expect(device.state).toBe('configured');
    expect(provider.log).toEqual(['configure default', 'start', 'stop']);
  });

  it('a stop or close that fails arrives all the same', async () => {
    const { device } = new EmudevRegistry().allocate('emu_a', toyProvider({ stop: () => { throw new Error('stuck'); } }));
    await device.configure({});
    await device.start();
    await expect(device.close()).rejects.toThrow('stuck');
    expect(device.state).toBe('closed');
  });

  it('queue pairs beyond what the provider has are EMUDEV_BAD_ARG', async () => {
    const { device } = new EmudevRegistry().allocate('emu_a', toyProvider());
    for (const queuePairs of [0, 5, 1.5]) await expect(device.configure({ queuePairs })).rejects.toMatchObject({ code: 'EMUDEV_BAD_ARG' });
    expect(device.state).toBe('allocated');
  });
});

describe('getters', () => {
  it('describe the device only while a consumer is ready', async () => {
    const port = new EmudevRegistry().allocate('emu_a', toyProvider());
    const { device } = port;
    for (const call of [() => device.memTable(), () => device.queueInfo(0), () => device.irqInfo(0), () => device.doorbell(0)]) fails(call, 'EMUDEV_NOT_READY');
    port.connected();
    expect(device.consumer).toBe('connected');
    fails(() => device.memTable(), 'EMUDEV_NOT_READY');
    await port.ready();
    expect(device.consumer).toBe('ready');
    expect(device.queueInfo(0)).toMatchObject({ irqVector: 1 });
    for (const call of [() => device.queueInfo(1), () => device.irqInfo(2), () => device.doorbell(1)]) fails(call, 'EMUDEV_RANGE');
    await port.destroyed('closed');
    expect(device.consumer).toBe('absent');
    fails(() => device.irqInfo(0), 'EMUDEV_NOT_READY');
  });

  it('return snapshots, and unknown names are errors of their own', () => {
    const { device } = new EmudevRegistry().allocate('emu_a', toyProvider());
    const colour = device.getAttr(COLOUR);
    colour.red = 9;
    expect(device.getAttr(COLOUR)).toEqual({ red: 1 });
    device.setAttr(COLOUR, colour);
    colour.red = 10;
    expect(device.getAttr(COLOUR)).toEqual({ red: 9 });
    expect(device.attrNames()).toEqual(['colour', 'serial', 'picky']);
    expect(device.mapRegion(PAGE)).toEqual({ offset: 4096, sizeBytes: 4096 });
    fails(() => { device.setAttr(SERIAL, 8); }, 'EMUDEV_UNSUPPORTED');
    fails(() => { device.setAttr(attrKey<number>('picky'), 1); }, 'EMUDEV_BAD_ARG');
    fails(() => device.getAttr(attrKey('mood')), 'EMUDEV_NO_ATTR');
    fails(() => device.mapRegion(regionKey('cellar')), 'EMUDEV_NO_REGION');
    fails(() => device.channel(channelKey('whisper')), 'EMUDEV_NO_CHANNEL');
  });

  it('after close nothing is answered', async () => {
    const { device } = new EmudevRegistry().allocate('emu_a', toyProvider());
    await device.close();
    for (const call of [() => device.memTable(), () => device.getAttr(COLOUR), () => device.mapRegion(PAGE), () => device.channel(TALK)]) fails(call, 'EMUDEV_BAD_STATE');
  });
});
