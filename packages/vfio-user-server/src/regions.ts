/** What a device describes, checked once, as the replies and range checks of the region commands need it. */
import type { PciDevice, RegionDescription } from '@emudev/pci';
import {
  badRequest, MAX_IRQ_VECTORS, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, type RegionAccess, type RegionInfo,
} from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';

function check(device: PciDevice, region: RegionDescription): void {
  const bad = (why: string): never => {
    throw new VfioUserServerError('ERR_SERVER_DEVICE', 22, `${device.name}: region ${region.index}: ${why}`);
  };
  if (!Number.isInteger(region.index) || region.index < 0 || region.index >= VFIO_PCI_NUM_REGIONS) bad('regions have indexes 0 to 8');
  if (!Number.isSafeInteger(region.sizeBytes) || region.sizeBytes < 0) bad(`size ${region.sizeBytes}`);
  // Size 0: a region that is not there.
  if (region.sizeBytes > 0 && !region.readable && !region.writable) bad('neither readable nor writable');
  if (region.mmap === undefined) return;
  if (region.index === VFIO_PCI_CONFIG_REGION_INDEX) bad('configuration space is not for mapping: every access must reach the device');
  if (region.mmap.areas.length === 0 || region.mmap.backing.fd < 0) bad('mappable, without areas or without a descriptor');
  for (const area of region.mmap.areas) {
    if (area.offset < 0 || area.sizeBytes <= 0 || area.offset + area.sizeBytes > region.sizeBytes) bad(`mappable area ${area.offset}+${area.sizeBytes} is not inside its ${region.sizeBytes} bytes`);
  }
}

function checkIrqs({ name, irqs }: PciDevice): void {
  const seen = new Set<number>();
  for (const { index, count } of irqs) {
    const why = !Number.isInteger(index) || index < 0 || index >= VFIO_PCI_NUM_IRQS ? 'indexes are 0 to 4'
      : !Number.isInteger(count) || count < 0 || count > MAX_IRQ_VECTORS ? `${count} vectors` : seen.has(index) ? 'described twice' : undefined;
    if (why !== undefined) throw new VfioUserServerError('ERR_SERVER_DEVICE', 22, `${name}: interrupt index ${index}: ${why}`);
    seen.add(index);
  }
}

export class Regions {
  readonly #byIndex: readonly (RegionDescription | undefined)[];

  /** @throws VfioUserServerError ERR_SERVER_DEVICE */
  constructor(device: PciDevice) {
    checkIrqs(device);
    const byIndex: (RegionDescription | undefined)[] = Array.from({ length: VFIO_PCI_NUM_REGIONS }, () => undefined);
    for (const region of device.regions) {
      check(device, region);
      if (byIndex[region.index] !== undefined) throw new VfioUserServerError('ERR_SERVER_DEVICE', 22, `${device.name}: region ${region.index} is described twice`);
      byIndex[region.index] = region;
    }
    this.#byIndex = byIndex;
  }

  /** An absent region below `num_regions` is one of size 0: so is the upper half of a 64-bit BAR. */
  info(index: number): RegionInfo {
    if (index >= VFIO_PCI_NUM_REGIONS) throw badRequest('ERR_VFU_INDEX', `region ${index} of ${VFIO_PCI_NUM_REGIONS}`);
    const region = this.#byIndex[index];
    if (region === undefined || region.sizeBytes === 0) return { flags: 0, index, sizeBytes: 0, fileOffset: 0 };
    const access = (region.readable ? VFIO_REGION_INFO_FLAG_READ : 0) | (region.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0);
    if (region.mmap === undefined) return { flags: access, index, sizeBytes: region.sizeBytes, fileOffset: 0 };
    return { flags: access | VFIO_REGION_INFO_FLAG_MMAP, index, sizeBytes: region.sizeBytes, fileOffset: region.mmap.backing.offset, areas: region.mmap.areas };
  }

  /** The size of a region the device has. @throws ProtocolError ERR_VFU_INDEX */
  requirePresent(index: number, name: string): number {
    const sizeBytes = this.#byIndex[index]?.sizeBytes ?? 0;
    if (sizeBytes === 0) throw badRequest('ERR_VFU_INDEX', `${name}: the device has no region ${index}`);
    return sizeBytes;
  }

  /** The file behind a mappable region, -1 without. The device's: not ours to close. */
  backingFd(index: number): number {
    return this.#byIndex[index]?.mmap?.backing.fd ?? -1;
  }

  /** CLIENT: region, offset and count are the peer's; afterwards they lie inside what the device described. */
  checkAccess(access: RegionAccess, kind: 'read' | 'write'): void {
    const region = this.#byIndex[access.region];
    if (region === undefined) throw badRequest('ERR_VFU_INDEX', `${kind} of region ${access.region}, which the device does not have`);
    // Offsets are below 2^53 (decoded so) and counts below 2^32: the sum is exact enough to compare.
    if (access.offset + access.count > region.sizeBytes) throw badRequest('ERR_VFU_RANGE', `${kind} of ${access.count} bytes at 0x${access.offset.toString(16)} of region ${access.region}, which has 0x${region.sizeBytes.toString(16)}`);
    if (!(kind === 'read' ? region.readable : region.writable)) throw badRequest('ERR_VFU_RANGE', `region ${access.region} has no ${kind} access`);
  }
}
