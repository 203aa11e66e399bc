/** DMA_MAP (2): a range of the consumer's memory that the device may use from now on. Reply: header only. */
import { getU32, getU64, putU32, putU64 } from '../bytes.ts';
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_USER_F_DMA_REGION_FILE_IO, VFIO_USER_F_DMA_REGION_MMAP } from '../constants.ts';
import { badRequest } from '../errors.ts';
import { needArgsz } from '../payload.ts';

/** A DMA_MAP request: argsz u32, flags u32, file offset u64, address u64, size u64. */
export const DMA_MAP_BYTES = 32;

const KNOWN_FLAGS = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_USER_F_DMA_REGION_MMAP | VFIO_USER_F_DMA_REGION_FILE_IO;
const ADDRESS_SPACE = 1n << 64n;

/** A DMA_MAP request: the device may access [address, address + size) as the flags say. */
export interface DmaMap {
  readonly argsz: number;
  /** VFIO_DMA_MAP_FLAG_* and VFIO_USER_F_DMA_REGION_*. */
  readonly flags: number;
  /** Where the range begins in the passed file. */
  readonly fdOffset: bigint;
  /** IOVA (guest-physical address). */
  readonly address: bigint;
  /** Bytes; 0 is legal and maps nothing. */
  readonly size: bigint;
}

/** The request; `argsz` is its own length by default. A descriptor goes along with the message. */
export function encodeDmaMap(map: Omit<DmaMap, 'argsz'> & { readonly argsz?: number }): Uint8Array {
  const bytes = new Uint8Array(DMA_MAP_BYTES);
  putU32(bytes, 0, map.argsz ?? DMA_MAP_BYTES);
  putU32(bytes, 4, map.flags);
  putU64(bytes, 8, map.fdOffset);
  putU64(bytes, 16, map.address);
  putU64(bytes, 24, map.size);
  return bytes;
}

/**
 * `fdCount`: descriptors that came along. More than one is not an error (LVU closes the rest): the caller closes `fds.slice(1)`.
 * Address and file range are checked against overflow here; whether they overlap others is the DMA table's business.
 */
export function decodeDmaMap(payload: Uint8Array, fdCount: number): DmaMap {
  const argsz = needArgsz(payload, DMA_MAP_BYTES, 'DMA_MAP');
  const flags = getU32(payload, 4);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw badRequest('ERR_VFU_FLAGS', `DMA_MAP: unknown flags 0x${flags.toString(16)}`);
  const access = flags & (VFIO_USER_F_DMA_REGION_MMAP | VFIO_USER_F_DMA_REGION_FILE_IO);
  if (access === (VFIO_USER_F_DMA_REGION_MMAP | VFIO_USER_F_DMA_REGION_FILE_IO)) throw badRequest('ERR_VFU_FLAGS', 'DMA_MAP: both MMAP and FILE_IO');
  if (access !== 0 && fdCount === 0) throw badRequest('ERR_VFU_FDS', 'DMA_MAP: MMAP or FILE_IO without a descriptor');
  const fdOffset = getU64(payload, 8);
  const address = getU64(payload, 16);
  const size = getU64(payload, 24);
  if (address + size > ADDRESS_SPACE) throw badRequest('ERR_VFU_RANGE', `DMA_MAP: 0x${address.toString(16)} + 0x${size.toString(16)} is beyond 2^64`);
  if (fdCount > 0 && fdOffset + size >= 1n << 63n) throw badRequest('ERR_VFU_RANGE', `DMA_MAP: file offset 0x${fdOffset.toString(16)} + 0x${size.toString(16)} is beyond off_t`);
  return { argsz, flags, fdOffset, address, size };
}
