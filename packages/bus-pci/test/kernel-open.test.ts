/** Ways to a kernel device: groups with containers, nodes with iommufd; what is refused, and that nothing stays open then. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { countOpenFds, withFaults } from '@emudev/linux';
import { BusDevice, KernelSource, MAX_DMA_MAPS, MAX_UEVENTS_PER_TURN, type KernelSourceOptions, type PciAddress, type PciFunctionAddress, type PciTransport } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';
import { FakeVfio } from './fake-vfio.ts';
import { fakeFunction } from './fake-vfio-models.ts';

const at = (bus: number): PciFunctionAddress => ({ kind: 'pci', domain: 0, bus, device: 0, function: 0 });
const name = (bus: number): string => `0000:0${bus}:00.0`;
const coded = (code: string, errno?: number): unknown => expect.objectContaining({ code, ...(errno === undefined ? {} : { errno }) });

let kernel: FakeKernel;
let vfio: FakeVfio;
let before = 0;
beforeEach(() => { before = countOpenFds(); kernel = new FakeKernel(); vfio = new FakeVfio(kernel); });
afterEach(() => {
  expect([countOpenFds(), vfio.openFiles, vfio.lockedBytes]).toEqual([before, 0, 0]);
  kernel[Symbol.dispose]();
});

/** Functions of bus 1, 2, … in these groups. */
function functions(groups: readonly number[], node = false): void {
  groups.forEach((group, i) => {
    kernel.pci(name(i + 1), { driver: 'vfio-pci', group });
    vfio.device(name(i + 1), group, fakeFunction(), node ? `vfio${i}` : undefined);
    if (node) kernel.file(`sys/devices/pci0000:00/${name(i + 1)}/vfio-dev/vfio${i}/dev`);
  });
}
const source = (options: KernelSourceOptions = {}): KernelSource => new KernelSource({ sysfs: kernel, sys: vfio.sys, ...options });
const memory = (iova: bigint, sizeBytes = 0x1000) => ({ iova, sizeBytes, readable: true, writable: true, fd: -1, fdOffset: 0, address: 0x7000_0000n });

test('container, group and device are opened in the kernel\'s order, and closed in the reverse one', async () => {
  functions([7]);
  const device = await source().open(at(1));
  expect(vfio.requests).toEqual([
    'container 0x3b64', 'container 0x3b65', 'group 0x3b67', 'group 0x3b68', 'container 0x3b66', 'container 0x3b70', 'container 0x3b70', 'group 0x3b6a', 'device 0x3b6b',
  ]);
  expect([device.iovaRanges, device.dmaPageBytes, device.maxDmaMaps]).toEqual([[{ first: 0n, last: 0xfedf_ffffn }, { first: 0xfef0_0000n, last: 0xffff_ffff_ffffn }], 4096, 65_535]);
  await device.dmaMap(memory(0x1000n));
  vfio.requests.length = 0;
  await device.close();
  await device.close();
  expect(vfio.requests).toEqual(['container 0x3b72', 'group 0x3b69']);
  await expect(device.closed).resolves.toBe('closed');
});

test('devices of one group share it; the last one closes it', async () => {
  functions([7, 7]);
  const both = source();
  const [first, second] = [await both.open(at(1)), await both.open(at(2))];
  expect(vfio.openFiles).toBe(4);
  await first.dmaMap(memory(0x1000n));
  await expect(second.dmaMap(memory(0x1000n))).rejects.toEqual(coded('ERR_BUS_DMA', 17));
  await second.dmaMap(memory(0x3000n));
  await first.close();
  expect(vfio.lockedBytes).toBe(0x1000);
  await second.dmaUnmap(0x3000n, 0x1000);
  const again = await both.open(at(1));
  await second.close();
  await again.close();
});

