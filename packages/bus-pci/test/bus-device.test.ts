/** What a driver gets: registers, interrupts, memory. */
import { Window } from '@emudev/dma';
import { countOpenFds, linux } from '@emudev/linux';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BusDevice, findMsixTable, parseAddress, withoutMsixTable } from '../src/index.ts';
import type { BusDeviceOptions, BusInterrupt } from '../src/index.ts';
import { IDS, ScriptedTransport } from './scripted.ts';
import type { DeviceScript } from './scripted.ts';

const window = Window.open();
let before: readonly number[] = [];
const held = (): readonly number[] => [countOpenFds(), window.mappingCount];
beforeEach(() => void (before = held()));
afterEach(() => void expect(held()).toEqual(before));

async function open(script: DeviceScript = {}, options: BusDeviceOptions = {}): Promise<{ device: BusDevice; transport: ScriptedTransport }> {
  const transport = new ScriptedTransport(parseAddress('0000:01:00.0'), script);
  const device = await BusDevice.from(transport, options);
  transport.calls.length = 0;
  return { device, transport };
}

/** Two pages of registers, of which the second is mapped. */
const HALF_MAPPED: DeviceScript = { bars: [{ sizeBytes: 8192, areas: [{ offset: 4096, sizeBytes: 4096 }] }] };

describe('identity and configuration space', () => {
  test('ids come from the device', async () => {
    const { device } = await open();
    await using _ = device;
    expect(device.ids).toEqual(IDS);
  });

  test('255 bytes of configuration space are enough, and never overrun', async () => {
    const { device, transport } = await open({ configBytes: 255 });
    await using _ = device;
    transport.memory[7]!.set([0x10, 0x00], 6);
    transport.memory[7]![0x34] = 0x40;
    transport.memory[7]!.set([0x09, 0x00], 0x40);
    expect(await device.config.capabilities()).toEqual([{ id: 9, offset: 0x40, version: 0 }]);
    expect(await device.config.extendedCapabilities()).toEqual([]);
  });

  test('a device that does not answer is gone, and closed', async () => {
    const transport = new ScriptedTransport(parseAddress('0000:01:00.0'));
    transport.memory[7]!.fill(0xff);
    await expect(BusDevice.from(transport)).rejects.toMatchObject({ code: 'ERR_BUS_GONE' });
    expect(transport.ended).toBe('closed');
  });

  test('without configuration space it is no PCI device', async () => {
    const transport = new ScriptedTransport(parseAddress('0000:01:00.0'), { configBytes: 0 });
    await expect(BusDevice.from(transport)).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE' });
    expect(transport.ended).toBe('closed');
  });

  test('bus mastering is switched on and, when the device is closed, off', async () => {
    const { device, transport } = await open();
    await device.setBusMaster(true);
    expect(transport.memory[7]![4]).toBe(4);
    await device.close();
    expect(transport.memory[7]![4]).toBe(0);
  });

  test('a reset leaves it as it was', async () => {
    const { device, transport } = await open({ bars: [{ sizeBytes: 16 }] });
    await using _ = device;
    await Promise.all([device.bar(0), device.setBusMaster(true), device.reset()]);
    expect(transport.calls).toContain('reset');
    expect(transport.memory[7]![4]).toBe(6);
  });

  test('changes of the command register do not undo each other', async () => {
    const { device, transport } = await open({ bars: [{ sizeBytes: 16 }, { sizeBytes: 8, io: true }] });
    await using _ = device;
    await Promise.all([device.setBusMaster(true), device.bar(0), device.bar(1)]);
    expect(transport.memory[7]![4]).toBe(7);
  });
});

