/**
 * DEVICE_GET_REGION_IO_FDS (6): descriptors that a consumer may hand to KVM, so that guest writes to parts of a region reach the
 * device without a message.
 *
 * The specification's table has records of 40 bytes; libvfio-user, the only server in the field, sends 48 (shadow fields before
 * datamatch, every type padded to the longest). An encoder's stride is an argument, 48 by default; a decoder sees it in argsz.
 */
import { getU32, getU64, putU32, putU53, putU64 } from '../bytes.ts';
import { VFIO_USER_IO_FD_TYPE_IOEVENTFD, VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW, VFIO_USER_IO_FD_TYPE_IOREGIONFD } from '../constants.ts';
import { badPeer, badRequest } from '../errors.ts';
import { MAX_IO_FD_RECORDS } from '../limits.ts';
import { getReplyU53, needBoundedArgsz, needReply } from '../payload.ts';

/** A DEVICE_GET_REGION_IO_FDS request, or the fixed part of its reply: argsz, flags, index, count, u32 each; records follow. */
export const REGION_IO_FDS_BYTES = 16;
/** Bytes of a record: 40 in the specification's table, 48 as libvfio-user sends it. */
export type IoFdStride = 40 | 48;

interface SubRegion {
  /** From the start of the region. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** Into the descriptors of the message; -1: none. */
  readonly fdIndex: number;
  readonly flags: number;
}

/** A sub-region and the descriptor that stands for writes to it: an ioeventfd (KVM_IOEVENTFD), an ioregionfd, or an ioeventfd with a shadow file for the value. */
export type IoFdRecord = SubRegion & (
  | { readonly kind: 'ioeventfd'; readonly datamatch: bigint }
  | { readonly kind: 'ioregionfd'; readonly userData: bigint }
  /** Only with a stride of 48. */
  | { readonly kind: 'shadow'; readonly datamatch: bigint; readonly memoryFdIndex: number; readonly memoryOffset: number }
);

/** What DEVICE_GET_REGION_IO_FDS answers about one region. */
export interface RegionIoFds {
  /** Bytes of the complete answer. */
  readonly argsz: number;
  readonly index: number;
  /** Sub-regions there are; `records` is empty when the room was too small for all of them. */
  readonly count: number;
  readonly records: readonly IoFdRecord[];
}

/** The request; `argsz` is the room for the answer. */
export function encodeGetRegionIoFds(index: number, argsz: number = REGION_IO_FDS_BYTES): Uint8Array {
  const bytes = new Uint8Array(REGION_IO_FDS_BYTES);
  putU32(bytes, 0, argsz);
  putU32(bytes, 8, index);
  return bytes;
}

/** ERR_VFU_PAYLOAD, ERR_VFU_ARGSZ; ERR_VFU_FLAGS where flags or count are not 0. The index is not judged here. */
export function decodeGetRegionIoFds(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  const argsz = needBoundedArgsz(payload, REGION_IO_FDS_BYTES, 'DEVICE_GET_REGION_IO_FDS');
  if (getU32(payload, 4) !== 0 || getU32(payload, 12) !== 0) throw badRequest('ERR_VFU_FLAGS', 'DEVICE_GET_REGION_IO_FDS: flags and count of a request are 0');
  return { argsz, index: getU32(payload, 8) };
}

/** Bytes of an answer with `count` records. */
export function regionIoFdsBytes(count: number, stride: IoFdStride = 48): number {
  return REGION_IO_FDS_BYTES + stride * count;
}

/** All records if `argsz` has room for them, else none: only with `complete` may the descriptors go along. */
export function encodeRegionIoFds(index: number, records: readonly IoFdRecord[], argsz: number, stride: IoFdStride = 48): { readonly payload: Uint8Array; readonly complete: boolean } {
  const needed = regionIoFdsBytes(records.length, stride);
  const complete = argsz >= needed;
  const bytes = new Uint8Array(complete ? needed : REGION_IO_FDS_BYTES);
  putU32(bytes, 0, needed);
  putU32(bytes, 8, index);
  putU32(bytes, 12, records.length);
  if (complete) records.forEach((record, i) => { putRecord(bytes, REGION_IO_FDS_BYTES + stride * i, record, stride); });
  return { payload: bytes, complete };
}

