/** An open device of the kernel: regions, accesses, mappings, interrupts, memory; and what becomes of it when it goes. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Window } from '@emudev/dma';
import { countMappings, countOpenFds, linux, OwnedFd, withFaults, type Fault } from '@emudev/linux';
import { KernelSource, MAX_DEVICE_INDEXES, type PciTransport } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';
import { FakeVfio, type FakeModel, type FakeRegion } from './fake-vfio.ts';
import { fakeFunction, fakeMtty, type FakeFunctionOptions } from './fake-vfio-models.ts';

const NAME = '0000:01:00.0';
const ADDRESS = { kind: 'pci', domain: 0, bus: 1, device: 0, function: 0 } as const;
const [BAR0, BAR2, BAR3, ROM, CONFIG, VGA] = [0, 2, 3, 6, 7, 8] as const;
const [INTX, MSIX, REQUEST] = [0, 2, 4] as const;
const [READ_WRITE, MAPPABLE] = [3, 7] as const;
const coded = (code: string, errno?: number): unknown => expect.objectContaining({ code, ...(errno === undefined ? {} : { errno }) });

let kernel: FakeKernel;
let vfio: FakeVfio;
let window: Window;
let before = 0;
let device: PciTransport | undefined;
beforeEach(() => {
  before = countOpenFds();
  kernel = new FakeKernel();
  vfio = new FakeVfio(kernel);
  window = Window.open();
  kernel.pci(NAME, { driver: 'vfio-pci', group: 7 });
});
afterEach(async () => {
  await device?.close();
  device = undefined;
  expect([countOpenFds(), vfio.openFiles, vfio.lockedBytes, vfio.connected, window.mappingCount]).toEqual([before, 0, 0, 0, 0]);
  window[Symbol.dispose]();
  kernel[Symbol.dispose]();
});

async function opened(model: FakeModel = fakeFunction(), faults: readonly Fault[] = []): Promise<PciTransport> {
  vfio.device(NAME, 7, model);
  device = await new KernelSource({ sysfs: kernel, sys: withFaults(vfio.sys, faults) }).open(ADDRESS);
  return device;
}
const withRegion = (index: number, region: FakeRegion, more: FakeFunctionOptions = {}): FakeModel => fakeFunction({ ...more, regions: { [index]: region } });
const areasOf = async (index: number, model: FakeModel): Promise<number[][]> => (await (await opened(model)).region(index)).areas.map(({ offset, sizeBytes }) => [offset, sizeBytes]);
/** A sparse-mmap capability, for right behind the structure. */
function sparse(...areas: readonly (readonly [number, number])[]): Uint8Array {
  const words = areas.flatMap(([offset, size]) => [BigInt(offset), BigInt(size)]);
  return new Uint8Array([...new Uint8Array(Uint32Array.of(0x0001_0001, 0, areas.length, 0).buffer), ...new Uint8Array(BigUint64Array.from(words).buffer)]);
}

test('an index that the device refuses is a region of no bytes; one beyond is none', async () => {
  const own = await opened();
  expect([own.regionCount, own.interruptCount, own.resettable]).toEqual([9, 5, true]);
  expect(await own.region(VGA)).toEqual({ index: VGA, sizeBytes: 0, readable: false, writable: false, areas: [] });
  expect(await own.region(ROM)).toEqual({ index: ROM, sizeBytes: 0x4_0000, readable: true, writable: false, areas: [] });
  for (const index of [9, -1, 0.5, NaN]) await expect(own.region(index)).rejects.toEqual(coded('ERR_BUS_RANGE'));
  vfio.requests.length = 0;
  await own.region(ROM);
  expect(vfio.requests, 'asked once').toEqual([]);
});

test('device information grows as the kernel has it', async () => {
  expect((await opened(fakeFunction({ infoBytes: 24 }))).regionCount).toBe(9);
});

