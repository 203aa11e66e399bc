import { VdevBus } from '@emudev/emudev';
import { countOpenFds } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { ATTR_LINK, ATTR_MAC } from '../src/contract.ts';
import { driver, type IavfVdev } from '../src/driver.ts';

describe('emu_iavf on the vdev bus', () => {
  it('makes a card from text, with defaults', async () => {
    await using bus = new VdevBus().register(driver);
    const device = (await bus.probe('emu_iavf0,mac=52:54:00:12:34:56,queues=16,doorbell=trap,speed=100000')).device as IavfVdev;
    expect(device.emudev.info).toMatchObject({ name: 'emu_iavf0', maxQueuePairs: 16, numVectors: 17 });
    expect(device.emudev.getAttr(ATTR_MAC)).toEqual(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56));
    expect(device.emudev.getAttr(ATTR_LINK)).toEqual({ up: false, speedMbps: 100_000 });
    const plain = (await bus.probe('emu_iavf_lan')).device as IavfVdev;
    expect(plain.emudev.info.maxQueuePairs).toBe(4);
    expect(plain.emudev.getAttr(ATTR_MAC)[0]! & 3).toBe(2);
    expect(bus.registry.byName('emu_iavf_lan')).toBe(plain.emudev);
  });

  it.each([
    ['queues=17', /queues=17: must be an integer from 1 to 16/],
    ['mac=01:00:00:00:00:00', /multicast/],
    ['doorbell=maps', /must be one of map, trap; did you mean 'map'/],
    ['que=4', /unknown argument 'que'; did you mean 'queues'\?; known: mac, queues, doorbell, speed|unknown argument 'que'; known: mac, queues, doorbell, speed/],
  ])('refuses %s with a message that helps', async (arg, message) => {
    await using bus = new VdevBus().register(driver);
    await expect(bus.probe(`emu_iavf0,${arg}`)).rejects.toThrow(message);
  });

  it('a refused or closed card leaves nothing, and its name is free again', async () => {
    await using bus = new VdevBus().register(driver);
    await bus.probe('emu_iavf0');
    const before = countOpenFds();
    bus.registry.allocate('emu_iavf1', bus.registry.byName('emu_iavf0') as never);
    await expect(bus.probe('emu_iavf1')).rejects.toMatchObject({ code: 'EMUDEV_EXISTS' });
    expect(countOpenFds()).toBe(before);
    await bus.remove('emu_iavf0');
    expect(countOpenFds()).toBe(before - 1);
    await bus.probe('emu_iavf0');
  });
});