describe('registers', () => {
  test('are accessed by messages of their own width where they are not mapped', async () => {
    const { device, transport } = await open({ bars: [{ sizeBytes: 64 }] });
    await using _ = device;
    const bar = await device.bar(0);
    transport.calls.length = 0;
    await bar.write32(4, 0x89ab_cdef);
    await bar.write16(8, 0x1234);
    await bar.write8(11, 0x99);
    await bar.post32(12, 7);
    expect([await bar.read32(4), await bar.read16(8), await bar.read8(11), await bar.read32(12)]).toEqual([0x89ab_cdef, 0x1234, 0x99, 7]);
    expect(transport.calls).toEqual(['write 0 4+4', 'write 0 8+2', 'write 0 11+1', 'post 0 12+4', 'read 0 4+4', 'read 0 8+2', 'read 0 11+1', 'read 0 12+4']);
    expect(bar.direct(0, 4)).toBeUndefined();
  });

  test('are accessed in place where they are mapped', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    await using _ = device;
    const bar = await device.bar(0);
    transport.calls.length = 0;
    await bar.write32(4100, 0xffff_fffe);
    await bar.post32(4104, 1);
    const registers = bar.direct(4096, 64)!;
    expect([registers.read32(4100), registers.read16(4102), registers.read8(4100)]).toEqual([0xffff_fffe, 0xffff, 0xfe]);
    registers.write8(4104, 0x11);
    registers.write16(4106, 0x2233);
    expect([await bar.read32(4104), window.u32[(bar.windowOffset(4104, 4)!) >>> 2]]).toEqual([0x2233_0011, 0x2233_0011]);
    expect(transport.calls).toEqual([]);
  });

  test('outside the BAR, or not aligned to their width, there are none', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    await using _ = device;
    const bar = await device.bar(0);
    transport.calls.length = 0;
    const registers = bar.direct(4096, 64)!;
    for (const offset of [-4, 2, 8190, 8192, 4098, Number.NaN, 2 ** 53]) await expect(bar.read32(offset)).rejects.toMatchObject({ code: 'ERR_BUS_RANGE' });
    await expect(bar.write16(4097, 0)).rejects.toMatchObject({ code: 'ERR_BUS_RANGE' });
    for (const offset of [0, 4092, 4160, 4098]) expect(() => registers.read32(offset)).toThrow(expect.objectContaining({ code: 'ERR_BUS_RANGE' }));
    expect(transport.calls).toEqual([]);
  });

  test('a driver that needs them mapped learns at once that they are not', async () => {
    const { device } = await open(HALF_MAPPED);
    await using _ = device;
    const bar = await device.bar(0);
    expect(() => { bar.requireDirect([{ offset: 4096, length: 4096 }]); }).not.toThrow();
    expect(() => { bar.requireDirect([{ offset: 4096, length: 16 }, { offset: 4088, length: 16 }]); }).toThrow(expect.objectContaining({ code: 'ERR_BUS_NOT_MAPPABLE' }));
  });

  test('I/O ports are not mapped, and what is not safe to map is accessed by messages', async () => {
    const areas = [{ offset: 0, sizeBytes: 4096 }];
    const io = await open({ bars: [{ sizeBytes: 4096, io: true, areas }] });
    await using _ = io.device;
    const unsafe = await open({ bars: [{ sizeBytes: 4096, areas }], notMappable: true });
    await using _2 = unsafe.device;
    const [port, bar] = [await io.device.bar(0), await unsafe.device.bar(0)];
    expect([port.kind, port.areas, bar.kind, bar.areas]).toEqual(['io', [], 'memory', []]);
    await bar.write32(0, 5);
    expect(unsafe.transport.memory[0]![0]).toBe(5);
  });

  test('a BAR is made once, and mapped until the device is closed', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    expect(await device.bar(0)).toBe(await device.bar(0));
    expect(transport.mappings).toBe(1);
    for (const index of [1, 6, -1, 0.5]) await expect(device.bar(index)).rejects.toMatchObject({ code: 'ERR_BUS_RANGE' });
    await device.close();
    expect(transport.mappings).toBe(0);
  });

  test('a BAR that could not be had is asked for again', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    await using _ = device;
    transport.refuses = (call) => call === 'map';
    await expect(device.bar(0)).rejects.toMatchObject({ code: 'ERR_BUS_REFUSED' });
    transport.refuses = undefined;
    expect((await device.bar(0)).areas).toHaveLength(1);
  });
});