test.each([
  ['one group', [7, 7], {}],
  ['one container', [7, 8], { sharedContainer: true }],
  ['nodes of their own', [7, 8], { node: true }],
] as const)('buffers of two devices: %s', async (_what, groups, { node = false, ...options }: { node?: boolean; sharedContainer?: boolean }) => {
  functions(groups, node);
  vfio.iovaRanges = [[0n, 0x1_001f_ffffn], [0x1_0060_0000n, 0x1_009f_ffffn]];
  const both = source(options);
  const devices = [await BusDevice.open(both, at(1)), await BusDevice.open(both, at(2))] as const;
  const addresses = async (n: 0 | 1): Promise<bigint> => (await devices[n].dma.allocate(0x1000)).iova;
  const first = await addresses(0);
  // Apart from each other where they share addresses, and in either case where the IOMMU takes them.
  expect([first, await addresses(1)]).toEqual([0x1_0000_0000n, node ? 0x1_0000_0000n : 0x1_0060_0000n]);
  // A map of the driver's own is passed by as well.
  await devices[1].dma.map({ ...memory(0x1_0080_0000n), address: 0x7000_0000n });
  if (!node) await expect(devices[0].dma.allocate(0x20_0000)).rejects.toEqual(coded('ERR_BUS_DMA'));
  await devices[1].close();
  // What has gone leaves its addresses to the others.
  expect((await devices[0].dma.allocate(0x20_0000)).iova).toBe(0x1_0060_0000n);
  await devices[0].close();
});

test('a VF token opens what wants one, and hinders nothing else', async () => {
  const token = '14d63f20-8445-11ea-8900-1f9ce7d5650d';
  functions([7, 8], true);
  vfio.requireToken(name(1), token);
  const knowing = source({ vfToken: token.toUpperCase() });
  for (const bus of [1, 2]) await (await knowing.open(at(bus))).close();
  for (const options of [{ mode: 'group' }, { vfToken: token.replace('1', '2') }] as const) {
    await expect(source(options).open(at(1))).rejects.toMatchObject({ code: 'ERR_BUS_UNUSABLE', errno: 13, message: expect.stringContaining('VF token') as string });
  }
  expect(() => source({ vfToken: token, mode: 'cdev' })).toThrow(coded('ERR_BUS_ARGUMENT') as Error);
  expect(() => source({ vfToken: 'secret' })).toThrow(coded('ERR_BUS_ADDRESS') as Error);
});

test('groups have a container each, or one for all; the IOMMU is set once per container', async () => {
  functions([7, 8]);
  for (const [sharedContainer, files] of [[false, 6], [true, 5]] as const) {
    vfio.requests.length = 0;
    const own = source({ sharedContainer });
    const devices = [await own.open(at(1)), await own.open(at(2))];
    expect([vfio.openFiles, vfio.requests.filter((request) => request === 'container 0x3b66').length]).toEqual([files, sharedContainer ? 1 : 2]);
    await devices[0]!.dmaMap(memory(0x1000n));
    await (sharedContainer ? expect(devices[1]!.dmaMap(memory(0x1000n))).rejects.toEqual(coded('ERR_BUS_DMA', 17)) : devices[1]!.dmaMap(memory(0x1000n)));
    for (const device of devices) await device.close();
    // A container that has gone is not used again.
    await (await own.open(at(1))).close();
  }
});

test('a device of its own node: bound, given an address space, and all of it undone', async () => {
  functions([7], true);
  vfio.iovaRanges = Array.from({ length: 40 }, (_, i) => [BigInt(i) * 0x10000n, BigInt(i) * 0x10000n + 0x7fffn] as const);
  const device = await source({ mode: 'auto' }).open(at(1));
  expect(vfio.requests.slice(0, 6)).toEqual(['device 0x3b76', 'iommufd 0x3b81', 'device 0x3b77', 'iommufd 0x3b84', 'iommufd 0x3b84', 'device 0x3b6b']);
  expect([device.iovaRanges?.length, device.iovaRanges?.[39], device.dmaPageBytes]).toEqual([40, { first: 0x27_0000n, last: 0x27_7fffn }, 4096]);
  await device.dmaMap(memory(0x1_0000n));
  await expect(device.dmaMap(memory(0x1_0000n))).rejects.toEqual(coded('ERR_BUS_DMA', 17));
  await expect(device.dmaMap(memory(0x1_8000n))).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  await device.dmaUnmap(0x1_0000n, 0x1000);
  await device.dmaMap(memory(0x2_0000n));
  vfio.requests.length = 0;
  await device.close();
  expect(vfio.requests).toEqual(['iommufd 0x3b86', 'device 0x3b78', 'iommufd 0x3b80']);
});

