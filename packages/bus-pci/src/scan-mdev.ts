/** Mediated devices that exist: /sys/bus/mdev/devices. */
import { compareAddresses, parseUuid } from './address.ts';
import { BusError, quoted } from './errors.ts';
import type { FoundDevice } from './found.ts';
import { unreadable } from './scan-kernel-pci.ts';
import type { Sysfs, SysfsPath } from './sysfs.ts';
import { iommuGroupOf, vfioObstacle } from './vfio-node.ts';

/** Where the kernel lists mediated devices, each by its UUID. */
export const MDEV_DEVICES: SysfsPath = ['bus', 'mdev', 'devices'];
/** What `device_api` says of a mediated device that is a PCI function. */
export const MDEV_PCI_API = 'vfio-pci';

/**
 * All mediated devices, in the order of their UUIDs; none where the kernel has none. They have no id files: what they are only the
 * opened device tells. One that cannot be used is listed with the reason. Throws ERR_BUS_SYSFS where the list itself cannot be read.
 */
export async function scanMdev(sysfs: Sysfs, signal?: AbortSignal): Promise<readonly FoundDevice[]> {
  const found: FoundDevice[] = [];
  for (const name of await sysfs.list(MDEV_DEVICES) ?? []) {
    signal?.throwIfAborted();
    const device = await scanMediated(sysfs, name);
    if (device !== undefined) found.push(device);
  }
  return found.sort((a, b) => compareAddresses(a.address, b.address));
}

/** One mediated device, by the name that the kernel has for it, as `scanMdev` lists it; undefined where there is none. */
export async function scanMediated(sysfs: Sysfs, name: string): Promise<FoundDevice | undefined> {
  let uuid: string;
  try {
    uuid = parseUuid(name);
  } catch {
    return undefined; // the kernel names mediated devices by their UUID and nothing else
  }
  const address = { kind: 'mdev', uuid } as const;
  const path = [...MDEV_DEVICES, name];
  try {
    const type = await sysfs.linkName([...path, 'mdev_type']);
    const api = await sysfs.read([...path, 'mdev_type', 'device_api']);
    const parent = (await sysfs.link(path))?.at(-2);
    const kernelDriver = await sysfs.linkName([...path, 'driver']);
    const iommuGroup = await iommuGroupOf(sysfs, path);
    if (type === undefined || api === undefined) {
      if (!await sysfs.exists(path)) return undefined;
      throw new BusError('ERR_BUS_SYSFS_CONTENT', `${name} has no ${type === undefined ? 'mdev_type' : `type ${quoted(type)}`}`);
    }
    const unusable: FoundDevice['unusable'] = api === MDEV_PCI_API ? await vfioObstacle(sysfs, path, iommuGroup)
      : { reason: 'api-mismatch', detail: `its API is ${quoted(api)}; a PCI device has ${MDEV_PCI_API}` };
    return {
      address,
      ...(unusable === undefined ? {} : { unusable }),
      ...(parent === undefined ? {} : { mdev: { parent, type } }),
      ...(kernelDriver === undefined ? {} : { kernelDriver }),
      ...(iommuGroup === undefined ? {} : { iommuGroup }),
    };
  } catch (error) {
    return unreadable(address, error);
  }
}
