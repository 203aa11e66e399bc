/**
 * Which kernel driver has a PCI function: `driver_override`, `unbind` and `drivers_probe` of the kernel's PCI bus
 * (Documentation/ABI/testing/sysfs-bus-pci of Linux). Whoever takes a function from its driver takes away what the system does with it.
 */
import { formatAddress } from './address.ts';
import type { PciFunctionAddress } from './address.ts';
import { BusError, quoted } from './errors.ts';
import { UNBIND_TIMEOUT_MS } from './limits.ts';
import type { Sysfs, SysfsPath } from './sysfs.ts';
import { within } from './time-limit.ts';
import { iommuGroupOf, VFIO_PCI_DRIVER } from './vfio-node.ts';

/** For `bindPciFunction` and `unbindPciFunction`. */
export interface BindingOptions {
  /** How long whoever has the function open may take to close it, ms; `UNBIND_TIMEOUT_MS` unless given. */
  readonly timeoutMs?: number;
}

const functionPath = (name: string): SysfsPath => ['bus', 'pci', 'devices', name];
const driverPath = (driver: string): SysfsPath => ['bus', 'pci', 'drivers', driver];
const PROBE: SysfsPath = ['bus', 'pci', 'drivers_probe'];

/**
 * Takes a function from its kernel driver and gives it to vfio-pci; resolves to the former driver, undefined where it had none. Nothing happens where vfio-pci has it
 * already. ERR_BUS_GONE where there is no such function, ERR_BUS_UNUSABLE where vfio-pci is not loaded or does not take it (the former driver has it
 * again then), ERR_BUS_BUSY where the former driver does not let go in time, ERR_BUS_SYSFS.
 */
export async function bindPciFunction(sysfs: Sysfs, address: PciFunctionAddress, options: BindingOptions = {}): Promise<string | undefined> {
  const name = await presentFunction(sysfs, address);
  const path = functionPath(name);
  const former = await sysfs.linkName([...path, 'driver']);
  if (former === VFIO_PCI_DRIVER) return former;
  if (!await sysfs.exists(driverPath(VFIO_PCI_DRIVER))) throw new BusError('ERR_BUS_UNUSABLE', `the kernel has no driver ${VFIO_PCI_DRIVER}: "modprobe ${VFIO_PCI_DRIVER}" loads it`);
  if (await iommuGroupOf(sysfs, path) === undefined) throw new BusError('ERR_BUS_UNUSABLE', `${name} is in no IOMMU group: is the IOMMU of the machine on (intel_iommu=on)?`);
  await sysfs.write([...path, 'driver_override'], VFIO_PCI_DRIVER);
  try {
    if (former !== undefined) await unbind(sysfs, name, former, options);
    await sysfs.write(PROBE, name);
    const now = await sysfs.linkName([...path, 'driver']);
    if (now !== VFIO_PCI_DRIVER) throw new BusError('ERR_BUS_UNUSABLE', `${VFIO_PCI_DRIVER} does not take ${name}; ${now === undefined ? 'no driver' : quoted(now)} has it: see the kernel's log`);
    return former;
  } catch (error) {
    const back = giveBack(sysfs, name).catch(() => undefined);
    // Of a function that is being unbound the kernel lets nobody write anything until that is done.
    if (!isBusy(error)) await back;
    throw error;
  }
}

/**
 * Takes a function from vfio-pci and lets the kernel choose a driver for it as it does at boot; resolves to that driver, undefined where there is none for it. ERR_BUS_STATE where
 * another driver than vfio-pci has it, ERR_BUS_GONE, ERR_BUS_BUSY where it is still open after the time (the kernel gives it its own driver when it is closed), ERR_BUS_SYSFS.
 */
export async function unbindPciFunction(sysfs: Sysfs, address: PciFunctionAddress, options: BindingOptions = {}): Promise<string | undefined> {
  const name = await presentFunction(sysfs, address);
  const path = functionPath(name);
  const driver = await sysfs.linkName([...path, 'driver']);
  if (driver !== undefined && driver !== VFIO_PCI_DRIVER) throw new BusError('ERR_BUS_STATE', `${name} is bound to ${quoted(driver)}, not to ${VFIO_PCI_DRIVER}`);
  await sysfs.write([...path, 'driver_override'], '\n');
  try {
    if (driver !== undefined) await unbind(sysfs, name, driver, options);
  } catch (error) {
    if (isBusy(error)) giveBack(sysfs, name).catch(() => undefined);
    throw error;
  }
  await giveBack(sysfs, name);
  return sysfs.linkName([...path, 'driver']);
}

async function presentFunction(sysfs: Sysfs, address: PciFunctionAddress): Promise<string> {
  const name = formatAddress(address);
  if (!await sysfs.exists(functionPath(name))) throw new BusError('ERR_BUS_GONE', `the kernel has no PCI function ${name}`);
  return name;
}

/** The kernel waits until nobody has it open, holding a thread of Node's pool; it goes on doing so after the time. */
function unbind(sysfs: Sysfs, name: string, driver: string, { timeoutMs = UNBIND_TIMEOUT_MS }: BindingOptions): Promise<void> {
  const late = (): BusError => new BusError('ERR_BUS_BUSY', `${quoted(driver)} still has ${name} after ${timeoutMs} ms: somebody has it open`);
  return within(sysfs.write([...driverPath(driver), 'unbind'], name), timeoutMs, late);
}

const isBusy = (error: unknown): boolean => error instanceof BusError && error.code === 'ERR_BUS_BUSY';

/** The kernel's own choice of a driver. */
async function giveBack(sysfs: Sysfs, name: string): Promise<void> {
  await sysfs.write([...functionPath(name), 'driver_override'], '\n');
  await sysfs.write(PROBE, name);
}
