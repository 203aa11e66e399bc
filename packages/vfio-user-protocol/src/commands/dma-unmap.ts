/** DMA_UNMAP (3): one earlier DMA_MAP, or all of them, ends. The reply echoes the request, with the dirty bitmap if asked for. */
import { getU32, getU64, putU32, putU64 } from '../bytes.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP } from '../constants.ts';
import { badPeer, badRequest } from '../errors.ts';
import { needBoundedArgsz, needReply, needRequest } from '../payload.ts';

/** Fixed part of a DMA_UNMAP request or reply: argsz u32, flags u32, address u64, size u64. */
export const DMA_UNMAP_BYTES = 24;
const BITMAP_HEADER_BYTES = 16;

/** A DMA_UNMAP request: [address, address + size) in bytes, both 0 with ALL. */
export interface DmaUnmap {
  readonly argsz: number;
  /** VFIO_DMA_UNMAP_FLAG_*: none, GET_DIRTY_BITMAP or ALL, never both. */
  readonly flags: number;
  readonly address: bigint;
  readonly size: bigint;
  /** With GET_DIRTY_BITMAP: page size of a bit, and the bytes the consumer expects. */
  readonly bitmap?: { readonly pageSize: bigint; readonly bytes: bigint };
}

/** The request; `argsz` is by default what the reply will need, the bitmap included. */
export function encodeDmaUnmap(unmap: Omit<DmaUnmap, 'argsz'> & { readonly argsz?: number }): Uint8Array {
  const fixed = DMA_UNMAP_BYTES + (unmap.bitmap === undefined ? 0 : BITMAP_HEADER_BYTES);
  const bytes = new Uint8Array(fixed);
  putFixed(bytes, unmap, unmap.argsz ?? fixed + Number(unmap.bitmap?.bytes ?? 0n));
  if (unmap.bitmap !== undefined) {
    putU64(bytes, 24, unmap.bitmap.pageSize);
    putU64(bytes, 32, unmap.bitmap.bytes);
  }
  return bytes;
}

/** Checks flags as a whole value and, with GET_DIRTY_BITMAP, that bitmap size, page size and argsz add up. */
export function decodeDmaUnmap(payload: Uint8Array): DmaUnmap {
  const argsz = needBoundedArgsz(payload, DMA_UNMAP_BYTES, 'DMA_UNMAP');
  const flags = getU32(payload, 4);
  const address = getU64(payload, 8);
  const size = getU64(payload, 16);
  if (flags === 0) return { argsz, flags, address, size };
  if (flags === VFIO_DMA_UNMAP_FLAG_ALL) {
    if (address !== 0n || size !== 0n) throw badRequest('ERR_VFU_RANGE', 'DMA_UNMAP: ALL takes address 0 and size 0');
    return { argsz, flags, address, size };
  }
  if (flags !== VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) throw badRequest('ERR_VFU_FLAGS', `DMA_UNMAP: flags 0x${flags.toString(16)}`);
  const fixed = DMA_UNMAP_BYTES + BITMAP_HEADER_BYTES;
  needRequest(payload, fixed, 'DMA_UNMAP with bitmap');
  const bitmap = { pageSize: getU64(payload, 24), bytes: getU64(payload, 32) };
  if (bitmap.bytes !== dirtyBitmapBytes(size, bitmap.pageSize)) {
    throw badRequest('ERR_VFU_RANGE', `DMA_UNMAP: bitmap of ${bitmap.bytes} bytes for 0x${size.toString(16)} bytes in pages of ${bitmap.pageSize}`);
  }
  if (BigInt(argsz) < BigInt(fixed) + bitmap.bytes) throw badRequest('ERR_VFU_ARGSZ', `DMA_UNMAP: argsz ${argsz} has no room for a bitmap of ${bitmap.bytes} bytes`);
  return { argsz, flags, address, size, bitmap };
}

/** Bytes of a dirty bitmap: one bit per page in whole 64-bit words. -1n where the page size is no power of two or the range is empty. */
export function dirtyBitmapBytes(size: bigint, pageSize: bigint): bigint {
  if (pageSize === 0n || (pageSize & (pageSize - 1n)) !== 0n || size === 0n || pageSize > size) return -1n;
  const pages = (size + pageSize - 1n) / pageSize;
  return 8n * ((pages + 63n) / 64n);
}

/** `dirty` goes along exactly when the request asked for a bitmap; its length is then the request's `bitmap.bytes`. */
export function encodeDmaUnmapReply(request: DmaUnmap, dirty?: Uint8Array): Uint8Array {
  if (request.bitmap === undefined || dirty === undefined) {
    const bytes = new Uint8Array(DMA_UNMAP_BYTES);
    putFixed(bytes, request, request.argsz);
    return bytes;
  }
  const bytes = new Uint8Array(DMA_UNMAP_BYTES + BITMAP_HEADER_BYTES + dirty.length);
  putFixed(bytes, request, bytes.length);
  putU64(bytes, 24, request.bitmap.pageSize);
  putU64(bytes, 32, BigInt(dirty.length));
  bytes.set(dirty, 40);
  return bytes;
}

/** A DMA_UNMAP reply: the request echoed, with `dirty` (a view, one bit per page) where it asked for a bitmap. */
export interface DmaUnmapReply extends DmaUnmap {
  readonly dirty?: Uint8Array;
}

/** ERR_VFU_PAYLOAD closes. Whether it echoes the request is the caller's to compare. */
export function decodeDmaUnmapReply(payload: Uint8Array): DmaUnmapReply {
  needReply(payload, DMA_UNMAP_BYTES, 'DMA_UNMAP');
  const fixed = { argsz: getU32(payload, 0), flags: getU32(payload, 4), address: getU64(payload, 8), size: getU64(payload, 16) };
  if ((fixed.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) === 0) return fixed;
  needReply(payload, DMA_UNMAP_BYTES + BITMAP_HEADER_BYTES, 'DMA_UNMAP with bitmap');
  const bitmap = { pageSize: getU64(payload, 24), bytes: getU64(payload, 32) };
  const dirty = payload.subarray(DMA_UNMAP_BYTES + BITMAP_HEADER_BYTES);
  if (BigInt(dirty.length) !== bitmap.bytes) throw badPeer('ERR_VFU_PAYLOAD', `DMA_UNMAP reply: ${dirty.length} bytes of bitmap, it says ${bitmap.bytes}`);
  return { ...fixed, bitmap, dirty };
}

function putFixed(bytes: Uint8Array, unmap: Omit<DmaUnmap, 'argsz'>, argsz: number): void {
  putU32(bytes, 0, argsz);
  putU32(bytes, 4, unmap.flags);
  putU64(bytes, 8, unmap.address);
  putU64(bytes, 16, unmap.size);
}
