/** Devices behind vfio-user sockets: a real server in this process, and servers that lie. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { countOpenFds, linux } from '@emudev/linux';
import { IRQ_INTX, IRQ_MSIX } from '@emudev/pci';
import * as p from '@emudev/vfio-user-protocol';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PathServer, smallDevice } from '../../vfio-user-client/test/path-server.ts';
import { BusDevice, formatAddress, PciBus, pollDevices, Selection, VfioUserSource } from '../src/index.ts';
import type { HotPlugEvent, PciAddress } from '../src/index.ts';
import { Card, CARD_IDS, ECHO_HIGH, ECHO_LOW, INTX, PAGE, RAISE, REQUEST, SCRATCH } from './card.ts';

const folder = mkdtempSync(join(tmpdir(), 'bus-pci-'));
const window = Window.open();
afterAll(() => { rmSync(folder, { recursive: true }); });
let count = 0;
let before: readonly number[] = [];
const held = (): readonly number[] => [countOpenFds(), window.mappingCount];
beforeEach(() => void (before = held()));
afterEach(() => void expect(held()).toEqual(before));

const freePath = (): string => join(folder, `${count++}.sock`);
const at = (path: string): PciAddress => ({ kind: 'vfio-user', path });

/** A card behind a socket. */
async function serve(path: string, sealed = true): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const card = stack.use(new Card(sealed));
  const server = stack.use(new VfioUserServer(card, { window }));
  await server.listen(path);
  return stack.move();
}

/** For servers that never answer: whoever expects an answer waits as long as it takes. */
const impatient = new VfioUserSource({ client: { timeoutMs: 200 } });

