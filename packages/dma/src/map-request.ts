/** What is asked of `IovaSpace.map`, and what of it makes sense. */
import { DmaError } from './errors.ts';
import { PAGE_BYTES } from './iotlb.ts';
import { isPageMultiple } from './window.ts';

const ADDRESS_SPACE_END = 1n << 64n;

/** Memory behind a region that is not mapped: whoever serves the device asks the consumer by message, or goes through a file. */
export interface RemoteMemory {
  /** True where the consumer does not see what is written, so that it has to be logged here when dirty pages are. */
  readonly direct?: boolean;
  /** Fills `into` from [iova, iova + into.length), which lies in one region. A rejection becomes that of `IovaSpace.read`. */
  read(iova: bigint, into: Uint8Array): Promise<void>;
  /** Writes `from` to [iova, iova + from.length), which lies in one region. A rejection becomes that of `IovaSpace.write`; part of it may have been written. */
  write(iova: bigint, from: Uint8Array): Promise<void>;
  /** Whether mapping `other` at the same place would be mapping the same once more. Without this: if it is the same object. */
  isSame?(other: RemoteMemory): boolean;
}

/** A region for `IovaSpace.map`: memory of the consumer that the device may reach from now on (vfio-user DMA_MAP). */
export interface DmaMapRequest {
  /** Multiples of 4096; the size is not 0 and the range ends at 2^64 at most. */
  readonly iova: bigint;
  readonly sizeBytes: number | bigint;
  /** What the device may do. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** Borrowed for the duration of the call. */
  readonly fd?: number;
  /** Multiple of 4096. */
  readonly fdOffset?: number | bigint;
  /** Without `fd`: how the region is reached. Without either, every access to it is a fault. */
  readonly remote?: RemoteMemory;
}

/** CLIENT: every number of a map request comes from the consumer. */
export function checkRequest(request: DmaMapRequest): { iova: bigint; end: bigint; sizeBytes: number; fdOffset: number } {
  const { iova } = request;
  const size = BigInt(request.sizeBytes);
  const end = iova + size;
  if (iova < 0n || size <= 0n || end > ADDRESS_SPACE_END || iova % BigInt(PAGE_BYTES) !== 0n || size % BigInt(PAGE_BYTES) !== 0n) {
    throw new DmaError('ERR_DMA_INVALID', `${rangeText(iova, size)}: expected a non-empty range of whole 4 KiB pages below 2^64`);
  }
  const sizeBytes = Number(size);
  const fdOffset = Number(request.fdOffset ?? 0);
  if (!Number.isSafeInteger(sizeBytes)) throw new DmaError('ERR_DMA_LIMIT', `${rangeText(iova, size)} is larger than 2^53 bytes`);
  if (request.fd !== undefined && (!isPageMultiple(fdOffset) || !Number.isSafeInteger(fdOffset + sizeBytes))) {
    throw new DmaError('ERR_DMA_INVALID', `file offset ${request.fdOffset}: expected a multiple of ${PAGE_BYTES}`);
  }
  return { iova, end, sizeBytes, fdOffset };
}

/** For messages. */
export function rangeText(iova: bigint, sizeBytes: number | bigint): string {
  return `[0x${iova.toString(16)}, +0x${sizeBytes.toString(16)})`;
}