test('mode: the group even where there is a node; a node that is not there is an error', async () => {
  functions([7], true);
  const device = await source({ mode: 'group' }).open(at(1));
  expect(vfio.requests).toContain('group 0x3b6a');
  await device.close();
  vfio.requests.length = 0;
  rmSync(join(kernel.root, 'dev/iommu'));
  await (await source().open(at(1))).close();
  expect(vfio.requests, 'without /dev/iommu a node is of no use').toContain('group 0x3b6a');
  kernel.pci(name(2), { driver: 'vfio-pci', group: 7 });
  await expect(source({ mode: 'cdev' }).open(at(2))).rejects.toThrow(/CONFIG_VFIO_DEVICE_CDEV/);
});

test('who is not there, or has no driver, cannot be opened', async () => {
  functions([7]);
  kernel.pci(name(2), { driver: 'e1000e', group: 7 });
  await expect(source().open(at(2))).rejects.toEqual(coded('ERR_BUS_UNUSABLE'));
  await expect(source().open(at(3))).rejects.toEqual(coded('ERR_BUS_GONE'));
  await expect(source().open({ kind: 'mdev', uuid: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' })).rejects.toEqual(coded('ERR_BUS_GONE'));
  await expect(source().open({ kind: 'vfio-user', path: '/run/a.sock' })).rejects.toEqual(coded('ERR_BUS_UNUSABLE'));
  await expect(source().open(at(1), AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});

test.each<[string, string, (fake: FakeVfio) => void]>([
  ['a group that somebody else has', 'ERR_BUS_BUSY', (fake) => { fake.busyGroups.add(7); }],
  ['a group with a device of another driver', 'ERR_BUS_UNUSABLE', (fake) => { fake.unviableGroups.add(7); }],
  ['a version of VFIO that nobody knows', 'ERR_BUS_UNUSABLE', (fake) => { fake.apiVersion = 1; }],
  ['a kernel without type 1 version 2', 'ERR_BUS_UNUSABLE', (fake) => { fake.extensions.delete(3); }],
  ['a device that vanishes before it is open', 'ERR_BUS_GONE', (fake) => { fake.vanish(name(1)); }],
  ['a group that the container does not take', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'group', request: 0x3b68, errno: 'EINVAL' }); }],
  ['a container without an IOMMU', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'container', request: 0x3b66, errno: 'EPERM' }); }],
  ['a container that does not say what it can', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'container', request: 0x3b70, errno: 'ENOTTY' }); }],
  ['a container whose ranges are not in order', 'ERR_BUS_VFIO_CHAIN', (fake) => { fake.iovaRanges = [[0x2000n, 0x3000n], [0n, 0x1000n]]; }],
  ['a device that is open elsewhere', 'ERR_BUS_BUSY', (fake) => { fake.faults.push({ kind: 'group', request: 0x3b6a, errno: 'EBUSY' }); }],
  ['a device that says nothing of itself', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'device', request: 0x3b6b, errno: 'EINVAL' }); }],
])('by its group: %s is %s', async (_, code, prepare) => {
  functions([7]);
  prepare(vfio);
  await expect(source().open(at(1))).rejects.toEqual(coded(code));
});