describe('a card', () => {
  const path = freePath();
  const source = new VfioUserSource({ paths: [path] });
  let server: AsyncDisposable;
  beforeEach(async () => void (server = await serve(path)));
  afterEach(async () => { await server[Symbol.asyncDispose](); });

  test('is found without being connected to, and tells its ids when it is open', async () => {
    expect(await source.scan()).toMatchObject([{ address: at(path) }]);
    await using device = await BusDevice.open(source, at(path));
    expect(device.ids).toEqual(CARD_IDS);
    expect((await device.config.findCapability(0x11))?.id).toBe(0x11);
  });

  test('has registers by message and by mapping', async () => {
    await using device = await BusDevice.open(source, at(path));
    const bar = await device.bar(0);
    expect([bar.kind, bar.sizeBytes, bar.areas.map(({ offset, sizeBytes }) => [offset, sizeBytes])]).toEqual(['memory', 8192, [[PAGE, 4096]]]);
    await bar.write32(SCRATCH, 0xdead_beef);
    expect([await bar.read32(SCRATCH), await bar.read16(SCRATCH + 2), await bar.read8(SCRATCH)]).toEqual([0xdead_beef, 0xdead, 0xef]);
    bar.direct(PAGE, 4)!.write32(PAGE, 0x0102_0304);
    const byMessage = new Uint8Array(4);
    await device.read(0, PAGE, byMessage);
    expect([...byMessage]).toEqual([4, 3, 2, 1]);
  });

  test('uses memory by DMA', async () => {
    await using device = await BusDevice.open(source, at(path));
    const bar = await device.bar(0);
    await device.setBusMaster(true);
    const buffer = await device.dma.allocate(128);
    buffer.bytes.fill(41, 0, 64);
    await bar.write32(ECHO_LOW, Number(buffer.iova & 0xffff_ffffn));
    await bar.write32(ECHO_HIGH, Number(buffer.iova >> 32n));
    expect([...buffer.bytes.subarray(64)]).toEqual(Array(64).fill(42));
    await device.dma.map({ iova: 0n, sizeBytes: 4096, readable: true, writable: false, fd: buffer.fd, fdOffset: 0, address: window.base + BigInt(buffer.windowOffset) });
    await expect(device.dma.map({ iova: 0n, sizeBytes: 4096, readable: true, writable: false, fd: buffer.fd, fdOffset: 0, address: 0n })).rejects.toMatchObject({ code: 'ERR_BUS_DMA' });
    await device.dma.unmap(0n, 4096);
    await expect(device.dma.unmap(0n, 4096)).rejects.toMatchObject({ code: 'ERR_BUS_DMA' });
  });

  test('interrupts, by message and by level', async () => {
    await using device = await BusDevice.open(source, at(path));
    const bar = await device.bar(0);
    await device.setBusMaster(true);
    const seen: number[] = [];
    let arrived = Promise.withResolvers<undefined>();
    const on = (vector: number): void => {
      seen.push(vector);
      arrived.resolve(undefined);
    };
    await using msix = await device.interrupts.onInterrupt(IRQ_MSIX, [1, 3], ({ vector }) => { on(vector); });
    await bar.write32(RAISE, 3);
    await arrived.promise;
    await bar.write32(RAISE, 0);
    arrived = Promise.withResolvers();
    await bar.write32(RAISE, 1);
    await arrived.promise;
    await msix[Symbol.asyncDispose]();
    arrived = Promise.withResolvers();
    // As long as the level is asserted, every unmask brings the next one.
    await using intx = await device.interrupts.onInterrupt(IRQ_INTX, [0], async () => {
      if (seen.filter((vector) => vector === 100).length === 2) await bar.write32(INTX, 0);
      on(100);
    });
    await bar.write32(INTX, 1);
    while (seen.length < 5) {
      await arrived.promise;
      arrived = Promise.withResolvers();
    }
    expect(seen).toEqual([3, 1, 100, 100, 100]);
    await intx[Symbol.asyncDispose]();
  });

  test('is reset, and says that its owner wants it back', async () => {
    await using device = await BusDevice.open(source, at(path));
    expect(device.resettable).toBe(true);
    await device.reset();
    const asked = Promise.withResolvers<undefined>();
    using _ = device.onReleaseRequest(() => { asked.resolve(undefined); });
    await (await device.bar(0)).write32(REQUEST, 1);
    await asked.promise;
  });

  test('is for one client: another one is told that it is busy', async () => {
    await using _ = await BusDevice.open(source, at(path));
    await expect(BusDevice.open(impatient, at(path))).rejects.toMatchObject({ code: 'ERR_BUS_BUSY', message: expect.stringContaining(path) as string });
  });

  test('refuses what is outside of it before anything is sent', async () => {
    await using transport = await source.open(at(path));
    const byte = new Uint8Array(1);
    for (const call of [
      () => transport.region(transport.regionCount), () => transport.interrupt(-1), () => transport.read(0, 8192, byte), () => transport.read(1, 0, byte), () => transport.write(7, -1, byte),
      () => transport.setInterrupts(IRQ_MSIX, 3, [-1, -1]), () => transport.maskInterrupts(0, 0, 2, true), () => transport.clearInterrupts(9), () => transport.read(0, 2 ** 53, byte),
    ]) await expect(call()).rejects.toMatchObject({ code: 'ERR_BUS_RANGE' });
    await expect(transport.map(7, window)).rejects.toMatchObject({ code: 'ERR_BUS_NOT_MAPPABLE' });
    expect([await transport.region(1), await transport.interrupt(1)]).toMatchObject([{ sizeBytes: 0 }, { count: 0 }]);
  });

  test('when it is closed, says so; when its server leaves, is gone', async () => {
    const closed = await source.open(at(path));
    await Promise.all([closed.close(), closed.close()]);
    expect(await closed.closed).toBe('closed');
    await expect(closed.read(7, 0, new Uint8Array(2))).rejects.toMatchObject({ code: 'ERR_BUS_CLOSED' });
    await using device = await BusDevice.open(source, at(path));
    await server[Symbol.asyncDispose]();
    expect(await device.closed).toBe('gone');
    await expect((await Promise.allSettled([device.bar(0)]))[0]).toMatchObject({ status: 'rejected', reason: { code: 'ERR_BUS_GONE' } });
  });

  test('of listeners that wait for their turn while it is closed each is told just that', async () => {
    const device = await BusDevice.open(source, at(path));
    const listening = [IRQ_MSIX, IRQ_MSIX, IRQ_INTX].map((index, vector) => device.interrupts.onInterrupt(index, [vector % 2], () => {}));
    const outcomes = Promise.allSettled(listening);
    await Promise.all([device.close(), device.close()]);
    for (const outcome of await outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'ERR_BUS_CLOSED' });
    expect((await outcomes)[2]).toMatchObject({ status: 'rejected' });
  });

  test('a bus drives it, and notices when its server has gone', async () => {
    const bus = new PciBus({ selection: Selection.parse({ allow: [path] }) }).addSource(new VfioUserSource());
    const removed = Promise.withResolvers<undefined>();
    bus.register<number>({
      name: 'reader', ids: [{ vendor: CARD_IDS.vendor }],
      probe: async (device) => await (await device.bar(0)).read32(SCRATCH),
      remove: async () => { removed.resolve(undefined); },
    });
    await using _ = bus;
    expect((await bus.probe()).driven).toMatchObject([{ driver: 'reader', handle: 0 }]);
    await server[Symbol.asyncDispose]();
    await removed.promise;
  });
});