test.each<[string, FakeFunctionOptions, string]>([
  ['no PCI device', { flags: 4 }, 'ERR_BUS_UNUSABLE'],
  ['a device with more regions than anybody looks at', { regions: { [MAX_DEVICE_INDEXES]: undefined } }, 'ERR_BUS_VFIO_ARGSZ'],
  ['a device whose information never ends', { infoBytes: 0x1_0000_000 }, 'ERR_BUS_VFIO_ARGSZ'],
])('%s is not opened', async (_, options, code) => {
  await expect(opened(fakeFunction(options))).rejects.toEqual(coded(code));
});

test('a region\'s information may grow while it is asked for', async () => {
  const own = await opened(withRegion(BAR0, { offset: 0x1000, sizeBytes: 0x3000, flags: MAPPABLE, capabilities: sparse([0x1000, 0x1000]), growing: [48, 64] }));
  expect((await own.region(BAR0)).areas).toEqual([{ offset: 0x1000, sizeBytes: 0x1000 }]);
});

test.each<[string, Partial<FakeRegion>]>([
  ['a circle', { capabilities: Uint8Array.from(Buffer.from('0200010020000000', 'hex')) }],
  ['out of the structure', { capabilities: Uint8Array.from(Buffer.from('02000100f0000000', 'hex')) }],
  ['from beyond the structure', { capabilities: new Uint8Array(8), firstCapability: 0x100 }],
  ['areas beyond the region', { capabilities: sparse([0, 0x1_0000]) }],
])('a chain of capabilities with %s is refused, and the device stays usable', async (_, region) => {
  const own = await opened(withRegion(BAR0, { offset: 0, sizeBytes: 0x3000, flags: MAPPABLE, ...region }));
  await expect(own.region(BAR0)).rejects.toEqual(coded('ERR_BUS_VFIO_CHAIN'));
  expect((await own.region(ROM)).sizeBytes).toBe(0x4_0000);
});

test('numbers beyond 2^53 are refused', async () => {
  const own = await opened(withRegion(BAR0, { offset: 2 ** 53 - 0x1000, sizeBytes: 0x1000, flags: MAPPABLE }));
  await expect(own.region(BAR0)).rejects.toEqual(coded('ERR_BUS_REFUSED'));
  await expect(own.read(BAR0, 0, new Uint8Array(4))).rejects.toEqual(coded('ERR_BUS_REFUSED'));
});

test.each<[string, number, FakeModel, number[][]]>([
  ['a plain BAR is mapped whole', BAR0, fakeFunction(), [[0, 0x2_0000]]],
  ['a BAR of I/O ports never, whatever its flags', BAR2, withRegion(BAR2, { offset: 0x10_0000, sizeBytes: 0x1000, flags: MAPPABLE }), []],
  ['nor what the flags do not say', BAR0, withRegion(BAR0, { offset: 0, sizeBytes: 0x1000, flags: READ_WRITE }), []],
  ['nor what lies between the pages of the file', BAR0, withRegion(BAR0, { offset: 0x800, sizeBytes: 0x1000, flags: MAPPABLE }), []],
  ['the MSI-X table with the rest where the kernel says so', BAR3, fakeFunction(), [[0, 0x4000]]],
  ['without its pages where it does not', BAR3, withRegion(BAR3, { offset: 0x10_0000, sizeBytes: 0x4000, flags: MAPPABLE }), [[0x1000, 0x3000]]],
  ['before and behind a table in the middle', BAR3, withRegion(BAR3, { offset: 0x10_0000, sizeBytes: 0x4000, flags: MAPPABLE }, { capabilities: '1100ff00 03100000 03200000' }), [[0, 0x1000], [0x2000, 0x2000]]],
  ['nothing of a BAR that is all table', BAR3, withRegion(BAR3, { offset: 0x10_0000, sizeBytes: 0x1000, flags: MAPPABLE }), []],
  ['the table of another BAR is of no matter', BAR0, fakeFunction({ capabilities: '11000400 03000000 03200000' }), [[0, 0x2_0000]]],
  ['capabilities in a circle are looked through once', BAR3, withRegion(BAR3, { offset: 0x10_0000, sizeBytes: 0x4000, flags: MAPPABLE }, { capabilities: '05400000' }), [[0, 0x4000]]],
  ['only the areas that are listed', BAR0, withRegion(BAR0, { offset: 0, sizeBytes: 0x9000, flags: MAPPABLE, capabilities: sparse([0x4000, 0x1000], [0, 0x2000], [0x6000, 0]) }), [[0, 0x2000], [0x4000, 0x1000]]],
  ['none of a list of none', BAR0, withRegion(BAR0, { offset: 0, sizeBytes: 0x9000, flags: MAPPABLE, capabilities: sparse() }), []],
  ['whole pages of areas that begin and end in one', BAR0, withRegion(BAR0, { offset: 0, sizeBytes: 0x9800, flags: MAPPABLE, capabilities: sparse([0x800, 0x2000], [0x4800, 0x400], [0x8000, 0x1800]) }), [[0x1000, 0x1000], [0x8000, 0x1800]]],
  ['a region smaller than a page', BAR0, withRegion(BAR0, { offset: 0, sizeBytes: 0x100, flags: MAPPABLE }), [[0, 0x100]]],
])('what can be mapped: %s', async (_, index, model, areas) => {
  expect(await areasOf(index, model)).toEqual(areas);
});

