/** A consumer's doings, as an emulated device's back end hears of them. */
import { expect, test, vi } from 'vitest';
import { registers, type PciHost } from '@emudev/pci';
import { attribute, attrKey, EmulatedPciDevice, emulatedVdev, EmudevRegistry, integerAttr, type Emudev, type EmudevRegistryLike, type QueueInfo } from '../src/index.ts';
import { ORDER_DEADLINE_MS } from '../src/limits.ts';
import { LoggingBackEnd } from './fakes.ts';

const FAMILY = { devType: 'lamp', version: 1 };

class Lamp extends EmulatedPciDevice {
  lit = 0;
  constructor(name: string, registry: EmudevRegistryLike) {
    super({
      name, family: FAMILY, vendorId: 0x1234, deviceId: 1, classCode: 0xff0000,
      bars: [{ index: 0, kind: 'memory32', sizeBytes: 4096, handler: registers({ 0: { bytes: 4, read: () => this.lit, write: (value) => { this.lit = value; } } }) }],
    }, registry);
  }
  protected override onReset(): void {
    this.lit = 0;
  }
}

const memory = { generation: 1, iotlb: 0, read: () => {}, write: () => {}, translate: () => undefined, pin: () => undefined, markDirty: () => {} };
const host = { memory, irqFd: () => -1, trigger: () => false, setIntx: () => {}, functionLevelReset: () => Promise.resolve() } satisfies PciHost;

async function change(lamp: Lamp, body: () => void | Promise<void>): Promise<void> {
  await lamp.quiesce('dma-map');
  await body();
  lamp.resume();
}

test('the back end hears of everything a consumer does, in order, resets and departure while it is locked', async () => {
  const registry = new EmudevRegistry();
  const { pci: lamp, emudev } = emulatedVdev('lamp0', { registry }, (r) => new Lamp('lamp0', r));
  const backEnd = new LoggingBackEnd();
  emudev.attach(backEnd, FAMILY);
  expect(emudev.consumer).toBe('absent');
  await lamp.attach(host);
  expect(emudev.consumer).toBe('connected');
  const readied = new Promise<void>((resolve) => { emudev.on('ready', resolve); });
  await change(lamp, () => { lamp.memoryChanged(); });
  await readied;
  expect(emudev.memTable()).toBe(memory);
  lamp.write(0, 0, Uint8Array.of(5, 0, 0, 0));
  await change(lamp, () => { lamp.irqsChanged(0, 0, 1); });
  await change(lamp, () => lamp.reset());
  expect(lamp.lit).toBe(0);
  lamp.write(0, 0, Uint8Array.of(6, 0, 0, 0));
  await lamp.quiesce('detach');
  await lamp.detach('closed');
  lamp.resume();
  expect(lamp.lit).toBe(0);
  expect(emudev.consumer).toBe('absent');
  expect(backEnd.log).toEqual([
    'lock', 'unlock', 'ready',
    'lock', 'updated', 'unlock',
    'lock', 'reset function', 'unlock',
    'lock', 'reset consumer-left', 'destroyed', 'unlock',
  ].map((line) => expect.stringContaining(line) as string));
  expect(() => emudev.memTable()).toThrow('needs a consumer');
});