test.each<[string, string, (fake: FakeVfio) => void]>([
  ['a device that somebody else has', 'ERR_BUS_BUSY', (fake) => { fake.busyGroups.add(7); }],
  ['a device that another process has bound', 'ERR_BUS_BUSY', (fake) => { fake.faults.push({ kind: 'device', request: 0x3b76, errno: 'EINVAL' }); }],
  ['a device that vanishes', 'ERR_BUS_GONE', (fake) => { fake.vanish(name(1)); }],
  ['an iommufd without address spaces', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'iommufd', request: 0x3b81, errno: 'ENOMEM' }); }],
  ['an address space that the device does not take', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'device', request: 0x3b77, errno: 'EINVAL' }); }],
  ['ranges that are refused', 'ERR_BUS_UNUSABLE', (fake) => { fake.faults.push({ kind: 'iommufd', request: 0x3b84, errno: 'EINVAL' }); }],
  ['ranges without end', 'ERR_BUS_VFIO_CHAIN', (fake) => { fake.iovaRanges = Array.from({ length: 2000 }, () => [0n, 0n] as const); }],
  ['ranges that are not in order', 'ERR_BUS_VFIO_CHAIN', (fake) => { fake.iovaRanges = [[0x2000n, 0x3000n], [0n, 0x1000n]]; }],
])('by its own node: %s is %s', async (_, code, prepare) => {
  functions([7], true);
  prepare(vfio);
  await expect(source({ mode: 'cdev' }).open(at(1))).rejects.toEqual(coded(code));
});

test.each<[string, 1 | 2, string]>([['EACCES', 1, 'owner and mode of the node'], ['ENOENT', 1, 'module loaded'], ['EMFILE', 2, 'EMFILE'], ['EACCES', 2, 'owner and mode']])('%s of the node that is opened as number %i: unusable, and the message says so', async (errno, nth, text) => {
  for (const mode of ['group', 'cdev'] as const) {
    functions([7], true);
    const error = await source({ mode, sys: withFaults(vfio.sys, [{ call: 'open', nth, errno }]) }).open(at(1)).catch((e: unknown) => e);
    expect(error).toEqual(coded('ERR_BUS_UNUSABLE'));
    expect((error as Error).message).toContain(text);
    kernel[Symbol.dispose]();
    kernel = new FakeKernel();
    vfio = new FakeVfio(kernel);
  }
});

test('whichever request fails, and with whatever: an error of the bus, and nothing is left open', async () => {
  for (const mode of ['group', 'cdev'] as const) {
    for (let nth = 1; ; nth++) {
      kernel[Symbol.dispose]();
      kernel = new FakeKernel();
      vfio = new FakeVfio(kernel);
      functions([7], true);
      const opened = await source({ mode, sys: withFaults(vfio.sys, [{ call: 'ioctl', nth, errno: 'EIO' }]) }).open(at(1)).catch((error: unknown) => error);
      if ((opened as Partial<PciTransport>).close !== undefined) {
        await (opened as PciTransport).close();
        expect(nth).toBeGreaterThan(5);
        break;
      }
      expect(opened).toEqual(coded('ERR_BUS_UNUSABLE', 5));
      expect([countOpenFds(), vfio.openFiles]).toEqual([before, 0]);
    }
  }
});

test('a failure on the way out neither shows nor keeps the rest open', async () => {
  functions([7]);
  const device = await source({ sys: withFaults(vfio.sys, [{ call: 'ioctl', nth: 10, errno: 'EBUSY', times: 5 }, { call: 'close', nth: 1, errno: 'EIO', times: 3 }]) }).open(at(1));
  await device.close();
});

test('a map that the kernel does not know any more is an error, and in nobody\'s way', async () => {
  functions([7], true);
  for (const mode of ['group', 'cdev'] as const) {
    const device = await source({ mode }).open(at(1));
    await device.dmaMap(memory(0x1000n));
    vfio.loseMaps();
    await expect(device.dmaUnmap(0x1000n, 0x1000)).rejects.toEqual(coded('ERR_BUS_DMA'));
    await device.close();
  }
});

