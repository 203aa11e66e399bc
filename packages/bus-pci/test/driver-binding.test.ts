import { existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bindPciFunction, BusError, unbindPciFunction, type PciFunctionAddress, type SysfsPath } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';

const NAME = '0000:01:00.0';
const ADDRESS: PciFunctionAddress = { kind: 'pci', domain: 0, bus: 1, device: 0, function: 0 };
const WAIT = { timeout: 15_000 };
const coded = (code: string): unknown => expect.objectContaining({ code });

/** A kernel whose PCI bus binds and unbinds as Linux does. */
class BindingKernel extends FakeKernel {
  readonly writes: string[] = [];
  /** The driver that the kernel itself would choose. */
  own: string | undefined = 'e1000e';
  /** vfio-pci takes the function. */
  takes = true;
  /** Whoever has it open lets go. */
  released: Promise<unknown> = Promise.resolve();
  fails: string | undefined;
  #lock: Promise<unknown> = Promise.resolve();

  function(driver?: string, group: number | 'none' = 7): void {
    this.pci(NAME, { ...(driver === undefined ? {} : { driver }), ...(group === 'none' ? {} : { group }) });
    for (const file of ['vfio-pci/unbind', 'e1000e/unbind']) this.file(`sys/bus/pci/drivers/${file}`);
    this.file('sys/bus/pci/drivers_probe');
    this.file(`sys/bus/pci/devices/${NAME}/driver_override`);
  }

  get driver(): string {
    return join(this.root, 'sys/devices/pci0000:00', NAME, 'driver');
  }

  override async write(path: SysfsPath, text: string): Promise<void> {
    const what = path.at(-1)!;
    this.writes.push(`${what} ${JSON.stringify(text)}`);
    if (what === this.fails) throw new BusError('ERR_BUS_SYSFS', `cannot write ${what}: EIO`, { errno: 5 });
    if (what === 'unbind') {
      this.#lock = this.released;
      await this.#lock;
      rmSync(this.driver);
      return;
    }
    // The kernel holds the device's lock while it unbinds, and takes it for these.
    await this.#lock;
    await super.write(path, text);
    if (what !== 'drivers_probe' || existsSync(this.driver)) return;
    const wanted = readFileSync(join(this.root, `sys/bus/pci/devices/${NAME}/driver_override`), 'utf8').trim();
    // The fake's files keep what was longer: an override of "\n" over "vfio-pci" is none.
    const driver = this.writes.findLast((write) => write.startsWith('driver_override')) === 'driver_override "vfio-pci"' ? wanted : this.own;
    if (driver !== undefined && (driver !== 'vfio-pci' || this.takes)) symlinkSync(`../../../bus/pci/drivers/${driver}`, this.driver);
  }

  async bound(): Promise<string | undefined> {
    return this.linkName(['bus', 'pci', 'devices', NAME, 'driver']);
  }
}

let kernel: BindingKernel;
beforeEach(() => { kernel = new BindingKernel(); });
afterEach(() => { kernel[Symbol.dispose](); });

test('a function goes to vfio-pci, and back to the driver that it had', async () => {
  kernel.function('e1000e');
  expect(await bindPciFunction(kernel, ADDRESS)).toBe('e1000e');
  expect(await kernel.bound()).toBe('vfio-pci');
  expect(kernel.writes).toEqual(['driver_override "vfio-pci"', `unbind "${NAME}"`, `drivers_probe "${NAME}"`]);
  kernel.writes.length = 0;
  expect(await bindPciFunction(kernel, ADDRESS), 'again: nothing happens').toBe('vfio-pci');
  expect(kernel.writes).toEqual([]);
  expect(await unbindPciFunction(kernel, ADDRESS)).toBe('e1000e');
  expect(await kernel.bound()).toBe('e1000e');
});

test('a function without a driver', async () => {
  kernel.function();
  kernel.own = undefined;
  expect(await bindPciFunction(kernel, ADDRESS)).toBeUndefined();
  expect(await unbindPciFunction(kernel, ADDRESS)).toBeUndefined();
  expect(await unbindPciFunction(kernel, ADDRESS), 'again').toBeUndefined();
});

test('a function that vfio-pci does not take has its driver again', async () => {
  kernel.function('e1000e');
  kernel.takes = false;
  await expect(bindPciFunction(kernel, ADDRESS)).rejects.toEqual(coded('ERR_BUS_UNUSABLE'));
  expect(await kernel.bound()).toBe('e1000e');
});

test.each(['driver_override', 'unbind'])('where %s cannot be written the driver stays', async (file) => {
  kernel.function('e1000e');
  kernel.fails = file;
  await expect(bindPciFunction(kernel, ADDRESS)).rejects.toMatchObject({ code: 'ERR_BUS_SYSFS', errno: 5 });
  expect(await kernel.bound()).toBe('e1000e');
});

test('no such function, no such driver, no group, another driver: typed, and nothing is written', async () => {
  await expect(bindPciFunction(kernel, ADDRESS)).rejects.toEqual(coded('ERR_BUS_GONE'));
  await expect(unbindPciFunction(kernel, ADDRESS)).rejects.toEqual(coded('ERR_BUS_GONE'));
  kernel.function('e1000e', 'none');
  await expect(bindPciFunction(kernel, ADDRESS)).rejects.toThrow(/IOMMU group/);
  await expect(unbindPciFunction(kernel, ADDRESS)).rejects.toEqual(coded('ERR_BUS_STATE'));
  rmSync(join(kernel.root, 'sys/bus/pci/drivers/vfio-pci'), { recursive: true });
  await expect(bindPciFunction(kernel, ADDRESS)).rejects.toThrow(/modprobe vfio-pci/);
  expect(kernel.writes).toEqual([]);
});

test('a function that is open somewhere is busy after the time, and goes when it is closed', async () => {
  kernel.function('vfio-pci');
  const closed = Promise.withResolvers<undefined>();
  kernel.released = closed.promise;
  await expect(unbindPciFunction(kernel, ADDRESS, { timeoutMs: 20 })).rejects.toEqual(coded('ERR_BUS_BUSY'));
  closed.resolve(undefined);
  await expect.poll(() => kernel.bound(), WAIT).toBe('e1000e');
});

test('a function that its former driver does not let go of is busy after the time, and that driver has it again in the end', async () => {
  kernel.function('e1000e');
  const closed = Promise.withResolvers<undefined>();
  kernel.released = closed.promise;
  await expect(bindPciFunction(kernel, ADDRESS, { timeoutMs: 20 })).rejects.toEqual(coded('ERR_BUS_BUSY'));
  closed.resolve(undefined);
  await expect.poll(() => kernel.writes.at(-1), WAIT).toBe(`drivers_probe "${NAME}"`);
  await expect.poll(() => kernel.bound(), WAIT).toBe('e1000e');
});
