/** DEVICE_GET_INFO (4): what kind of device, how many regions and interrupt indexes. */
import { getU32, putU32 } from '../bytes.ts';
import { needArgsz, needReply } from '../payload.ts';

/** A DEVICE_GET_INFO request or reply: argsz, flags, number of regions, number of interrupt indexes, u32 each. */
export const DEVICE_INFO_BYTES = 16;

/** What DEVICE_GET_INFO answers: region indexes [0, numRegions) and interrupt indexes [0, numIrqs) may be asked about. */
export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

/** The request; `argsz` is the room for the answer. */
export function encodeDeviceGetInfo(argsz: number = DEVICE_INFO_BYTES): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_BYTES);
  putU32(bytes, 0, argsz);
  return bytes;
}

/** ERR_VFU_PAYLOAD, ERR_VFU_ARGSZ where the structure is not whole or has no room. */
export function decodeDeviceGetInfo(payload: Uint8Array): { readonly argsz: number } {
  return { argsz: needArgsz(payload, DEVICE_INFO_BYTES, 'DEVICE_GET_INFO') };
}

/** The reply, with its own length as argsz. */
export function encodeDeviceInfo(info: DeviceInfo): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_BYTES);
  putU32(bytes, 0, DEVICE_INFO_BYTES);
  putU32(bytes, 4, info.flags);
  putU32(bytes, 8, info.numRegions);
  putU32(bytes, 12, info.numIrqs);
  return bytes;
}

/** ERR_VFU_PAYLOAD closes. The numbers are not judged here. */
export function decodeDeviceInfo(payload: Uint8Array): DeviceInfo {
  needReply(payload, DEVICE_INFO_BYTES, 'DEVICE_GET_INFO');
  return { flags: getU32(payload, 4), numRegions: getU32(payload, 8), numIrqs: getU32(payload, 12) };
}
