/** A consumer's doings, as an emulated device's back end hears of them. */
import { expect, test } from 'vitest';
import { registers, type PciHost } from '@emudev/pci';
import { EmulatedPciDevice, emulatedVdev, EmudevRegistry, type EmudevRegistryLike } from '../src/index.ts';
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

const memory = { generation: 1, iotlb: 0, read: () => {}, write: () => {}, translate: () => undefined, markDirty: () => {} };
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
