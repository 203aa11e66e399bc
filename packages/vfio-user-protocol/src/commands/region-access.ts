/**
 * REGION_READ (9) and REGION_WRITE (10): one trapped access.
 * `offset u64 | region u32 | count u32 | data`, data in the write request and in the read reply. The hottest messages of the
 * control path: no BigInt, and the encoders fill a caller's buffer.
 */
import { getU32, getU53, putU32, putU53 } from '../bytes.ts';
import { HEADER_BYTES, VFIO_USER_F_TYPE_REPLY, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE } from '../constants.ts';
import { badPeer, badRequest } from '../errors.ts';
import { newMessage } from '../header.ts';
import { getReplyU53, needReply, needRequest } from '../payload.ts';

/** Fixed part of REGION_READ and REGION_WRITE: offset u64, region u32, count u32; data follows. */
export const REGION_ACCESS_BYTES = 16;
/** Where the data of a write request or a read reply begins in the whole message. */
export const REGION_DATA_AT: number = HEADER_BYTES + REGION_ACCESS_BYTES;

/** `count` bytes at `offset` (bytes from the start) of the region with index `region`. */
export interface RegionAccess {
  readonly offset: number;
  readonly region: number;
  readonly count: number;
}

/** An access and its data. */
export interface RegionData extends RegionAccess {
  /** `count` bytes; a view of the payload. */
  readonly data: Uint8Array;
}

/** Writes the fixed part at byte `at` of a message. */
export function putRegionAccess(into: Uint8Array, at: number, offset: number, region: number, count: number): void {
  putU53(into, at, offset);
  putU32(into, at + 8, region);
  putU32(into, at + 12, count);
}

/** A REGION_READ request. */
export function encodeRegionRead(access: RegionAccess): Uint8Array {
  const bytes = new Uint8Array(REGION_ACCESS_BYTES);
  putRegionAccess(bytes, 0, access.offset, access.region, access.count);
  return bytes;
}

/** Offsets of 2^53 and more cannot be inside any region: ERR_VFU_RANGE. `maxBytes`: the max_data_xfer_size announced. */
export function decodeRegionRead(payload: Uint8Array, maxBytes: number): RegionAccess {
  needRequest(payload, REGION_ACCESS_BYTES, 'REGION_READ');
  const count = getU32(payload, 12);
  if (count > maxBytes) throw badRequest('ERR_VFU_RANGE', `REGION_READ: count ${count}, the limit is ${maxBytes}`);
  return { offset: getU53(payload, 0), region: getU32(payload, 8), count };
}

/** A whole read reply with room for `count` bytes at REGION_DATA_AT: the device reads straight into the message. */
export function newRegionReadReply(id: number, access: RegionAccess): Uint8Array {
  const message = newMessage(id, VFIO_USER_REGION_READ, VFIO_USER_F_TYPE_REPLY, REGION_ACCESS_BYTES + access.count);
  putRegionAccess(message, HEADER_BYTES, access.offset, access.region, access.count);
  return message;
}

/**
 * `count` may be smaller than asked for (a short transfer); it always is the length of the data. With `request`, the header alone that
 * libvfio-user answers to a read of no bytes is taken for what it means.
 */
export function decodeRegionReadReply(payload: Uint8Array, request?: RegionAccess): RegionData {
  if (payload.length === 0 && request?.count === 0) return { offset: request.offset, region: request.region, count: 0, data: payload };
  needReply(payload, REGION_ACCESS_BYTES, 'REGION_READ');
  const count = getU32(payload, 12);
  if (payload.length !== REGION_ACCESS_BYTES + count) throw badPeer('ERR_VFU_PAYLOAD', `REGION_READ reply: ${payload.length - REGION_ACCESS_BYTES} bytes of data, count is ${count}`);
  return { offset: getReplyU53(payload, 0, 'REGION_READ'), region: getU32(payload, 8), count, data: payload.subarray(REGION_ACCESS_BYTES) };
}

/** A REGION_WRITE request, or the reply to a REGION_READ: both are the access and its data. */
export function encodeRegionData(offset: number, region: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(REGION_ACCESS_BYTES + data.length);
  putRegionAccess(bytes, 0, offset, region, data.length);
  bytes.set(data, REGION_ACCESS_BYTES);
  return bytes;
}

/** The payload must be exactly 16 + count bytes. */
export function decodeRegionWrite(payload: Uint8Array, maxBytes: number): RegionData {
  needRequest(payload, REGION_ACCESS_BYTES, 'REGION_WRITE');
  const count = getU32(payload, 12);
  if (count > maxBytes) throw badRequest('ERR_VFU_RANGE', `REGION_WRITE: count ${count}, the limit is ${maxBytes}`);
  if (payload.length !== REGION_ACCESS_BYTES + count) throw badRequest('ERR_VFU_PAYLOAD', `REGION_WRITE: ${payload.length - REGION_ACCESS_BYTES} bytes of data, count is ${count}`);
  return { offset: getU53(payload, 0), region: getU32(payload, 8), count, data: payload.subarray(REGION_ACCESS_BYTES) };
}

/** A whole write reply: the access echoed, `count` = bytes written. */
export function newRegionWriteReply(id: number, access: RegionAccess): Uint8Array {
  const message = newMessage(id, VFIO_USER_REGION_WRITE, VFIO_USER_F_TYPE_REPLY, REGION_ACCESS_BYTES);
  putRegionAccess(message, HEADER_BYTES, access.offset, access.region, access.count);
  return message;
}

/** `request` as for `decodeRegionReadReply`. */
export function decodeRegionWriteReply(payload: Uint8Array, request?: RegionAccess): RegionAccess {
  if (payload.length === 0 && request?.count === 0) return { offset: request.offset, region: request.region, count: 0 };
  needReply(payload, REGION_ACCESS_BYTES, 'REGION_WRITE');
  return { offset: getReplyU53(payload, 0, 'REGION_WRITE'), region: getU32(payload, 8), count: getU32(payload, 12) };
}