test('a file that its server may shrink is not mapped: its registers are accessed by messages', async () => {
  const path = freePath();
  await using _ = await serve(path, false);
  await using device = await BusDevice.open(new VfioUserSource(), at(path));
  const bar = await device.bar(0);
  expect(bar.areas).toEqual([]);
  await bar.write32(PAGE, 7);
  expect(await bar.read32(PAGE)).toBe(7);
});

describe('a server that', () => {
  const open = (path: string, signal?: AbortSignal): Promise<BusDevice> => BusDevice.open(new VfioUserSource(), at(path), signal === undefined ? {} : { signal });

  test('is not there, or not listening, or no server', async () => {
    const [nothing, file, stale] = [freePath(), freePath(), freePath()];
    writeFileSync(file, '');
    linux.close(linux.unixListen(stale, 1));
    await expect(open(nothing)).rejects.toMatchObject({ code: 'ERR_BUS_GONE', errno: 2 });
    await expect(open(stale)).rejects.toMatchObject({ code: 'ERR_BUS_GONE', errno: 111 });
    await expect(open(file)).rejects.toMatchObject({ code: 'ERR_BUS_GONE' });
    await expect(open('/'.padEnd(107, 'x'))).rejects.toMatchObject({ code: expect.stringMatching(/ERR_BUS_(GONE|UNUSABLE)/) as string });
    await expect(new VfioUserSource().open({ kind: 'mdev', uuid: '' })).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE' });
  });

  test('says nothing is busy, and whoever gives up waiting does so at once', async () => {
    const path = freePath();
    using _ = new PathServer(path, () => {}, { silent: true });
    await expect(BusDevice.open(impatient, at(path))).rejects.toMatchObject({ code: 'ERR_BUS_BUSY' });
    const abort = new AbortController();
    const opening = open(path, abort.signal);
    abort.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
    await expect(open(path, abort.signal)).rejects.toThrow('enough');
  });

  test('talks nonsense, or says there are more regions than anybody has, cannot be used', async () => {
    const path = freePath();
    {
      using _ = new PathServer(path, (_frame, server) => { server.send(new Uint8Array(64).fill(0xff)); }, { silent: true });
      await expect(open(path)).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE', errno: 71 });
    }
    using _ = new PathServer(path, smallDevice(), { info: { flags: 2, numRegions: 0xffff_ffff, numIrqs: 5 } });
    await expect(open(path)).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE' });
  });

  test('has fewer regions than a PCI device is none', async () => {
    const path = freePath();
    using _ = new PathServer(path, smallDevice(), { info: { flags: 2, numRegions: 2, numIrqs: 0 } });
    await expect(open(path)).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE' });
  });

  test('refuses regions and interrupts has none of these', async () => {
    const path = freePath();
    const memory = new Uint8Array(4096);
    memory.set([0x34, 0x12, 0x0d, 0x0c]);
    using _ = new PathServer(path, (frame, server) => {
      const odd = (frame.command === p.VFIO_USER_DEVICE_GET_REGION_INFO && p.decodeGetRegionInfo(frame.payload).index === 6) || frame.command === p.VFIO_USER_DEVICE_GET_IRQ_INFO;
      return odd ? server.refuse(frame, p.EINVAL) : smallDevice({}, memory)(frame, server);
    });
    await using device = await open(path);
    expect([device.ids.vendor, (await device.region(6)).sizeBytes, (await device.interrupts.info(2)).count]).toEqual([0x1234, 0, 0]);
  });

  test('leaves while the device is being described is gone', async () => {
    const path = freePath();
    using _ = new PathServer(path, (frame, server) => (frame.command === p.VFIO_USER_DEVICE_GET_IRQ_INFO ? server.close() : smallDevice()(frame, server)));
    await expect(open(path)).rejects.toMatchObject({ code: 'ERR_BUS_GONE' });
  });

  test('offers the pages of the MSI-X table to be mapped has them left out', async () => {
    const path = freePath();
    const file = linux.memfdCreate('all', { allowSealing: true });
    linux.ftruncate(file, 0x4000);
    const memory = new Uint8Array(4096);
    memory.set([0x34, 0x12, 0x0d, 0x0c, 0, 0, 0x10, 0]);
    memory[0x34] = 0x40;
    // 16 entries at 0x1800 of BAR 0: two pages are not needed for one, but it begins in the middle.
    memory.set([0x11, 0, 15, 0, 0x00, 0x18, 0, 0, 0, 0x20, 0, 0], 0x40);
    using _ = new PathServer(path, smallDevice({ barBytes: 0x4000 }, memory, file));
    {
      await using device = await open(path);
      expect((await device.bar(0)).areas.map(({ offset, sizeBytes }) => [offset, sizeBytes])).toEqual([[0, 0x1000], [0x2000, 0x2000]]);
    }
    linux.close(file);
  });
});