test('areas are mapped where the kernel has them, all or none', async () => {
  const own = await opened(withRegion(BAR0, { offset: 0x5000, sizeBytes: 0x3800, flags: MAPPABLE, capabilities: sparse([0x1000, 0x1000], [0x3000, 0x800]) }));
  const mapping = await own.map(BAR0, window);
  expect(mapping.areas.map(({ offset, sizeBytes }) => [offset, sizeBytes])).toEqual([[0x1000, 0x1000], [0x3000, 0x800]]);
  for (const { offset, windowOffset } of mapping.areas) {
    window.view.setUint32(windowOffset + 8, offset, true);
    const into = Buffer.alloc(4);
    await own.read(BAR0, offset + 8, into);
    expect(into.readUInt32LE()).toBe(offset);
  }
  // It outlives the device, and only the device.
  await own.close();
  expect(window.view.getUint32(mapping.areas[0]!.windowOffset + 8, true)).toBe(0x1000);
  mapping[Symbol.dispose]();
  mapping[Symbol.dispose]();
});

test('a mapping that fails half way leaves none', async () => {
  const own = await opened(withRegion(BAR0, { offset: 0, sizeBytes: 0x4000, flags: MAPPABLE, capabilities: sparse([0, 0x1000], [0x2000, 0x1000]) }));
  const maps = countMappings();
  for (const [errno, code] of [['ENOMEM', 'ERR_BUS_NOT_MAPPABLE'], ['EINVAL', 'ERR_BUS_NOT_MAPPABLE']] as const) {
    window[Symbol.dispose]();
    window = Window.open({ sys: withFaults(linux, [{ call: 'mmap', nth: 2, errno }]) });
    await expect(own.map(BAR0, window)).rejects.toEqual(coded(code));
  }
  await expect(own.map(ROM, window)).rejects.toEqual(coded('ERR_BUS_NOT_MAPPABLE'));
  expect([window.mappingCount, countMappings()]).toEqual([0, maps]);
  window[Symbol.dispose]();
  window = Window.open({ sys: withFaults(linux, [{ call: 'mmap', nth: 1, errno: 'ENODEV' }]) });
  await expect(own.map(BAR0, window)).rejects.toEqual(coded('ERR_BUS_GONE'));
  await expect(own.closed).resolves.toBe('gone');
});

