/** What both ways to a kernel device give, groups with containers and device nodes with iommufd: its descriptor and its DMA. */
import { LinuxError } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { BusError } from '../errors.ts';
import { DMA_PAGE_BYTES } from '../limits.ts';
import type { IovaRange, VfioDmaMap } from '../vfio-abi/type1.ts';

/** The system calls that VFIO is made of. */
export type VfioSys = Pick<Sys, 'open' | 'close' | 'ioctl' | 'pread' | 'pwrite' | 'addressOf' | 'eventfd' | 'eventfdDrain' | 'watch'>;

/** The addresses that a device uses. Its maps outlive no descriptor, but two devices may share one. */
export interface DmaSpace {
  /** undefined: any. */
  readonly iovaRanges: readonly IovaRange[] | undefined;
  /** What addresses and sizes are multiples of. */
  readonly pageBytes: number;
  readonly maxMaps: number;
  /** The lowest multiple of `align` from `from` on where no device of the space has a map, within `iovaRanges`; undefined: there is none. */
  freeIova(sizeBytes: bigint, align: bigint, from: bigint): bigint | undefined;
  /** ERR_BUS_DMA with the kernel's errno. */
  map(map: VfioDmaMap): void;
  /** ERR_BUS_DMA where that was not mapped, or not as one. */
  unmap(iova: bigint, sizeBytes: bigint): void;
}

/** An open device. */
export interface DeviceAccess {
  /** Of the device; `close` closes it. */
  readonly fd: number;
  readonly dma: DmaSpace;
  /** Closes all that was opened for the device and nobody else uses. Never throws. */
  close(): void;
}

const ERRNO = { EPERM: 1, ENOENT: 2, ENXIO: 6, ENOMEM: 12, EACCES: 13, EBUSY: 16, EEXIST: 17, ENODEV: 19, ENOSPC: 28, EADDRINUSE: 98 } as const;

/** A step of opening a device: the kernel's refusal becomes ERR_BUS_BUSY, ERR_BUS_GONE or ERR_BUS_UNUSABLE. */
export function opening<T>(step: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    const { errno, code } = error;
    const options = { errno, cause: error };
    if (errno === ERRNO.EBUSY) throw new BusError('ERR_BUS_BUSY', `${step}: somebody else has it (${code})`, options);
    if (errno === ERRNO.ENODEV) throw new BusError('ERR_BUS_GONE', `${step}: it is not there any more (${code})`, options);
    throw new BusError('ERR_BUS_UNUSABLE', `${step}: ${code}${hintOf(errno)}`, options);
  }
}

function hintOf(errno: number): string {
  if (errno === ERRNO.EACCES || errno === ERRNO.EPERM) return '; who may open it is decided by the owner and mode of the node';
  return errno === ERRNO.ENOENT || errno === ERRNO.ENXIO ? '; is the kernel\'s module loaded?' : '';
}

/** A DMA map or unmap; the kernel's refusal becomes ERR_BUS_DMA. */
export function dma<T>(what: string, { iova, sizeBytes }: Pick<VfioDmaMap, 'iova' | 'sizeBytes'>, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new BusError('ERR_BUS_DMA', `${what} of 0x${sizeBytes.toString(16)} bytes at IOVA 0x${iova.toString(16)}: ${reasonOf(error)}`, { errno: error.errno, cause: error });
  }
}

function reasonOf({ errno, code }: LinuxError): string {
  switch (errno) {
    case ERRNO.EEXIST: case ERRNO.EADDRINUSE: return `part of it is in use, perhaps by another device of the same container (${code})`;
    case ERRNO.ENOMEM: return `more memory would be locked than RLIMIT_MEMLOCK allows: "ulimit -l" shows and raises it, CAP_IPC_LOCK lifts it (${code})`;
    case ERRNO.ENOSPC: return `no more maps are possible (${code})`;
    default: return code;
  }
}

/** For the kernel's own structures of page sizes: the smallest, not below ours. `sizes` has one bit per size; undefined: unknown. */
export function smallestPage(sizes: bigint | undefined): number {
  if (sizes === undefined || sizes === 0n) return DMA_PAGE_BYTES;
  const smallest = Number(sizes & -sizes);
  return Math.max(smallest, DMA_PAGE_BYTES);
}

/** For ways out: what fails there has nobody to be told, and must not keep what comes after from happening. */
export function regardless(...steps: readonly (() => unknown)[]): void {
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      if (!(error instanceof LinuxError || error instanceof BusError)) throw error;
    }
  }
}
