import { afterEach, beforeEach, expect, test } from 'vitest';
import { MdevManager, scanMdev } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
let kernel: FakeKernel;
let manager: MdevManager;
beforeEach(() => {
  kernel = new FakeKernel();
  manager = new MdevManager(kernel);
  kernel.parent('mtty', { 'mtty-1': { available: 24, name: 'Single port serial' }, 'mtty-2': { available: 1, name: 'Dual port serial', description: 'two of them' } });
});
afterEach(() => { kernel[Symbol.dispose](); });

test('parents and types as sysfs has them', async () => {
  expect(await manager.parents()).toEqual(['mtty']);
  expect(await manager.types('mtty')).toEqual([
    { parent: 'mtty', id: 'mtty-1', api: 'vfio-pci', available: 24, name: 'Single port serial', devices: [] },
    { parent: 'mtty', id: 'mtty-2', api: 'vfio-pci', available: 1, name: 'Dual port serial', description: 'two of them', devices: [] },
  ]);
});

test('a type whose files make no sense is listed with the reason, beside the others', async () => {
  kernel.file('sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/available_instances', 'many\n');
  kernel.parent('odd', { 'odd-1': { available: 1 } });
  kernel.file('sys/devices/virtual/odd/odd/mdev_supported_types/odd-1/name', 'x'.repeat(5000));
  expect(await manager.types('mtty')).toEqual([
    { parent: 'mtty', id: 'mtty-1', api: '', available: 0, devices: [], unusable: expect.stringContaining('available_instances of mtty-1 is "many"') as string },
    expect.objectContaining({ id: 'mtty-2', available: 1 }),
  ]);
  expect(await manager.types('odd')).toMatchObject([{ id: 'odd-1', unusable: expect.stringContaining('more than') as string }]);
});

test('a device is made, found, and removed', async () => {
  expect(await manager.create('mtty', 'mtty-2', UUID.toUpperCase())).toBe(UUID);
  await manager.waitReady(UUID, 0);
  expect((await manager.types('mtty'))[1]).toMatchObject({ available: 0, devices: [UUID] });
  expect((await scanMdev(kernel)).map(({ unusable }) => unusable)).toEqual([undefined]);
  await manager.remove(UUID);
  expect(await scanMdev(kernel)).toEqual([]);
});

test('without a UUID a new one is made', async () => {
  const [a, b] = [await manager.create('mtty', 'mtty-1'), await manager.create('mtty', 'mtty-1')];
  expect(a).not.toBe(b);
});

test('what the kernel refuses has a code of its own', async () => {
  await manager.create('mtty', 'mtty-2', UUID);
  await expect(manager.create('mtty', 'mtty-1', UUID)).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_EXISTS', errno: 17 });
  await expect(manager.create('mtty', 'mtty-2')).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_NO_INSTANCES', errno: 87 });
  await expect(manager.create('mtty', 'mtty-1', 'no-uuid')).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_BAD_UUID' });
  await expect(manager.create('mtty', 'mtty-9')).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_GONE' });
  await expect(manager.types('..')).rejects.toMatchObject({ code: 'ERR_BUS_ARGUMENT' });
  await expect(manager.types('mdpy')).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_GONE' });
  await expect(manager.remove('00000000-0000-0000-0000-000000000000')).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_GONE' });
  await expect(manager.waitReady('00000000-0000-0000-0000-000000000000', 1000)).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_GONE' });
});

test('a device that somebody has open is removed when it is closed, and the caller hears of it before', async () => {
  await manager.create('mtty', 'mtty-1', UUID);
  const { promise, resolve } = Promise.withResolvers<undefined>();
  kernel.closed = promise;
  await expect(manager.remove(UUID, { timeoutMs: 1 })).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_BUSY' });
  expect(await scanMdev(kernel)).toHaveLength(1);
  const second = manager.remove(UUID);
  resolve(undefined);
  // The first of the two writes has removed it.
  await expect(second).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_GONE', errno: 19 });
  expect(await scanMdev(kernel)).toEqual([]);
});

test('waitReady says what is missing, and resolves when it comes', async () => {
  kernel.mdev('mtty', 'mtty-1', UUID, { bind: false });
  await expect(manager.waitReady(UUID, 0)).rejects.toMatchObject({ code: 'ERR_BUS_MDEV_BUSY', message: expect.stringContaining('no driver') as string });
  const ready = manager.waitReady(UUID, 10_000);
  kernel.bind('mtty', UUID);
  await ready;
});