describe('interrupts', () => {
  const MSIX: DeviceScript = { interrupts: [{ count: 1, flags: 7 }, { count: 0 }, { count: 8 }] };

  test('are counted, and add up while the callback is at work', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    const seen: BusInterrupt[] = [];
    const [first, second] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
    const working = Promise.withResolvers<undefined>();
    await device.interrupts.onInterrupt(2, [1, 3], async (interrupt) => {
      seen.push(interrupt);
      if (seen.length === 1) {
        first.resolve(undefined);
        await working.promise;
      } else {
        second.resolve(undefined);
      }
    });
    expect(transport.calls).toEqual(['irqs 2 1 fd - fd']);
    transport.signal(2, 3);
    await first.promise;
    transport.signal(2, 3);
    transport.signal(2, 3);
    await new Promise(setImmediate);
    working.resolve(undefined);
    await second.promise;
    expect(seen).toEqual([{ vector: 3, count: 1 }, { vector: 3, count: 2 }]);
  });

  test('INTx is unmasked when its callback is done', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    const again = Promise.withResolvers<undefined>();
    let calls = 0;
    await device.interrupts.onInterrupt(0, [0], () => {
      if (++calls === 2) again.resolve(undefined);
      else expect(transport.calls).not.toContain('unmask 0 0+1');
    });
    transport.signal(0, 0);
    while (!transport.calls.includes('unmask 0 0+1')) await new Promise(setImmediate);
    transport.signal(0, 0);
    await again.promise;
  });

  test('listeners of one index leave each other connected, and set up anew what the device has not room for', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    const one = await device.interrupts.onInterrupt(2, [0, 2], () => {});
    const two = await device.interrupts.onInterrupt(2, [1], () => {});
    expect([...transport.eventfds.get(2)!.keys()].sort()).toEqual([0, 1, 2]);
    await one[Symbol.asyncDispose]();
    expect([...transport.eventfds.get(2)!.keys()]).toEqual([1]);
    await two[Symbol.asyncDispose]();
    expect(transport.calls.filter((call) => call.startsWith('clear'))).toEqual([]);
    // Nobody listens any more: what is more than before, or another index, is set up from the beginning.
    await using three = await device.interrupts.onInterrupt(2, [2], () => {});
    expect(transport.calls.filter((call) => call.startsWith('clear'))).toEqual([]);
    await three[Symbol.asyncDispose]();
    await using four = await device.interrupts.onInterrupt(2, [5], () => {});
    await four[Symbol.asyncDispose]();
    await using five = await device.interrupts.onInterrupt(0, [0], () => {});
    await five[Symbol.asyncDispose]();
    expect(transport.calls.filter((call) => call.startsWith('clear'))).toEqual(['clear 2', 'clear 2']);
  });

  test('a callback that throws ends its listener, which says so', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    const failed = Promise.withResolvers<unknown>();
    await device.interrupts.onInterrupt(2, [0], () => { throw new Error('oops'); }, { onError: failed.resolve });
    transport.signal(2, 0);
    expect(await failed.promise).toMatchObject({ message: 'oops' });
    expect(transport.eventfds.get(2)!.size).toBe(0);
  });

  test('of a device that goes away the last ones still come, then its end', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    const told: unknown[] = [];
    const ended = Promise.withResolvers<unknown>();
    await device.interrupts.onInterrupt(2, [0], (interrupt) => { told.push(interrupt); }, { onError: ended.resolve });
    transport.signal(2, 0);
    transport.goAway();
    expect(await ended.promise).toMatchObject({ code: 'ERR_BUS_GONE' });
    expect(told).toEqual([{ vector: 0, count: 1 }]);
    await expect(device.interrupts.onInterrupt(2, [0], () => {})).rejects.toMatchObject({ code: 'ERR_BUS_GONE' });
  });

  test('vectors that the device does not have are refused, and a refusal leaves nothing open', async () => {
    const { device, transport } = await open(MSIX);
    await using _ = device;
    for (const vectors of [[8], [-1], [0.5], [0, 9]]) await expect(device.interrupts.onInterrupt(2, vectors, () => {})).rejects.toMatchObject({ code: 'ERR_BUS_RANGE' });
    for (const vectors of [[], [1, 1]]) await expect(device.interrupts.onInterrupt(2, vectors, () => {})).rejects.toMatchObject({ code: 'ERR_BUS_ARGUMENT' });
    transport.refuses = (call) => call === 'setInterrupts';
    const fds = countOpenFds();
    await expect(device.interrupts.onInterrupt(2, [0], () => {})).rejects.toMatchObject({ code: 'ERR_BUS_REFUSED' });
    expect(countOpenFds()).toBe(fds);
  });
});

