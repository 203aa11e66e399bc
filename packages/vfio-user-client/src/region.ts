/** A region as its consumer sees it. */
import { VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE } from '@emudev/vfio-user-protocol';
import type { RegionInfo, SparseArea } from '@emudev/vfio-user-protocol';

/** A region of the device (DEVICE_GET_REGION_INFO): sizes and offsets in bytes. */
export interface Region {
  readonly index: number;
  /** 0: there is no such region. */
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Parts that may be mapped. */
  readonly areas: readonly SparseArea[];
  /** Where region offset 0 lies in the server's file. */
  readonly fileOffset: number;
  /** Of a region that is the device's own: what it is (VFIO_REGION_INFO_CAP_TYPE). */
  readonly type?: { readonly type: number; readonly subtype: number };
}

export function regionOf(info: RegionInfo): Region {
  const { flags, index, sizeBytes, fileOffset } = info;
  const mappable = (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0 && sizeBytes > 0;
  return {
    index,
    sizeBytes,
    readable: (flags & VFIO_REGION_INFO_FLAG_READ) !== 0,
    writable: (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0,
    // Without the sparse capability all of a mappable region may be mapped.
    areas: mappable ? (info.areas ?? [{ offset: 0, sizeBytes }]) : [],
    fileOffset,
    ...(info.type === undefined ? {} : { type: info.type }),
  };
}
