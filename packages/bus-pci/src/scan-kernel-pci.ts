/** PCI functions that the kernel knows: /sys/bus/pci/devices. */
import { compareAddresses, parsePciFunction } from './address.ts';
import type { PciFunctionAddress } from './address.ts';
import { parseDecimal, parseHex, parseResources } from './attributes.ts';
import { BusError } from './errors.ts';
import type { FoundDevice, PciIds } from './found.ts';
import type { Sysfs, SysfsPath } from './sysfs.ts';
import { iommuGroupOf, VFIO_PCI_DRIVER, vfioObstacle } from './vfio-node.ts';

/** Where the kernel lists PCI functions, each by its address. */
export const PCI_DEVICES: SysfsPath = ['bus', 'pci', 'devices'];

/**
 * All PCI functions, in the order of their addresses; none where the kernel has no PCI. One that cannot be used is listed with the
 * reason, and one that vanishes meanwhile is left out. Throws ERR_BUS_SYSFS where the list itself cannot be read.
 */
export async function scanKernelPci(sysfs: Sysfs, signal?: AbortSignal): Promise<readonly FoundDevice[]> {
  const found: FoundDevice[] = [];
  for (const name of await sysfs.list(PCI_DEVICES) ?? []) {
    signal?.throwIfAborted();
    const address = addressOf(name);
    const device = address === undefined ? undefined : await scanFunction(sysfs, name, address);
    if (device !== undefined) found.push(device);
  }
  return found.sort((a, b) => compareAddresses(a.address, b.address));
}

/** Whatever else lies there is no PCI function. */
function addressOf(name: string): PciFunctionAddress | undefined {
  try {
    return parsePciFunction(name);
  } catch {
    return undefined;
  }
}

/** One PCI function, as `scanKernelPci` lists it; undefined where there is none. */
export async function scanFunction(sysfs: Sysfs, name: string, address: PciFunctionAddress): Promise<FoundDevice | undefined> {
  const path = [...PCI_DEVICES, name];
  try {
    const ids = await readIds(sysfs, path);
    const resources = await sysfs.read([...path, 'resource']);
    const numaNode = await optional(sysfs, path, 'numa_node', -1);
    const virtualFunctions = await optional(sysfs, path, 'max_vfs', 0) ?? await optional(sysfs, path, 'sriov_numvfs', 0);
    const kernelDriver = await sysfs.linkName([...path, 'driver']);
    const iommuGroup = await iommuGroupOf(sysfs, path);
    const unusable = driverObstacle(kernelDriver) ?? await vfioObstacle(sysfs, path, iommuGroup);
    if (ids === undefined || resources === undefined) {
      if (!await sysfs.exists(path)) return undefined;
      throw new BusError('ERR_BUS_SYSFS_CONTENT', `${name} has no ${ids === undefined ? 'ids' : 'resource file'}`);
    }
    return {
      address, ids, resources: parseResources(resources),
      ...(unusable === undefined ? {} : { unusable }),
      ...(kernelDriver === undefined ? {} : { kernelDriver }),
      ...(iommuGroup === undefined ? {} : { iommuGroup }),
      ...(numaNode === undefined || numaNode < 0 ? {} : { numaNode }),
      ...(virtualFunctions === undefined ? {} : { virtualFunctions }),
    };
  } catch (error) {
    return unreadable(address, error);
  }
}

function driverObstacle(driver: string | undefined): FoundDevice['unusable'] {
  if (driver === VFIO_PCI_DRIVER) return undefined;
  return driver === undefined
    ? { reason: 'no-driver', detail: `no kernel driver is bound to it; it has to be ${VFIO_PCI_DRIVER}` }
    : { reason: 'not-vfio', detail: `the kernel driver ${driver} has it; it has to be ${VFIO_PCI_DRIVER}` };
}

/** A device of which something cannot be read or is malformed. Throws what is not this package's. */
export function unreadable(address: FoundDevice['address'], error: unknown): FoundDevice {
  if (!(error instanceof BusError)) throw error;
  return { address, unusable: { reason: 'unreadable', detail: error.message } };
}

async function readIds(sysfs: Sysfs, path: SysfsPath): Promise<PciIds | undefined> {
  const read = async (attribute: string, max: number): Promise<number | undefined> => {
    const text = await sysfs.read([...path, attribute]);
    return text === undefined ? undefined : parseHex(text, max, attribute);
  };
  const [vendor, device, classCode] = [await read('vendor', 0xffff), await read('device', 0xffff), await read('class', 0xffff_ffff)];
  if (vendor === undefined || device === undefined || classCode === undefined) return undefined;
  const [subsystemVendor, subsystemDevice] = [await read('subsystem_vendor', 0xffff) ?? 0, await read('subsystem_device', 0xffff) ?? 0];
  return { vendor, device, subsystemVendor, subsystemDevice, classCode: classCode & 0xff_ffff };
}

async function optional(sysfs: Sysfs, path: SysfsPath, attribute: string, min: number): Promise<number | undefined> {
  const text = await sysfs.read([...path, attribute]);
  return text === undefined ? undefined : parseDecimal(text, min, attribute);
}
