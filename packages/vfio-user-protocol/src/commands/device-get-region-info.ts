/**
 * DEVICE_GET_REGION_INFO (5): size and access of one region, and its parts that may be mapped.
 *
 * The capability chain is sent only if the client's argsz has room for all of it; otherwise the 32 fixed bytes go alone,
 * with argsz telling the need, and the client asks again. The file descriptor goes with the complete answer only: a client
 * that asked for 32 bytes may have no room for one.
 */
import { getU16, getU32, putU16, putU32, putU53 } from '../bytes.ts';
import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_FLAG_CAPS,
} from '../constants.ts';
import { badPeer } from '../errors.ts';
import { MAX_REGION_CAPABILITIES, MAX_SPARSE_AREAS } from '../limits.ts';
import { getReplyU53, needArgsz, needReply } from '../payload.ts';

/** A DEVICE_GET_REGION_INFO request, or the fixed part of its reply; capabilities follow. */
export const REGION_INFO_BYTES = 32;
const CAP_HEADER_BYTES = 8;
const SPARSE_FIXED_BYTES = 16;
const AREA_BYTES = 16;

/** A part of a region that may be mapped, in bytes. */
export interface SparseArea {
  /** From the start of the region. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** What DEVICE_GET_REGION_INFO answers about one region (struct vfio_region_info and its capabilities). */
export interface RegionInfo {
  /** VFIO_REGION_INFO_FLAG_* without CAPS, which follows from the capabilities. */
  readonly flags: number;
  readonly index: number;
  /** 0: no such region. */
  readonly sizeBytes: number;
  /** Where region offset 0 lies in the passed file. */
  readonly fileOffset: number;
  /** Sparse-mmap capability: the parts that may be mapped. */
  readonly areas?: readonly SparseArea[];
  /** Region-type capability (device-specific regions). */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** MSIX-mappable capability: the MSI-X table may be mapped along. */
  readonly msixMappable?: true;
}

/** A `RegionInfo` as received: without the capabilities where there was no room for them. */
export interface DecodedRegionInfo extends RegionInfo {
  /** Bytes of the complete answer: ask again with this argsz if it is more than was asked for. */
  readonly argsz: number;
}

/** The request; `argsz` is the room for the answer. */
export function encodeGetRegionInfo(index: number, argsz: number = REGION_INFO_BYTES): Uint8Array {
  const bytes = new Uint8Array(REGION_INFO_BYTES);
  putU32(bytes, 0, argsz);
  putU32(bytes, 8, index);
  return bytes;
}

/** The index is not judged here: which ones exist is the device's. */
export function decodeGetRegionInfo(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  return { argsz: needArgsz(payload, REGION_INFO_BYTES, 'DEVICE_GET_REGION_INFO'), index: getU32(payload, 8) };
}

/** Bytes of the complete answer. */
export function regionInfoBytes(info: RegionInfo): number {
  let bytes = REGION_INFO_BYTES;
  if (info.areas !== undefined) bytes += SPARSE_FIXED_BYTES + AREA_BYTES * info.areas.length;
  if (info.type !== undefined) bytes += CAP_HEADER_BYTES + 8;
  if (info.msixMappable === true) bytes += CAP_HEADER_BYTES;
  return bytes;
}

/** The complete answer if `argsz` has room for it, else the 32 fixed bytes. Only with `complete` may a descriptor go along. */
export function encodeRegionInfo(info: RegionInfo, argsz: number): { readonly payload: Uint8Array; readonly complete: boolean } {
  const needed = regionInfoBytes(info);
  const complete = argsz >= needed;
  const bytes = new Uint8Array(complete ? needed : REGION_INFO_BYTES);
  const caps = complete && needed > REGION_INFO_BYTES;
  putU32(bytes, 0, needed);
  putU32(bytes, 4, caps ? info.flags | VFIO_REGION_INFO_FLAG_CAPS : info.flags & ~VFIO_REGION_INFO_FLAG_CAPS);
  putU32(bytes, 8, info.index);
  putU32(bytes, 12, caps ? REGION_INFO_BYTES : 0);
  putU53(bytes, 16, info.sizeBytes);
  putU53(bytes, 24, info.fileOffset);
  if (caps) putCapabilities(bytes, info);
  return { payload: bytes, complete };
}

function putCapabilities(bytes: Uint8Array, info: RegionInfo): void {
  let at = REGION_INFO_BYTES;
  const capability = (id: number, length: number): number => {
    const next = at + length;
    putU16(bytes, at, id);
    putU16(bytes, at + 2, 1);
    putU32(bytes, at + 4, next === bytes.length ? 0 : next);
    const body = at + CAP_HEADER_BYTES;
    at = next;
    return body;
  };
  if (info.areas !== undefined) {
    const body = capability(VFIO_REGION_INFO_CAP_SPARSE_MMAP, SPARSE_FIXED_BYTES + AREA_BYTES * info.areas.length);
    putU32(bytes, body, info.areas.length);
    info.areas.forEach((area, i) => {
      putU53(bytes, body + 8 + AREA_BYTES * i, area.offset);
      putU53(bytes, body + 16 + AREA_BYTES * i, area.sizeBytes);
    });
  }
  if (info.type !== undefined) {
    const body = capability(VFIO_REGION_INFO_CAP_TYPE, CAP_HEADER_BYTES + 8);
    putU32(bytes, body, info.type.type);
    putU32(bytes, body + 4, info.type.subtype);
  }
  if (info.msixMappable === true) capability(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, CAP_HEADER_BYTES);
}

/**
 * Reads a reply, the capability chain included: it may only point forwards (a loop cannot be built), stays inside the payload,
 * and unknown capabilities are passed over. That areas lie inside the region is checked too; their alignment is the mapper's.
 */
export function decodeRegionInfo(payload: Uint8Array): DecodedRegionInfo {
  const name = 'DEVICE_GET_REGION_INFO';
  needReply(payload, REGION_INFO_BYTES, name);
  const flags = getU32(payload, 4);
  const info: { -readonly [K in keyof DecodedRegionInfo]: DecodedRegionInfo[K] } = {
    argsz: getU32(payload, 0),
    flags: (flags & ~VFIO_REGION_INFO_FLAG_CAPS) >>> 0,
    index: getU32(payload, 8),
    sizeBytes: getReplyU53(payload, 16, name),
    fileOffset: getReplyU53(payload, 24, name),
  };
  let at = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? 0 : getU32(payload, 12);
  let previous = REGION_INFO_BYTES - 1;
  for (let n = 0; at !== 0; n++) {
    if (n === MAX_REGION_CAPABILITIES) throw badPeer('ERR_VFU_RANGE', `${name} reply: more than ${MAX_REGION_CAPABILITIES} capabilities`);
    if (at <= previous || at + CAP_HEADER_BYTES > payload.length) throw badPeer('ERR_VFU_RANGE', `${name} reply: capability at ${at}, payload has ${payload.length} bytes`);
    const id = getU16(payload, at);
    if (id === VFIO_REGION_INFO_CAP_SPARSE_MMAP && info.areas === undefined) {
      info.areas = decodeAreas(payload, at, info.sizeBytes);
    } else if (id === VFIO_REGION_INFO_CAP_TYPE) {
      needReply(payload, at + CAP_HEADER_BYTES + 8, name);
      info.type = { type: getU32(payload, at + 8), subtype: getU32(payload, at + 12) };
    } else if (id === VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) {
      info.msixMappable = true;
    }
    previous = at + CAP_HEADER_BYTES - 1;
    at = getU32(payload, at + 4);
  }
  return info;
}

function decodeAreas(payload: Uint8Array, at: number, regionBytes: number): SparseArea[] {
  const name = 'DEVICE_GET_REGION_INFO';
  needReply(payload, at + SPARSE_FIXED_BYTES, name);
  const count = getU32(payload, at + 8);
  if (count > MAX_SPARSE_AREAS) throw badPeer('ERR_VFU_RANGE', `${name} reply: ${count} areas, the limit is ${MAX_SPARSE_AREAS}`);
  needReply(payload, at + SPARSE_FIXED_BYTES + AREA_BYTES * count, name);
  const areas: SparseArea[] = [];
  for (let i = 0; i < count; i++) {
    const offset = getReplyU53(payload, at + 16 + AREA_BYTES * i, name);
    const sizeBytes = getReplyU53(payload, at + 24 + AREA_BYTES * i, name);
    if (offset > regionBytes || sizeBytes > regionBytes - offset) {
      throw badPeer('ERR_VFU_RANGE', `${name} reply: area 0x${offset.toString(16)}+0x${sizeBytes.toString(16)} is outside the region of 0x${regionBytes.toString(16)} bytes`);
    }
    areas.push({ offset, sizeBytes });
  }
  return areas;
}