test('an access is one access, within the region, and all of it', async () => {
  vfio.device(NAME, 7, fakeFunction());
  const transfers: string[] = [];
  const sys = {
    ...vfio.sys,
    pread: (fd: number, into: Uint8Array, offset: number) => { transfers.push(`read ${into.length} at ${offset}`); return vfio.sys.pread(fd, into, offset); },
    pwrite: (fd: number, from: Uint8Array, offset: number) => { transfers.push(`write ${from.length} at ${offset}`); return vfio.sys.pwrite(fd, from, offset); },
  };
  const own = device = await new KernelSource({ sysfs: kernel, sys }).open(ADDRESS);
  await own.region(BAR0);
  transfers.length = 0;
  await own.write(BAR0, 0x10, Uint8Array.of(1, 2, 3, 4));
  const into = new Uint8Array(new SharedArrayBuffer(4));
  await own.read(BAR0, 0x10, into);
  expect([...into]).toEqual([1, 2, 3, 4]);
  expect(transfers).toEqual(['write 4 at 16', 'read 4 at 16']);
  await own.read(BAR0, 0x2_0000, new Uint8Array(0));
  for (const [offset, length] of [[0x1_fffd, 4], [0x2_0000, 1], [-4, 4], [0.5, 4], [2 ** 60, 4]] as const) {
    await expect(own.read(BAR0, offset, new Uint8Array(length))).rejects.toEqual(coded('ERR_BUS_RANGE'));
    await expect(own.write(BAR0, offset, new Uint8Array(length))).rejects.toEqual(coded('ERR_BUS_RANGE'));
  }
  await expect(own.read(VGA, 0, new Uint8Array(1))).rejects.toEqual(coded('ERR_BUS_RANGE'));
  expect(transfers.length, 'nothing of that reaches the kernel').toBe(2);
  vfio.faults.push({ kind: 'device', request: 'short', errno: '' });
  await expect(own.read(BAR0, 0, new Uint8Array(4))).rejects.toEqual(coded('ERR_BUS_REFUSED', 5));
});

test('interrupts: asked for once, and what the device does not have is none', async () => {
  const own = await opened(fakeMtty());
  expect(await own.interrupt(INTX)).toEqual({ index: 0, count: 1, flags: 7 });
  expect(await own.interrupt(MSIX)).toEqual({ index: 2, count: 0, flags: 0 });
  await expect(own.interrupt(5)).rejects.toEqual(coded('ERR_BUS_RANGE'));
  vfio.faults.push({ kind: 'device', request: 0x3b6d, errno: 'ENOTTY' });
  await expect(own.interrupt(1)).rejects.toEqual(coded('ERR_BUS_REFUSED', 25));
  expect((await own.interrupt(1)).count).toBe(1);
});

test('vectors are connected, masked, and disconnected once', async () => {
  const model = fakeFunction();
  const own = await opened(model);
  using eventfd = new OwnedFd(linux.eventfd());
  const { fd } = eventfd;
  await own.clearInterrupts(MSIX);
  await own.setInterrupts(MSIX, 1, [fd, -1, fd]);
  await own.maskInterrupts(INTX, 0, 1, true);
  await own.maskInterrupts(INTX, 0, 1, false);
  await own.setInterrupts(MSIX, 0, []);
  expect(vfio.connected).toBe(2);
  vfio.signal(NAME, MSIX, 3);
  expect(linux.eventfdDrain(fd)).toBe(1);
  await own.clearInterrupts(MSIX);
  await own.clearInterrupts(MSIX);
  expect(vfio.connected).toBe(0);
  expect(model.log).toEqual(['connect 2: 1, eventfd none eventfd', 'mask 0: 0+1', 'unmask 0: 0+1', 'off 2']);
  for (const [start, count] of [[0, 6], [5, 1], [-1, 1], [0.5, 1]] as const) {
    await expect(own.setInterrupts(MSIX, start, Array<number>(count).fill(fd))).rejects.toEqual(coded('ERR_BUS_RANGE'));
    await expect(own.maskInterrupts(MSIX, start, count, true)).rejects.toEqual(coded('ERR_BUS_RANGE'));
  }
  await expect(own.setInterrupts(5, 0, [fd])).rejects.toEqual(coded('ERR_BUS_RANGE'));
  await expect(own.setInterrupts(MSIX, 0, [1.5])).rejects.toEqual(coded('ERR_BUS_ARGUMENT'));
  await expect(own.setInterrupts(MSIX, 0, [0])).rejects.toEqual(coded('ERR_BUS_REFUSED', 9));
});

