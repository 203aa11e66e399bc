/** A device with a node of its own and the address spaces of /dev/iommu (include/uapi/linux/iommufd.h; Linux 6.6). */
import { BusError } from '../errors.ts';
import { MAX_VFIO_RANGES } from '../limits.ts';
import { putFd, putU32, putU64, received, sized } from './bytes.ts';
import type { VfioDmaMap } from './type1.ts';

const MAP_FIXED_IOVA = 1;
const MAP_WRITEABLE = 2;
const MAP_READABLE = 4;

/** The argument of `VFIO_DEVICE_BIND_IOMMUFD`; `boundDeviceId` reads the answer. */
export function encodeBindIommufd(iommufd: number): Uint8Array {
  const { bytes, view } = sized(16);
  putFd(view, 8, iommufd);
  return bytes;
}

/** iommufd's number for the device, from the answer to `VFIO_DEVICE_BIND_IOMMUFD`. */
export function boundDeviceId(answer: Uint8Array): number {
  return received(answer, 16, 'vfio_device_bind_iommufd').getUint32(12, true);
}

/** The argument of `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: the device uses this address space. */
export function encodeAttach(ioas: number): Uint8Array {
  const { bytes, view } = sized(12);
  putU32(view, 8, ioas, 'ioas');
  return bytes;
}

/** The argument of `VFIO_DEVICE_DETACH_IOMMUFD_PT`. */
export function encodeDetach(): Uint8Array {
  return sized(8).bytes;
}

/** The argument of `IOMMU_IOAS_ALLOC`; `allocatedIoas` reads the answer. */
export function encodeIoasAlloc(): Uint8Array {
  return sized(12).bytes;
}

/** The new address space, from the answer to `IOMMU_IOAS_ALLOC`. */
export function allocatedIoas(answer: Uint8Array): number {
  return received(answer, 12, 'iommu_ioas_alloc').getUint32(8, true);
}

/** The argument of `IOMMU_IOAS_MAP`, at exactly the IOVA given. */
export function encodeIoasMap(ioas: number, { address, iova, sizeBytes, readable, writable }: VfioDmaMap): Uint8Array {
  const { bytes, view } = sized(40);
  view.setUint32(4, MAP_FIXED_IOVA | (writable ? MAP_WRITEABLE : 0) | (readable ? MAP_READABLE : 0), true);
  putU32(view, 8, ioas, 'ioas');
  putU64(view, 16, address, 'address');
  putU64(view, 24, sizeBytes, 'sizeBytes');
  putU64(view, 32, iova, 'iova');
  return bytes;
}

/** The argument of `IOMMU_IOAS_UNMAP`; `unmappedIoasBytes` reads what came of it. */
export function encodeIoasUnmap(ioas: number, iova: bigint, sizeBytes: bigint): Uint8Array {
  const { bytes, view } = sized(24);
  putU32(view, 4, ioas, 'ioas');
  putU64(view, 8, iova, 'iova');
  putU64(view, 16, sizeBytes, 'sizeBytes');
  return bytes;
}

/** Bytes that `IOMMU_IOAS_UNMAP` has unmapped. */
export function unmappedIoasBytes(answer: Uint8Array): bigint {
  return received(answer, 24, 'iommu_ioas_unmap').getBigUint64(16, true);
}

/** The argument of `IOMMU_IOAS_IOVA_RANGES`: `count` ranges of 16 bytes go to `address`. */
export function encodeIoasRanges(ioas: number, count: number, address: bigint): Uint8Array {
  if (count > MAX_VFIO_RANGES) throw new BusError('ERR_BUS_ARGUMENT', `room for ${count} ranges; ${MAX_VFIO_RANGES} are enough`);
  const { bytes, view } = sized(32);
  putU32(view, 4, ioas, 'ioas');
  putU32(view, 8, count, 'count');
  putU64(view, 16, address, 'address');
  return bytes;
}

/** How many ranges there are, whatever there was room for, and what an IOVA has to be a multiple of: the answer to `IOMMU_IOAS_IOVA_RANGES`. */
export function decodeIoasRanges(answer: Uint8Array): { readonly count: number; readonly alignment: bigint } {
  const view = received(answer, 32, 'iommu_ioas_iova_ranges');
  return { count: view.getUint32(8, true), alignment: view.getBigUint64(24, true) };
}

/** The argument of `IOMMU_DESTROY`. */
export function encodeIommuDestroy(id: number): Uint8Array {
  const { bytes, view } = sized(8);
  putU32(view, 4, id, 'id');
  return bytes;
}