test('a closed device answers all ones, ignores writes, turns consumers away and frees its name', async () => {
  const registry = new EmudevRegistry();
  const vdev = emulatedVdev('lamp0', { registry }, (r) => new Lamp('lamp0', r));
  await vdev.close();
  const word = new Uint8Array(4);
  vdev.pci.write(0, 0, Uint8Array.of(1, 0, 0, 0));
  vdev.pci.read(0, 0, word);
  expect(word).toEqual(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  expect(vdev.pci.lit).toBe(0);
  await expect(vdev.pci.attach(host)).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE' });
  expect(registry.byName('lamp0')).toBeUndefined();
});

test('a driver whose constructor fails leaves no name behind; a name that is taken stays with its owner', () => {
  const registry = new EmudevRegistry();
  expect(() => emulatedVdev('lamp0', { registry }, (r) => {
    new Lamp('lamp0', r);
    throw new Error('no bulb');
  })).toThrow('no bulb');
  const { emudev } = emulatedVdev('lamp0', { registry }, (r) => new Lamp('lamp0', r));
  expect(() => emulatedVdev('lamp0', { registry }, (r) => new Lamp('lamp0', r))).toThrow('already');
  expect(registry.byName('lamp0')).toBe(emudev);
});

test('a self-test passes on a good device, waits out nobody, and names what is wrong with a bad one', async () => {
  const registry = new EmudevRegistry();
  const good = new Lamp('lamp0', registry);
  good.write(0, 0, Uint8Array.of(5, 0, 0, 0));
  const report = await good.emudev.selfTest();
  expect(report.checks.filter((check) => !check.passed)).toEqual([]);
  expect(report.passed).toBe(true);
  expect(report.checks.map((check) => check.name)).toEqual(['attributes', 'regions', 'vectors', 'queues', 'memory table', 'configuration space', 'BARs', 'reset']);
  expect(report.checks.find((check) => check.name === 'configuration space')?.text).toBe('1234:0001');
  // It is at power-on afterwards.
  expect(good.lit).toBe(0);

  class Bad extends Lamp {
    override readonly numVectors = 1;
    override readonly attributes = new Map([attribute(attrKey('lumens', integerAttr({ min: 0, max: 9 })), { get: () => 10 })]);
    override regionNames(): readonly string[] { return ['glow']; }
    override queueInfo(): QueueInfo { return { base: 0n, size: 0, doorbellId: 4, irqVector: 0 }; }
    override memTable(): never { throw new Error('no memory at all'); }
    override read(region: number, offset: number, into: Uint8Array): void | Promise<void> {
      if (region === 0) throw new Error('dark');
      return super.read(region, offset, into);
    }
    protected override onReset(): void { this.config.write(0x3c, Uint8Array.of(this.lit++)); }
  }
  const bad = await new Bad('lamp1', registry).emudev.selfTest();
  expect(bad.passed).toBe(false);
  expect(bad.checks.filter((check) => !check.passed).map((check) => `${check.name}: ${check.text}`)).toEqual([
    'attributes: lumens: expected an integer from 0 to 9',
    'regions: glow is listed, but not there',
    'vectors: vector 0 is not described',
    'queues: queue 0 has no doorbell 4',
    'memory table: no memory at all',
    'BARs: dark',
    'reset: configuration space differs from power-on at 60: 1, not 0',
  ]);
});

test('a self-test is refused while a consumer is there, and a consumer that comes during one waits for it', async () => {
  const lamp = new Lamp('lamp0', new EmudevRegistry());
  const testing = lamp.emudev.selfTest();
  await Promise.resolve();
  let attached = false;
  const attach = lamp.attach(host).then(() => { attached = true; });
  const report = await testing.then((result) => ({ attached, result }));
  expect(report).toMatchObject({ attached: false, result: { passed: true } });
  await attach;
  await expect(lamp.emudev.selfTest()).rejects.toMatchObject({ code: 'EMUDEV_BAD_STATE' });
});

test('resets itself: the back end hears of it while it is locked, registers are at power-on, configuration space stays', async () => {
  const registry = new EmudevRegistry();
  const { pci: lamp, emudev } = emulatedVdev('lamp0', { registry }, (r) => new Lamp('lamp0', r));
  const backEnd = new LoggingBackEnd();
  emudev.attach(backEnd, FAMILY);
  await lamp.attach(host);
  lamp.write(0, 0, Uint8Array.of(5, 0, 0, 0));
  lamp.write(7, 4, Uint8Array.of(6, 0));
  await emudev.reset();
  const command = new Uint8Array(2);
  lamp.read(7, 4, command);
  expect([lamp.lit, command[0], emudev.consumer]).toEqual([0, 6, 'connected']);
  expect(backEnd.log).toEqual(['lock', 'reset family', 'unlock']);
});

test('its own reset waits for an order that has begun, and forgets those that have not', async () => {
  const registry = new EmudevRegistry();
  class Busy extends Lamp {
    give(order: () => void | Promise<void>): void { this.order(order); }
  }
  const { pci, emudev } = emulatedVdev('lamp0', { registry }, (r) => new Busy('lamp0', r));
  await emudev.configure({});
  await emudev.start();
  const log: string[] = [];
  const { promise: end, resolve } = Promise.withResolvers<undefined>();
  await new Promise<void>((begun) => {
    pci.give(async () => {
      begun();
      await end;
      log.push('ended');
    });
    pci.give(() => { log.push('forgotten'); });
  });
  const reset = emudev.reset().then(() => { log.push('reset'); });
  resolve(undefined);
  await reset;
  await new Promise<void>((done) => {
    pci.give(() => {
      log.push('new');
      done();
    });
  });
  expect(log).toEqual(['ended', 'reset', 'new']);
});

test('a lock that fails lets orders go on', async () => {
  const registry = new EmudevRegistry();
  class Busy extends Lamp {
    done = 0;
    give(): void { this.order(() => { this.done++; }); }
  }
  const { pci, emudev } = emulatedVdev('lamp0', { registry }, (r) => new Busy('lamp0', r));
  emudev.attach({ lock: () => Promise.reject(new Error('busy')), unlock: () => {} }, FAMILY);
  await emudev.configure({});
  await emudev.start();
  await pci.attach(host);
  await expect(pci.quiesce('irqs')).rejects.toThrow('busy');
  pci.give();
  while (pci.done === 0) await new Promise((resolve) => { setImmediate(resolve); });
});

test.each<[string, (pci: Lamp, emudev: Emudev) => Promise<void>]>([
  ['a reset', (_pci, emudev) => emudev.reset()],
  ['a stop', (_pci, emudev) => emudev.stop()],
  ['a close', (_pci, emudev) => emudev.close()],
  ['a change by the consumer', (pci) => pci.quiesce('dma-map')],
])('%s does not wait for ever for an order that does not end; afterwards the device works again', async (_name, act) => {
  const registry = new EmudevRegistry();
  class Stuck extends Lamp {
    done = 0;
    give(order: () => void | Promise<void>): void { this.order(order); }
  }
  const { pci, emudev } = emulatedVdev('lamp0', { registry }, (r) => new Stuck('lamp0', r));
  await emudev.configure({});
  await emudev.start();
  await pci.attach(host);
  const { promise: end, resolve } = Promise.withResolvers<undefined>();
  await new Promise<void>((begun) => {
    pci.give(async () => {
      begun();
      await end;
    });
  });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const refused = expect(act(pci, emudev)).rejects.toMatchObject({ code: 'EMUDEV_TIMEOUT' });
    // Closing waits once for the stop and once for its own end.
    await vi.advanceTimersByTimeAsync(2 * ORDER_DEADLINE_MS);
    await refused;
  } finally {
    vi.useRealTimers();
  }
  resolve(undefined);
  if (emudev.state === 'closed') return;
  await pci.quiesce('irqs');
  pci.resume();
  if (emudev.state === 'stopped') await emudev.start();
  pci.give(() => { pci.done++; });
  while (pci.done === 0) await new Promise((turn) => { setImmediate(turn); });
});
