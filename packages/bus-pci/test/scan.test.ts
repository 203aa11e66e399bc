import { readFileSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { countOpenFds } from '@emudev/linux';
import { BusError, formatAddress, MAX_ATTRIBUTE_BYTES, scanKernelPci, scanMdev, scanVfioUser, Sysfs, type FoundDevice } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa100';
const reasons = (found: readonly FoundDevice[]): (string | undefined)[][] => found.map(({ address, unusable }) => [formatAddress(address), unusable?.reason]);

let kernel: FakeKernel;
let before = 0;
beforeEach(() => { before = countOpenFds(); kernel = new FakeKernel(); });
afterEach(() => { kernel[Symbol.dispose](); expect(countOpenFds()).toBe(before); });

test('a kernel without PCI and mdev has no devices', async () => {
  expect([await scanKernelPci(kernel), await scanMdev(kernel)]).toEqual([[], []]);
});

test('a function bound to vfio-pci is usable, with everything sysfs says of it', async () => {
  kernel.pci('0000:01:00.0', { driver: 'vfio-pci', group: 7, files: { numa_node: '1\n', max_vfs: '8\n', class: '0x1020000\n' } });
  kernel.file('dev/vfio/7');
  const [device] = await scanKernelPci(kernel);
  expect(device).toMatchObject({
    address: { domain: 0, bus: 1, device: 0, function: 0 }, ids: { vendor: 0x8086, device: 0x10d3, subsystemVendor: 0x8086, subsystemDevice: 0xa01f, classCode: 0x020000 },
    kernelDriver: 'vfio-pci', iommuGroup: 7, numaNode: 1, virtualFunctions: 8,
  });
  expect(device?.unusable).toBeUndefined();
  expect(device?.resources?.map(({ index, kind, sizeBytes, prefetchable }) => [index, kind, sizeBytes, prefetchable])).toEqual([
    [0, 'memory', 0x20000n, false], [1, 'memory', 0x20000n, false], [2, 'io', 0x20n, false], [3, 'memory', 0x4000n, false], [6, 'memory', 0x40000n, true],
  ]);
});

test('every device that cannot be used says why, and spoils nothing for the others', async () => {
  const bound = { driver: 'vfio-pci', group: 1 };
  kernel.pci('0001:00:00.0', bound);
  kernel.pci('0000:02:00.0');
  kernel.pci('0000:03:00.0', { driver: 'e1000e', group: 1 });
  kernel.pci('0000:04:00.0', { driver: 'vfio-pci' });
  kernel.pci('0000:05:00.0', { driver: 'vfio-pci', group: 2 });
  kernel.pci('0000:06:00.0', { ...bound, files: { vendor: 'abc\n' } });
  kernel.pci('0000:07:00.0', { ...bound, files: { resource: '0x2 0x1 0x200\n' } });
  kernel.pci('0000:08:00.0', { ...bound, files: { class: `0x${'0'.repeat(MAX_ATTRIBUTE_BYTES)}` } });
  kernel.pci('0000:09:00.0', { ...bound, files: { device: undefined } });
  kernel.pci('0000:0a:00.0', { ...bound, files: { numa_node: undefined, subsystem_vendor: undefined, resource: '' } });
  kernel.pci('0000:0b:00.0', { driver: 'vfio-pci', files: {} });
  kernel.symlink('sys/devices/pci0000:00/0000:0b:00.0/iommu_group', 'iommu_groups/many');
  kernel.symlink('sys/bus/pci/devices/0000:0c:00.0', '../../../devices/pci0000:00/gone');
  kernel.file('sys/bus/pci/devices/not-a-device');
  kernel.file('dev/vfio/1');
  expect(reasons(await scanKernelPci(kernel))).toEqual([
    ['0000:02:00.0', 'no-driver'], ['0000:03:00.0', 'not-vfio'], ['0000:04:00.0', 'no-iommu-group'], ['0000:05:00.0', 'no-node'],
    ['0000:06:00.0', 'unreadable'], ['0000:07:00.0', 'unreadable'], ['0000:08:00.0', 'unreadable'], ['0000:09:00.0', 'unreadable'],
    ['0000:0a:00.0', undefined], ['0000:0b:00.0', 'unreadable'], ['0000:0c:00.0', 'unreadable'], ['0001:00:00.0', undefined],
  ]);
});

test('a device with a node of its own (cdev) needs none for its group; a vfio-dev directory alone is no node', async () => {
  kernel.pci('0000:01:00.0', { driver: 'vfio-pci', group: 1 });
  kernel.file('sys/devices/pci0000:00/0000:01:00.0/vfio-dev/vfio3/uevent');
  expect(reasons(await scanKernelPci(kernel))).toEqual([['0000:01:00.0', 'no-node']]);
  kernel.file('dev/vfio/devices/vfio3');
  expect(reasons(await scanKernelPci(kernel))).toEqual([['0000:01:00.0', undefined]]);
});

test('mediated devices: parent, type, and a reason for each that cannot be used', async () => {
  kernel.parent('mtty', { 'mtty-1': { available: 24 }, 'mtty-2': { available: 12 }, 'ccw-1': { api: 'vfio-ccw', available: 1 } });
  kernel.mdev('mtty', 'mtty-2', `${UUID}1`);
  kernel.mdev('mtty', 'ccw-1', `${UUID}2`);
  kernel.mdev('mtty', 'mtty-1', `${UUID}3`, { group: false });
  kernel.mdev('mtty', 'mtty-1', `${UUID}4`, { bind: false });
  kernel.mdev('mtty', 'mtty-1', `${UUID}5`.toUpperCase());
  kernel.symlink(`sys/bus/mdev/devices/${UUID}6`, '../../../devices/virtual/mtty/mtty/dangling');
  kernel.file('sys/bus/mdev/devices/not-a-uuid');
  rmSync(join(kernel.root, 'sys/devices/virtual/mtty/mtty', `${UUID}4`, 'mdev_type'));
  kernel.symlink(`sys/devices/virtual/mtty/mtty/${UUID}4/mdev_type`, '../mdev_supported_types/gone');
  const found = await scanMdev(kernel);
  expect(reasons(found)).toEqual([
    [`${UUID}1`, undefined], [`${UUID}2`, 'api-mismatch'], [`${UUID}3`, 'no-iommu-group'], [`${UUID}4`, 'unreadable'], [`${UUID}5`, undefined], [`${UUID}6`, 'unreadable'],
  ]);
  expect(found[0]).toMatchObject({ mdev: { parent: 'mtty', type: 'mtty-2' }, kernelDriver: 'mtty', iommuGroup: 11 });
});

test('a FIFO or a directory in the place of an attribute is refused, at once', async () => {
  kernel.file('sys/a/b');
  expect(spawnSync('mkfifo', [join(kernel.root, 'sys/a/fifo')]).status).toBe(0);
  await expect(kernel.read(['a', 'fifo'])).rejects.toMatchObject({ code: 'ERR_BUS_SYSFS_CONTENT' });
  await expect(kernel.read(['a'])).rejects.toMatchObject({ code: 'ERR_BUS_SYSFS_CONTENT' });
  expect(await kernel.read(['a', 'b', 'c'])).toBeUndefined();
});

test('no name leads out of the root', async () => {
  for (const name of ['..', '.', '', 'a/b', 'a\0']) await expect(kernel.read(['bus', name])).rejects.toMatchObject({ code: 'ERR_BUS_ARGUMENT' });
});

test('a file that cannot be read is ERR_BUS_SYSFS with the errno', async () => {
  kernel.file('sys/present');
  await expect(kernel.read(['x'.repeat(300)])).rejects.toMatchObject({ code: 'ERR_BUS_SYSFS', errno: 36 });
});

test('a scan ends when its signal fires', async () => {
  kernel.pci('0000:01:00.0');
  await expect(scanKernelPci(kernel, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});

test('sockets are found without being connected to', async () => {
  const path = join(kernel.root, 'vm0.sock');
  const server = createServer(() => { throw new Error('connected'); }).listen(path);
  await once(server, 'listening');
  kernel.file('plain');
  const at = (name: string): { kind: 'vfio-user'; path: string } => ({ kind: 'vfio-user', path: join(kernel.root, name) });
  const found = await scanVfioUser([at('vm0.sock'), at('plain'), at('absent'), at('vm0.sock')]);
  expect(found.map(({ unusable }) => unusable?.reason)).toEqual(['no-socket', 'no-socket', undefined]);
  server.close();
  await once(server, 'close');
});

test('this machine is scanned without an error', async () => {
  const sysfs = new Sysfs();
  for (const device of [...await scanKernelPci(sysfs), ...await scanMdev(sysfs)]) expect(device.unusable?.reason).not.toBe('unreadable');
});

test('an attribute is written in one piece', async () => {
  kernel.file('sys/a/driver_override');
  await kernel.write(['a', 'driver_override'], 'vfio-pci');
  expect(readFileSync(join(kernel.root, 'sys/a/driver_override'), 'utf8')).toBe('vfio-pci');
  await expect(kernel.write(['a', 'absent'], 'x')).rejects.toBeInstanceOf(BusError);
});
