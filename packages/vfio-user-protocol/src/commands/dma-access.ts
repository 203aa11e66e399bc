/**
 * DMA_READ (11) and DMA_WRITE (12), from server to client: device access to memory that came without a descriptor.
 *
 * Two dialects are on the wire:
 *
 * |               | lvu (libvfio-user, the specification)   | qemu (10.1; 11.1 speaks the other)                           |
 * | ------------- | --------------------------------------- | ------------------------------------------------------------ |
 * | READ request  | address u64, count u64                  | address u64, count u32, 4 bytes unused                       |
 * | READ reply    | address u64, count u64, data at 16      | address u64, count u32, data at 12, 4 zero bytes at the end  |
 * | WRITE request | address u64, count u64, data at 16      | address u64, count u32, data at 12; at least 16 bytes        |
 * | WRITE reply   | address u64, count u64 (or u32)         | nothing                                                      |
 */
import { getU32, getU64, putU32, putU53, putU64 } from '../bytes.ts';
import { E2BIG } from '../constants.ts';
import { badPeer, badRequest } from '../errors.ts';
import { getReplyU53, needReply, needRequest } from '../payload.ts';

/**
 * How a client lays out DMA_READ and DMA_WRITE. 'lvu', the specification's: count u64, data at byte 16. 'qemu', 10.1: count
 * u32, data at byte 12, a DMA_WRITE reply without payload. `dialectOfWriteReply` finds out.
 */
export type DmaDialect = 'lvu' | 'qemu';

/** A DMA_READ request: address u64, count u64. No DMA_READ reply and no DMA_WRITE request is shorter, in either dialect. */
export const DMA_ACCESS_BYTES = 16;
const QEMU_DATA_AT = 12;

/** A range of the client's memory: `count` bytes from `address` on. */
export interface DmaAccess {
  /** IOVA. */
  readonly address: bigint;
  readonly count: number;
}

/** A range of the client's memory and what is in it, or is to be. */
export interface DmaData extends DmaAccess {
  /** `count` bytes; a view of the payload. */
  readonly data: Uint8Array;
}

/** The same bytes in both dialects: QEMU's unused upper half is zero for every count below 2^32. */
export function encodeDmaRead(access: DmaAccess): Uint8Array {
  const bytes = new Uint8Array(DMA_ACCESS_BYTES);
  putU64(bytes, 0, access.address);
  putU53(bytes, 8, access.count);
  return bytes;
}

/** `maxBytes`: the max_data_xfer_size this side announced; more is E2BIG. */
export function decodeDmaRead(payload: Uint8Array, dialect: DmaDialect, maxBytes: number): DmaAccess {
  needRequest(payload, DMA_ACCESS_BYTES, 'DMA_READ');
  return { address: getU64(payload, 0), count: requestCount(payload, dialect, maxBytes, 'DMA_READ') };
}

/** The reply to a DMA_READ of `data.length` bytes at `address`. */
export function encodeDmaReadReply(address: bigint, data: Uint8Array, dialect: DmaDialect): Uint8Array {
  const bytes = new Uint8Array(DMA_ACCESS_BYTES + data.length);
  putU64(bytes, 0, address);
  if (dialect === 'qemu') putU32(bytes, 8, data.length);
  else putU53(bytes, 8, data.length);
  bytes.set(data, dialect === 'qemu' ? QEMU_DATA_AT : DMA_ACCESS_BYTES);
  return bytes;
}

/** ERR_VFU_PAYLOAD, ERR_VFU_RANGE: both close. Whether it answers what was asked is the caller's to compare. */
export function decodeDmaReadReply(payload: Uint8Array, dialect: DmaDialect): DmaData {
  needReply(payload, DMA_ACCESS_BYTES, 'DMA_READ');
  const count = dialect === 'qemu' ? getU32(payload, 8) : getReplyU53(payload, 8, 'DMA_READ');
  if (payload.length !== DMA_ACCESS_BYTES + count) throw badPeer('ERR_VFU_PAYLOAD', `DMA_READ reply: payload of ${payload.length} bytes, count is ${count}`);
  const at = dialect === 'qemu' ? QEMU_DATA_AT : DMA_ACCESS_BYTES;
  return { address: getU64(payload, 0), count, data: payload.subarray(at, at + count) };
}

/** A DMA_WRITE of `data` to `address`. */
export function encodeDmaWrite(address: bigint, data: Uint8Array, dialect: DmaDialect): Uint8Array {
  // QEMU refuses a message shorter than its 32-byte structure.
  const at = dialect === 'qemu' ? QEMU_DATA_AT : DMA_ACCESS_BYTES;
  const bytes = new Uint8Array(Math.max(DMA_ACCESS_BYTES, at + data.length));
  putU64(bytes, 0, address);
  if (dialect === 'qemu') putU32(bytes, 8, data.length);
  else putU53(bytes, 8, data.length);
  bytes.set(data, at);
  return bytes;
}

/** `maxBytes` as for `decodeDmaRead`. ERR_VFU_PAYLOAD where count and length differ, ERR_VFU_RANGE (E2BIG) for more than `maxBytes`. */
export function decodeDmaWrite(payload: Uint8Array, dialect: DmaDialect, maxBytes: number): DmaData {
  needRequest(payload, DMA_ACCESS_BYTES, 'DMA_WRITE');
  const count = requestCount(payload, dialect, maxBytes, 'DMA_WRITE');
  const at = dialect === 'qemu' ? QEMU_DATA_AT : DMA_ACCESS_BYTES;
  if (payload.length !== Math.max(DMA_ACCESS_BYTES, at + count)) throw badRequest('ERR_VFU_PAYLOAD', `DMA_WRITE: payload of ${payload.length} bytes, count is ${count}`);
  return { address: getU64(payload, 0), count, data: payload.subarray(at, at + count) };
}

/** The reply: the access echoed, or nothing in the qemu dialect. */
export function encodeDmaWriteReply(access: DmaAccess, dialect: DmaDialect): Uint8Array {
  return dialect === 'qemu' ? new Uint8Array(0) : encodeDmaRead(access);
}

/** undefined in the qemu dialect, whose reply says nothing. One table of the specification has a 4-byte count: accepted. */
export function decodeDmaWriteReply(payload: Uint8Array, dialect: DmaDialect): DmaAccess | undefined {
  if (dialect === 'qemu') return undefined;
  needReply(payload, 12, 'DMA_WRITE');
  return { address: getU64(payload, 0), count: payload.length < DMA_ACCESS_BYTES ? getU32(payload, 8) : getReplyU53(payload, 8, 'DMA_WRITE') };
}

/** The dialect a peer speaks, from its reply to a DMA_WRITE of count 0 (the request is the same in both). */
export function dialectOfWriteReply(payload: Uint8Array): DmaDialect {
  return payload.length === 0 ? 'qemu' : 'lvu';
}

function requestCount(payload: Uint8Array, dialect: DmaDialect, maxBytes: number, name: string): number {
  const count = getU32(payload, 8);
  if (count > maxBytes || (dialect === 'lvu' && getU32(payload, 12) !== 0)) throw badRequest('ERR_VFU_RANGE', `${name}: count is above ${maxBytes}`, E2BIG);
  return count;
}