const NO_FD = 0xffff_ffff;
const DATAMATCH_AT = { 40: 32, 48: 40 } as const;

function putRecord(bytes: Uint8Array, at: number, record: IoFdRecord, stride: IoFdStride): void {
  putU53(bytes, at, record.offset);
  putU53(bytes, at + 8, record.sizeBytes);
  putU32(bytes, at + 16, record.fdIndex >>> 0);
  putU32(bytes, at + 24, record.flags);
  switch (record.kind) {
    case 'ioeventfd':
      putU32(bytes, at + 20, VFIO_USER_IO_FD_TYPE_IOEVENTFD);
      return putU64(bytes, at + DATAMATCH_AT[stride], record.datamatch);
    case 'ioregionfd':
      putU32(bytes, at + 20, VFIO_USER_IO_FD_TYPE_IOREGIONFD);
      return putU64(bytes, at + 32, record.userData);
    case 'shadow':
      if (stride !== 48) throw new RangeError('a shadow ioeventfd needs records of 48 bytes');
      putU32(bytes, at + 20, VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW);
      putU32(bytes, at + 28, record.memoryFdIndex >>> 0);
      putU53(bytes, at + 32, record.memoryOffset);
      return putU64(bytes, at + 40, record.datamatch);
  }
}

/** `fdCount`: descriptors that came along; an index beyond them closes. Records of 40 and of 48 bytes are told apart by argsz. */
export function decodeRegionIoFds(payload: Uint8Array, fdCount: number): RegionIoFds {
  const name = 'DEVICE_GET_REGION_IO_FDS';
  needReply(payload, REGION_IO_FDS_BYTES, name);
  const head = { argsz: getU32(payload, 0), index: getU32(payload, 8), count: getU32(payload, 12) };
  if (head.count > MAX_IO_FD_RECORDS) throw badPeer('ERR_VFU_RANGE', `${name} reply: ${head.count} sub-regions, the limit is ${MAX_IO_FD_RECORDS}`);
  const stride: IoFdStride = head.argsz === regionIoFdsBytes(head.count, 40) ? 40 : 48;
  if (head.argsz !== regionIoFdsBytes(head.count, stride)) throw badPeer('ERR_VFU_ARGSZ', `${name} reply: argsz ${head.argsz} for ${head.count} sub-regions`);
  if (payload.length === REGION_IO_FDS_BYTES) return { ...head, records: [] };
  needReply(payload, head.argsz, name);
  const records = Array.from({ length: head.count }, (_, i) => getRecord(payload, REGION_IO_FDS_BYTES + stride * i, fdCount, stride));
  return { ...head, records };
}

function getRecord(payload: Uint8Array, at: number, fdCount: number, stride: IoFdStride): IoFdRecord {
  const name = 'DEVICE_GET_REGION_IO_FDS';
  const fdIndex = (value: number): number => {
    if (value === NO_FD) return -1;
    if (value >= fdCount) throw badPeer('ERR_VFU_FDS', `${name} reply: descriptor ${value} of ${fdCount}`);
    return value;
  };
  const sub = { offset: getReplyU53(payload, at, name), sizeBytes: getReplyU53(payload, at + 8, name), fdIndex: fdIndex(getU32(payload, at + 16)), flags: getU32(payload, at + 24) };
  switch (getU32(payload, at + 20)) {
    case VFIO_USER_IO_FD_TYPE_IOEVENTFD:
      return { ...sub, kind: 'ioeventfd', datamatch: getU64(payload, at + DATAMATCH_AT[stride]) };
    case VFIO_USER_IO_FD_TYPE_IOREGIONFD:
      return { ...sub, kind: 'ioregionfd', userData: getU64(payload, at + 32) };
    case VFIO_USER_IO_FD_TYPE_IOEVENTFD_SHADOW:
      if (stride === 48) return { ...sub, kind: 'shadow', memoryFdIndex: fdIndex(getU32(payload, at + 28)), memoryOffset: getReplyU53(payload, at + 32, name), datamatch: getU64(payload, at + 40) };
  }
  throw badPeer('ERR_VFU_INDEX', `${name} reply: sub-region of unknown type ${getU32(payload, at + 20)}`);
}
