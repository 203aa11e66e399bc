/** What the IOMMU of `FakeVfio` says of itself. */
import { linux } from '@emudev/linux';

/** See `FakeVfio`. */
export interface FakeIommu {
  readonly iovaRanges: readonly (readonly [bigint, bigint])[];
  readonly pageSizes: bigint;
  readonly mapsAvailable: number;
  readonly saysRanges: boolean;
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** struct vfio_iommu_type1_info. Capabilities: the ranges at 24, then the maps that are left. */
export function fillType1Info(bytes: Uint8Array, { iovaRanges, pageSizes, mapsAvailable, saysRanges }: FakeIommu): void {
  const left = 24 + 16 + 16 * iovaRanges.length;
  const data = view(bytes);
  const needed = left + 12;
  data.setUint32(4, saysRanges ? 3 : 1, true);
  data.setBigUint64(8, pageSizes, true);
  if (!saysRanges) return;
  data.setUint32(0, needed, true);
  if (bytes.length < needed) return;
  data.setUint32(16, 24, true);
  data.setUint16(24, 1, true);
  data.setUint32(28, left, true);
  data.setUint32(32, iovaRanges.length, true);
  iovaRanges.forEach(([first, last], i) => { data.setBigUint64(40 + 16 * i, first, true); data.setBigUint64(48 + 16 * i, last, true); });
  data.setUint16(left, 3, true);
  data.setUint32(left + 8, mapsAvailable, true);
}

/** Two numbers of 64 bits at an address of this process, through the one system call that takes addresses. */
export function poke(address: bigint, first: bigint, last: bigint): void {
  const [near, far] = linux.unixSocketPair();
  linux.write(near, new Uint8Array(BigUint64Array.of(first, last).buffer));
  linux.readAt(far, address, 16);
  linux.close(near);
  linux.close(far);
}
