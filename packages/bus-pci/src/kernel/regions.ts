/** What of a kernel device's region may be mapped. */
import { VFIO_PCI_BAR5_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE } from '@emudev/vfio-user-protocol';
import { BusError } from '../errors.ts';
import { DMA_PAGE_BYTES } from '../limits.ts';
import { findMsixTable, withoutMsixTable } from '../msix-table.ts';
import type { RegionArea } from '../msix-table.ts';
import type { BusRegion } from '../transport.ts';
import { viewOf } from '../vfio-abi/bytes.ts';
import type { VfioRegionInfo } from '../vfio-abi/region-info.ts';

const FIRST_BAR = 0x10;
const BAR_IS_IO = 1;

/** A region, and where it begins in the device's file. */
export interface KernelRegion {
  readonly region: BusRegion;
  /** The kernel's choice, never computed. */
  readonly fileOffset: number;
}

/** A region that the device does not have. */
export function absentRegion(index: number): KernelRegion {
  return { region: { index, sizeBytes: 0, readable: false, writable: false, areas: [] }, fileOffset: 0 };
}

/** `config`: reads the first 256 bytes of configuration space, or what there is; only BARs that may be mapped need it. ERR_BUS_REFUSED for numbers beyond 2^53. */
export function kernelRegion(index: number, info: VfioRegionInfo, config: () => Uint8Array): KernelRegion {
  const [sizeBytes, fileOffset] = [Number(info.sizeBytes), Number(info.fileOffset)];
  // CLIENT: offsets beyond would be rounded, and go to another register.
  if (!Number.isSafeInteger(fileOffset + sizeBytes)) throw new BusError('ERR_BUS_REFUSED', `region ${index} is at 0x${info.fileOffset.toString(16)}+0x${info.sizeBytes.toString(16)} of the device's file, beyond 2^53`);
  const has = (flag: number): boolean => (info.flags & flag) !== 0;
  const region: BusRegion = {
    index, sizeBytes,
    readable: sizeBytes > 0 && has(VFIO_REGION_INFO_FLAG_READ),
    writable: sizeBytes > 0 && has(VFIO_REGION_INFO_FLAG_WRITE),
    areas: sizeBytes > 0 && has(VFIO_REGION_INFO_FLAG_MMAP) && fileOffset % DMA_PAGE_BYTES === 0 ? areasOf(index, sizeBytes, info, config) : [],
    ...(info.type === undefined ? {} : { type: info.type }),
  };
  return { region, fileOffset };
}

function areasOf(index: number, sizeBytes: number, info: VfioRegionInfo, config: () => Uint8Array): readonly RegionArea[] {
  const listed = info.areas?.map((area) => ({ offset: Number(area.offset), sizeBytes: Number(area.sizeBytes) })) ?? [{ offset: 0, sizeBytes }];
  const areas = listed.flatMap((area) => wholePages(area, sizeBytes));
  if (index > VFIO_PCI_BAR5_REGION_INDEX) return areas;
  const bytes = config();
  const bar = FIRST_BAR + 4 * index;
  // Whatever the flags say: a load or a store is no access to a port.
  if (bytes.length >= bar + 4 && (viewOf(bytes).getUint32(bar, true) & BAR_IS_IO) !== 0) return [];
  return info.msixMappable ? areas : withoutMsixTable(index, areas, findMsixTable(bytes));
}

/** The pages that lie in the area; the region's last one counts as whole, as mmap(2) has it. */
function wholePages({ offset, sizeBytes }: RegionArea, regionBytes: number): readonly RegionArea[] {
  const start = Math.ceil(offset / DMA_PAGE_BYTES) * DMA_PAGE_BYTES;
  const end = offset + sizeBytes;
  const last = end === regionBytes ? end : Math.floor(end / DMA_PAGE_BYTES) * DMA_PAGE_BYTES;
  return last > start ? [{ offset: start, sizeBytes: last - start }] : [];
}