describe('sockets in a directory', () => {
  const watchFolder = mkdtempSync(join(tmpdir(), 'bus-pci-'));
  afterAll(() => { rmSync(watchFolder, { recursive: true }); });
  const source = new VfioUserSource({ directory: watchFolder });

  test('are found, nothing else is, and no list of them is typed', async () => {
    const path = join(watchFolder, 'card.sock');
    writeFileSync(join(watchFolder, 'card.pid'), '1');
    symlinkSync('card.sock', join(watchFolder, 'link.sock'));
    const listener = linux.unixListen(path, 1);
    expect((await source.scan()).map(({ address }) => formatAddress(address))).toEqual([`vfio-user:${path}`]);
    linux.close(listener);
    rmSync(path);
    expect(await source.scan(undefined, [at(path)])).toMatchObject([{ unusable: { reason: 'no-socket' } }]);
    await expect(new VfioUserSource({ directory: join(watchFolder, 'absent') }).scan()).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE', errno: 2 });
  });

  test('come, are replaced, and go', async () => {
    const path = join(watchFolder, 'plugged.sock');
    const events: HotPlugEvent['kind'][] = [];
    let next = Promise.withResolvers<undefined>();
    let scanned = Promise.withResolvers<undefined>();
    const scan = async (): ReturnType<typeof source.scan> => {
      const found = await source.scan();
      scanned.resolve(undefined);
      return found;
    };
    using _ = pollDevices(scan, ({ kind }) => {
      events.push(kind);
      next.resolve(undefined);
    }, (error) => { next.reject(error); }, 1);
    const step = async (change: () => void): Promise<void> => {
      scanned = Promise.withResolvers();
      await scanned.promise;
      next = Promise.withResolvers();
      change();
      await next.promise;
    };
    let listener = 0;
    await step(() => { listener = linux.unixListen(path, 1); });
    await step(() => {
      linux.close(listener);
      rmSync(path);
      // The first file's number is taken, so that the second one's differs.
      writeFileSync(join(watchFolder, 'other'), '');
      listener = linux.unixListen(path, 1);
    });
    await step(() => {
      linux.close(listener);
      rmSync(path);
    });
    expect(events).toEqual(['added', 'changed', 'removed']);
  });
});