test('closing disconnects vector by vector, also where a mapping keeps the device open', async () => {
  const model = fakeFunction();
  const own = await opened(model);
  using eventfd = new OwnedFd(linux.eventfd());
  await own.setInterrupts(MSIX, 0, [eventfd.fd, eventfd.fd]);
  await own.setInterrupts(INTX, 0, [eventfd.fd]);
  model.log.length = 0;
  await own.close();
  expect(model.log).toEqual(['connect 2: 0, none none', 'connect 0: 0, none']);
});

test('whoever owns the device may ask for it', async () => {
  const own = await opened();
  const first = vi.fn();
  const asked = Promise.withResolvers<undefined>();
  const one = own.onReleaseRequest(first);
  const two = own.onReleaseRequest(() => { asked.resolve(undefined); });
  expect(vfio.connected).toBe(1);
  one[Symbol.dispose]();
  vfio.signal(NAME, REQUEST);
  await asked.promise;
  expect(first).not.toHaveBeenCalled();
  two[Symbol.dispose]();
  two[Symbol.dispose]();
  expect(vfio.connected).toBe(0);
  own.onReleaseRequest(first);
});

test.each<[string, FakeModel, readonly Fault[], string | undefined]>([
  ['has no such interrupt', fakeFunction({ irqs: [] }), [], undefined],
  ['counts it and refuses it', { ...fakeFunction(), settable: false }, [], undefined],
  ['is refused an eventfd', fakeFunction(), [{ call: 'eventfd', nth: 1, errno: 'EMFILE' }], 'ERR_BUS_REFUSED'],
  ['is refused a watch', fakeFunction(), [{ call: 'watch', nth: 1, errno: 'ENOMEM' }], 'ERR_BUS_REFUSED'],
])('a device that %s: asking is never heard', async (_, model, faults, code) => {
  const own = await opened(model, faults);
  if (code !== undefined) expect(() => own.onReleaseRequest(() => undefined)).toThrow(coded(code) as Error);
  else own.onReleaseRequest(() => undefined)[Symbol.dispose]();
  expect(vfio.connected).toBe(0);
});

const dma = (iova: bigint, sizeBytes: number, address = 0x7000_0000n) => ({ iova, sizeBytes, address, readable: true, writable: false, fd: -1, fdOffset: 0 });

test('memory: once each, whole pages, where the device reaches; what is left goes with the device', async () => {
  const own = await opened();
  await own.dmaMap(dma(0x1000n, 0x2000));
  await expect(own.dmaMap(dma(0x2000n, 0x1000))).rejects.toEqual(coded('ERR_BUS_DMA', 17));
  for (const bad of [dma(0x800n, 0x1000), dma(0x8000n, 0x800), dma(0x8000n, 0), dma(0x8000n, -4096), dma(0x8000n, 0x1000, 0x10n), dma(0xfee0_0000n, 0x1000), dma(0xfedf_f000n, 0x2000), dma(1n << 63n, 0x1000)]) {
    await expect(own.dmaMap(bad)).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  }
  await expect(own.dmaUnmap(0x1000n, 0x1000)).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  await expect(own.dmaUnmap(0x3000n, 0x1000)).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  await own.dmaUnmap(0x1000n, 0x2000);
  await own.dmaMap(dma(0x1000n, 0x1000));
  expect(vfio.lockedBytes).toBe(0x1000);
});

