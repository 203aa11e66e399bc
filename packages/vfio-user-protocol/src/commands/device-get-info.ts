/** DEVICE_GET_INFO (4): what kind of device, how many regions and interrupt indexes. */
import { getU32, putU32 } from '../bytes.ts';
import { needArgsz, needReply } from '../payload.ts';

export const DEVICE_INFO_BYTES = 16;

export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export function encodeDeviceGetInfo(argsz: number = DEVICE_INFO_BYTES): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_BYTES);
  putU32(bytes, 0, argsz);
  return bytes;
}

export function decodeDeviceGetInfo(payload: Uint8Array): { readonly argsz: number } {
  return { argsz: needArgsz(payload, DEVICE_INFO_BYTES, 'DEVICE_GET_INFO') };
}

export function encodeDeviceInfo(info: DeviceInfo): Uint8Array {
  const bytes = new Uint8Array(DEVICE_INFO_BYTES);
  putU32(bytes, 0, DEVICE_INFO_BYTES);
  putU32(bytes, 4, info.flags);
  putU32(bytes, 8, info.numRegions);
  putU32(bytes, 12, info.numIrqs);
  return bytes;
}

export function decodeDeviceInfo(payload: Uint8Array): DeviceInfo {
  needReply(payload, DEVICE_INFO_BYTES, 'DEVICE_GET_INFO');
  return { flags: getU32(payload, 4), numRegions: getU32(payload, 8), numIrqs: getU32(payload, 12) };
}