test('a kernel that does not say which addresses there are: all of them', async () => {
  functions([7]);
  vfio.saysRanges = false;
  const device = await source().open(at(1));
  expect([device.iovaRanges, device.dmaPageBytes, device.maxDmaMaps]).toEqual([undefined, 4096, MAX_DMA_MAPS]);
  await device.dmaMap(memory(0xffff_ffff_ffff_f000n));
  await expect(device.dmaMap(memory(0xffff_ffff_ffff_f000n, 0x2000))).rejects.toEqual(coded('ERR_BUS_DMA', 22));
  await device.close();
});

test('ranges that become more each time they are asked for', async () => {
  functions([7], true);
  let count = 16;
  Object.defineProperty(vfio, 'iovaRanges', { get: () => Array.from({ length: (count += 20) }, (_, i) => [BigInt(i) * 0x10000n, BigInt(i) * 0x10000n + 0xfffn] as const) });
  await expect(source({ mode: 'cdev' }).open(at(1))).rejects.toEqual(coded('ERR_BUS_VFIO_ARGSZ'));
});

test('a device opened twice at the same time is open once', async () => {
  functions([7]);
  const own = source();
  const outcomes = await Promise.allSettled([own.open(at(1)), own.open(at(1))]);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  for (const outcome of outcomes) if (outcome.status === 'fulfilled') await outcome.value.close();
  await (await own.open(at(1))).close();
});

test('announcements of the kernel become events, in order; lost ones are said, and a socket that fails ends the watch', async () => {
  const events: { kind: string; address?: PciAddress }[] = [];
  const errors: unknown[] = [];
  const seen = Promise.withResolvers<undefined>();
  const sys = withFaults(vfio.sys, [{ call: 'ueventRead', nth: 2, errno: 'ENOBUFS' }, { call: 'ueventRead', nth: 6, errno: 'EIO' }]);
  using _watch = source({ sys }).watch((event) => { events.push(event); }, (error) => { errors.push(error); seen.resolve(undefined); });
  vfio.announce('add', '/devices/virtual/net/tap0', { SUBSYSTEM: 'net' });
  vfio.announce('bind', '/devices/pci0000:00/0000:01:00.0', { SUBSYSTEM: 'pci', DRIVER: 'vfio-pci' });
  vfio.announce('remove', '/devices/virtual/mtty/mtty/83B8F4F2-509f-382f-3c1e-e6bfe0fa1001', { SUBSYSTEM: 'mdev' });
  vfio.announce('change', '/devices/virtual/mtty/mtty', { SUBSYSTEM: 'mtty', MDEV_STATE: 'registered' });
  await seen.promise;
  expect(events).toEqual([{ kind: 'changed' }, { kind: 'added', address: at(1) }, { kind: 'removed', address: { kind: 'mdev', uuid: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' } }, { kind: 'changed' }]);
  expect(errors).toMatchObject([{ code: 'EIO' }]);
});

test('however much is announced, the event loop goes on in between, and nothing is left out', async () => {
  const all = MAX_UEVENTS_PER_TURN + 10;
  const done = Promise.withResolvers<undefined>();
  let [events, atTurn] = [0, 0];
  using _watch = source().watch(() => {
    if (++events === 1) setImmediate(() => { atTurn = events; });
    if (events === all) done.resolve(undefined);
  }, done.reject);
  for (let i = 0; i < all; i++) vfio.announce('bind', '/devices/pci0000:00/0000:01:00.0', { SUBSYSTEM: 'pci' });
  await done.promise;
  expect(atTurn).toBe(MAX_UEVENTS_PER_TURN);
});

test('a watch may be ended by its own callback', async () => {
  const done = Promise.withResolvers<undefined>();
  let events = 0;
  const watch = source().watch(() => { events++; watch[Symbol.dispose](); done.resolve(undefined); }, done.reject);
  for (let i = 0; i < 3; i++) vfio.announce('bind', '/devices/pci0000:00/0000:01:00.0', { SUBSYSTEM: 'pci' });
  await done.promise;
  expect(events).toBe(1);
  watch[Symbol.dispose]();
});