test('more memory than may be locked, and more maps than there are: the message says what to do', async () => {
  vfio.lockLimit = 0x2000;
  vfio.mapsAvailable = 1;
  const own = await opened();
  expect(own.maxDmaMaps).toBe(1);
  await expect(own.dmaMap(dma(0n, 0x3000))).rejects.toThrow(/RLIMIT_MEMLOCK/);
  await own.dmaMap(dma(0n, 0x1000));
  await expect(own.dmaMap(dma(0x1000n, 0x1000))).rejects.toEqual(coded('ERR_BUS_DMA', 28));
});

test('larger pages of the IOMMU hold for every map', async () => {
  vfio.pageSizes = 0x4020_0000n;
  const own = await opened();
  expect(own.dmaPageBytes).toBe(0x20_0000);
  await expect(own.dmaMap(dma(0n, 0x1000))).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  await own.dmaMap(dma(0n, 0x20_0000));
});

test('a reset, where there is one', async () => {
  const reset = vi.fn();
  await (await opened(fakeFunction({ reset }))).reset();
  expect(reset).toHaveBeenCalledOnce();
  await device!.close();
  await expect((await opened(fakeMtty())).reset()).rejects.toEqual(coded('ERR_BUS_REFUSED', 22));
});

test('a device that vanishes in the middle of a call has gone, whichever call it was, and leaves nothing', async () => {
  using eventfd = new OwnedFd(linux.eventfd());
  const calls: ((own: PciTransport) => Promise<unknown>)[] = [
    (own) => own.read(BAR0, 0, new Uint8Array(4)), (own) => own.write(BAR0, 0, new Uint8Array(4)), (own) => own.region(BAR3), (own) => own.interrupt(1),
    (own) => own.setInterrupts(INTX, 0, [eventfd.fd]), (own) => own.maskInterrupts(INTX, 0, 1, false), (own) => own.reset(), (own) => own.map(BAR3, window),
  ];
  for (const call of calls) {
    const own = await opened();
    await own.region(BAR0);
    await own.setInterrupts(INTX, 0, [eventfd.fd]);
    own.onReleaseRequest(() => undefined);
    await own.dmaMap(dma(0n, 0x1000));
    vfio.vanish(NAME);
    await expect(call(own)).rejects.toEqual(coded('ERR_BUS_GONE', 19));
    await expect(own.closed).resolves.toBe('gone');
    expect([countOpenFds() - 1, vfio.openFiles]).toEqual([before, 0]);
    await expect(own.region(BAR0)).rejects.toEqual(coded('ERR_BUS_GONE'));
    await own.close();
    await expect(own.closed).resolves.toBe('gone');
  }
});

test('EIO means gone only where nothing answers as the function', async () => {
  const own = await opened();
  vfio.faults.push({ kind: 'device', request: 'pread', errno: 'EIO' });
  await expect(own.read(BAR0, 0, new Uint8Array(4))).rejects.toThrow(/command register/);
  vfio.faults.push({ kind: 'device', request: 'pread', errno: 'EIO' }, { kind: 'device', request: 'pread', errno: 'EIO' });
  await expect(own.read(BAR0, 0, new Uint8Array(4))).rejects.toEqual(coded('ERR_BUS_GONE'));
  await own.close();
  const allOnes = await opened({ ...fakeFunction(), read: (region, _, into) => (region === CONFIG ? into.fill(0xff).length : undefined) });
  vfio.faults.push({ kind: 'device', request: 'pwrite', errno: 'EIO' });
  await expect(allOnes.write(BAR0, 0, new Uint8Array(4))).rejects.toEqual(coded('ERR_BUS_GONE'));
});

test('after closing every call is refused', async () => {
  await using own = await opened();
  await own.close();
  for (const call of [own.region(0), own.read(BAR0, 0, new Uint8Array(1)), own.map(BAR0, window), own.reset(), own.dmaMap(dma(0n, 4096)), own.setInterrupts(0, 0, [])]) await expect(call).rejects.toEqual(coded('ERR_BUS_CLOSED'));
  expect(() => own.onReleaseRequest(() => undefined)).toThrow(coded('ERR_BUS_CLOSED') as Error);
  await expect(own.closed).resolves.toBe('closed');
});
