/** Which node below /dev opens a kernel device through VFIO. */
import type { FoundDevice } from './found.ts';
import { parseDecimal } from './attributes.ts';
import type { Sysfs, SysfsPath } from './sysfs.ts';

/** The kernel driver through which user space has a PCI function. */
export const VFIO_PCI_DRIVER = 'vfio-pci';

/** The IOMMU group of a device's directory; undefined where it is in none. */
export async function iommuGroupOf(sysfs: Sysfs, device: SysfsPath): Promise<number | undefined> {
  const name = await sysfs.linkName([...device, 'iommu_group']);
  return name === undefined ? undefined : parseDecimal(name, 0, 'iommu_group');
}

/**
 * `vfioN` of a device that has its own node (cdev, Linux 6.6). Kernels without it have the directory `vfio-dev`, too, but not the node:
 * only the node decides.
 */
export async function cdevOf(sysfs: Sysfs, device: SysfsPath): Promise<string | undefined> {
  for (const name of await sysfs.list([...device, 'vfio-dev']) ?? []) {
    if (/^vfio[0-9]{1,10}$/.test(name) && await sysfs.hasNode(['vfio', 'devices', name])) return name;
  }
  return undefined;
}

/** Why VFIO cannot open the device; undefined where it can. */
export async function vfioObstacle(sysfs: Sysfs, device: SysfsPath, group: number | undefined): Promise<FoundDevice['unusable']> {
  if (group === undefined) return { reason: 'no-iommu-group', detail: 'it is in no IOMMU group: is the IOMMU of the machine on (intel_iommu=on)?' };
  if (await sysfs.hasNode(['vfio', String(group)]) || await cdevOf(sysfs, device) !== undefined) return undefined;
  return { reason: 'no-node', detail: `${sysfs.nodePath(['vfio', String(group)])} is missing: is the module vfio loaded, and /dev complete?` };
}