describe('memory for the device', () => {
  test('is a file and memory of this process at once, mapped in one piece', async () => {
    const { device, transport } = await open();
    await using _ = device;
    const [a, b] = [await device.dma.allocate(100), await device.dma.allocate(5000, 4096)];
    expect([transport.maps.size, a.iova % 64n, b.iova % 4096n]).toEqual([1, 0n, 0n]);
    const [map] = transport.maps.values();
    const inside = Number(b.iova - map!.iova);
    expect([map!.address + BigInt(inside), b.fdOffset]).toEqual([window.base + BigInt(b.windowOffset), inside]);
    b.bytes.set([1, 2, 3]);
    const fromFile = new Uint8Array(3);
    linux.pread(b.fd, fromFile, b.fdOffset);
    expect([...fromFile]).toEqual([1, 2, 3]);
  });

  test('lies where the device may be given addresses', async () => {
    const { device, transport } = await open({ iovaRanges: [{ first: 0n, last: 0xfedf_ffffn }, { first: 0xfef0_0000n, last: 0x1_001f_ffffn }] }, { dma: { firstIova: 0xfe00_0000n } });
    await using _ = device;
    for (let i = 0; i < 4; i++) await device.dma.allocate(2 ** 22);
    expect([...transport.maps.keys()]).toEqual([0xfe00_0000n, 0xfe40_0000n, 0xfe80_0000n, 0xff00_0000n]);
    for (let i = 0; i < 3; i++) await device.dma.allocate(2 ** 22);
    await expect(device.dma.allocate(2 ** 22)).rejects.toMatchObject({ code: 'ERR_BUS_DMA' });
  });

  test('is not more than the device takes, and nothing of a failure stays', async () => {
    const { device, transport } = await open({ maxDmaMaps: 2 }, { dma: { limitBytes: 2 ** 23 } });
    await using _ = device;
    transport.refuses = (call) => call === 'dmaMap';
    const fds = held();
    await expect(device.dma.allocate(64)).rejects.toMatchObject({ code: 'ERR_BUS_REFUSED' });
    expect(held()).toEqual(fds);
    transport.refuses = undefined;
    await expect(device.dma.allocate(2 ** 24)).rejects.toMatchObject({ code: 'ERR_BUS_DMA' });
    await device.dma.allocate(2 ** 21);
    await device.dma.allocate(2 ** 21);
    await expect(device.dma.allocate(2 ** 21)).rejects.toMatchObject({ code: 'ERR_BUS_DMA', errno: 28 });
    await expect(device.dma.allocate(-1)).rejects.toMatchObject({ code: 'ERR_BUS_ARGUMENT' });
    expect(device.dma.mapCount).toBe(2);
  });

  test('is given back when the device is closed, whatever the device says, or when it has gone', async () => {
    const refusing = await open();
    await refusing.device.dma.allocate(64);
    refusing.transport.refuses = () => true;
    await refusing.device.close();
    const gone = await open();
    await gone.device.dma.allocate(64);
    gone.transport.goAway();
    expect(await gone.device.closed).toBe('gone');
    await gone.device.close();
    await expect(gone.device.dma.allocate(64)).rejects.toMatchObject({ code: 'ERR_BUS_ARGUMENT' });
  });
});

describe('the end', () => {
  test('closing twice is closing once, and in order', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    await device.bar(0);
    await device.setBusMaster(true);
    await Promise.all([device.close(), device.close()]);
    expect(transport.calls.filter((call) => call === 'close')).toHaveLength(1);
    expect(await device.closed).toBe('closed');
  });

  test('BARs that somebody may still store to can be kept', async () => {
    const { device, transport } = await open(HALF_MAPPED);
    const at = (await device.bar(0)).windowOffset(4096, 4)!;
    await device.close({ keepBars: true });
    window.u32[at >>> 2] = 5;
    expect([window.u32[at >>> 2], transport.mappings]).toEqual([5, 1]);
    before = held();
  });

  test('a BAR that is mapped while the device is closed does not stay', async () => {
    const { device } = await open(HALF_MAPPED);
    const bar = device.bar(0);
    const closed = device.close();
    await expect(bar).rejects.toMatchObject({ code: 'ERR_BUS_CLOSED' });
    await closed;
  });
});

describe('the MSI-X table', () => {
  const config = new Uint8Array(256);
  config.set([0x10, 0], 6);
  config[0x34] = 0x40;
  config.set([0x05, 0x50], 0x40);
  // 64 entries at 0x3010 of BAR 2.
  config.set([0x11, 0x00, 63, 0x80, 0x12, 0x30, 0, 0, 0, 0, 0, 0], 0x50);

  test('is found through the capability list', () => {
    expect(findMsixTable(config)).toEqual({ bar: 2, offset: 0x3010, sizeBytes: 1024 });
    const circle = config.slice();
    circle.set([0x05, 0x40], 0x50);
    const outside = config.slice();
    outside[0x41] = 0xf8;
    for (const other of [circle, outside, config.subarray(0, 0x40), new Uint8Array(0), new Uint8Array(256).fill(0xff)]) expect(findMsixTable(other)).toBeUndefined();
  });

  test('takes its pages out of what is mapped of its BAR', () => {
    const table = findMsixTable(config);
    const areas = [{ offset: 0x8000, sizeBytes: 0x1000 }, { offset: 0, sizeBytes: 0x8000 }];
    expect(withoutMsixTable(2, areas, table)).toEqual([{ offset: 0, sizeBytes: 0x3000 }, { offset: 0x4000, sizeBytes: 0x4000 }, { offset: 0x8000, sizeBytes: 0x1000 }]);
    expect(withoutMsixTable(2, [{ offset: 0x3000, sizeBytes: 0x1000 }], table)).toEqual([]);
    expect(withoutMsixTable(0, [{ offset: 0x3000, sizeBytes: 0x1000 }], table)).toHaveLength(1);
  });
});
