/** The container's IOMMU: struct vfio_iommu_type1_info, dma_map, dma_unmap. */
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE } from '@emudev/vfio-user-protocol';
import { BusError } from '../errors.ts';
import { MAX_VFIO_RANGES } from '../limits.ts';
import { putU64, received, sized } from './bytes.ts';
import { bodyOf, capabilitiesOf } from './capability-chain.ts';
import type { VfioCapability } from './capability-chain.ts';

/** Bytes of struct vfio_iommu_type1_info, without capabilities. */
export const TYPE1_INFO_BYTES = 24;
const INFO_PGSIZES = 1;
const INFO_CAPS = 2;
const CAP_IOVA_RANGE = 1;
const CAP_MIGRATION = 2;
const CAP_DMA_AVAIL = 3;

/** Addresses that a device may use, both ends included. */
export interface IovaRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** struct vfio_iommu_type1_info with what its capabilities say. */
export interface Type1Info {
  /** One bit per page size; undefined where the kernel does not say. */
  readonly pageSizes?: bigint;
  /** Ascending; undefined where the kernel does not say. */
  readonly iovaRanges?: readonly IovaRange[];
  /** Dirty pages can be logged. */
  readonly migration?: { readonly flags: number; readonly pageSizes: bigint; readonly maxBitmapBytes: bigint };
  /** DMA maps that may still be made. */
  readonly mapsAvailable?: number;
}

/** The answer to `VFIO_IOMMU_GET_INFO`, whole (`askWithArgsz`). ERR_BUS_VFIO_CHAIN for a malformed chain, or ranges that are not in order. */
export function decodeType1Info(bytes: Uint8Array): Type1Info {
  const name = 'vfio_iommu_type1_info';
  const view = received(bytes, TYPE1_INFO_BYTES, name);
  const flags = view.getUint32(4, true);
  const capabilities = capabilitiesOf(bytes, (flags & INFO_CAPS) === 0 ? 0 : view.getUint32(16, true), TYPE1_INFO_BYTES, name);
  const find = (id: number): VfioCapability | undefined => capabilities.find((capability) => capability.id === id);
  const [ranges, migration, available] = [find(CAP_IOVA_RANGE), find(CAP_MIGRATION), find(CAP_DMA_AVAIL)];
  return {
    ...((flags & INFO_PGSIZES) === 0 ? {} : { pageSizes: view.getBigUint64(8, true) }),
    ...(ranges === undefined ? {} : { iovaRanges: rangesOf(ranges) }),
    ...(migration === undefined ? {} : { migration: migrationOf(migration) }),
    ...(available === undefined ? {} : { mapsAvailable: bodyOf(available, 12, 'the DMA-available capability').getUint32(8, true) }),
  };
}

/** struct vfio_iommu_type1_info_cap_iova_range: header, nr_iovas@8, reserved@12, then start and end, 8 bytes each. */
function rangesOf(capability: VfioCapability): readonly IovaRange[] {
  const name = 'the IOVA-range capability';
  const count = bodyOf(capability, 16, name).getUint32(8, true);
  if (count > MAX_VFIO_RANGES) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name} has ${count} ranges, more than ${MAX_VFIO_RANGES}`);
  const view = bodyOf(capability, 16 + 16 * count, name);
  const ranges = Array.from({ length: count }, (_, i) => ({ first: view.getBigUint64(16 + 16 * i, true), last: view.getBigUint64(24 + 16 * i, true) }));
  ranges.forEach(({ first, last }, i) => {
    if (last < first || (i > 0 && first <= ranges[i - 1]!.last)) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: 0x${first.toString(16)} to 0x${last.toString(16)} is empty or not in order`);
  });
  return ranges;
}

/** struct vfio_iommu_type1_info_cap_migration: header, flags@8, (4 bytes of padding), pgsize_bitmap@16, max_dirty_bitmap_size@24. */
function migrationOf(capability: VfioCapability): NonNullable<Type1Info['migration']> {
  const view = bodyOf(capability, 32, 'the migration capability');
  return { flags: view.getUint32(8, true), pageSizes: view.getBigUint64(16, true), maxBitmapBytes: view.getBigUint64(24, true) };
}

/** A range of process memory for a device. Addresses and size are multiples of the IOMMU's page size. */
export interface VfioDmaMap {
  /** Where this process has it; it stays mapped there as long as the device may use it. */
  readonly address: bigint;
  readonly iova: bigint;
  readonly sizeBytes: bigint;
  /** What the device may do. */
  readonly readable: boolean;
  readonly writable: boolean;
}

/** The argument of `VFIO_IOMMU_MAP_DMA`. */
export function encodeDmaMap({ address, iova, sizeBytes, readable, writable }: VfioDmaMap): Uint8Array {
  const { bytes, view } = sized(32);
  view.setUint32(4, (readable ? VFIO_DMA_MAP_FLAG_READ : 0) | (writable ? VFIO_DMA_MAP_FLAG_WRITE : 0), true);
  putU64(view, 8, address, 'address');
  putU64(view, 16, iova, 'iova');
  putU64(view, 24, sizeBytes, 'sizeBytes');
  return bytes;
}

/** The argument of `VFIO_IOMMU_UNMAP_DMA`; `unmappedBytes` reads what came of it. */
export function encodeDmaUnmap(iova: bigint, sizeBytes: bigint): Uint8Array {
  const { bytes, view } = sized(24);
  putU64(view, 8, iova, 'iova');
  putU64(view, 16, sizeBytes, 'sizeBytes');
  return bytes;
}

/** Bytes that `VFIO_IOMMU_UNMAP_DMA` has unmapped: 0 where nothing was mapped, which is no error of the kernel's. */
export function unmappedBytes(answer: Uint8Array): bigint {
  return received(answer, 24, 'vfio_iommu_type1_dma_unmap').getBigUint64(16, true);
}
