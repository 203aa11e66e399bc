/**
 * MIG_DATA_READ (17) and MIG_DATA_WRITE (18): `argsz u32 | size u32 | data`, the stream of a device's state in pieces.
 *
 * A READ reply of size 0 is the end of the stream for the device's present state. libvfio-user pads replies to the size that was
 * asked for, and its sample client needs that; `argsz` and `size` always say how much of it is data.
 */
import { getU32, putU32 } from '../bytes.ts';
import { badPeer, badRequest } from '../errors.ts';
import { needArgsz, needReply } from '../payload.ts';

/** Fixed part of MIG_DATA_READ and MIG_DATA_WRITE: argsz, size, u32 each; data follows. */
export const MIG_DATA_BYTES = 8;

/** A request for the next `size` bytes of state, at most. */
export function encodeMigDataRead(size: number): Uint8Array {
  const bytes = new Uint8Array(MIG_DATA_BYTES);
  putU32(bytes, 0, MIG_DATA_BYTES + size);
  putU32(bytes, 4, size);
  return bytes;
}

/** The size wanted. */
export function decodeMigDataRead(payload: Uint8Array, maxBytes: number): number {
  const argsz = needArgsz(payload, MIG_DATA_BYTES, 'MIG_DATA_READ');
  return checkedSize(argsz, getU32(payload, 4), maxBytes, 'MIG_DATA_READ');
}

/** `padTo`: zeroes follow until the data part has this length. */
export function encodeMigDataReadReply(data: Uint8Array, padTo: number = data.length): Uint8Array {
  const bytes = new Uint8Array(MIG_DATA_BYTES + Math.max(data.length, padTo));
  putU32(bytes, 0, MIG_DATA_BYTES + data.length);
  putU32(bytes, 4, data.length);
  bytes.set(data, MIG_DATA_BYTES);
  return bytes;
}

/** The data without padding; `maxBytes` is the size that was asked for. */
export function decodeMigDataReadReply(payload: Uint8Array, maxBytes: number): Uint8Array {
  needReply(payload, MIG_DATA_BYTES, 'MIG_DATA_READ');
  const size = getU32(payload, 4);
  if (size > maxBytes || size > payload.length - MIG_DATA_BYTES) throw badPeer('ERR_VFU_RANGE', `MIG_DATA_READ reply: size ${size} in ${payload.length} bytes, ${maxBytes} were asked for`);
  return payload.subarray(MIG_DATA_BYTES, MIG_DATA_BYTES + size);
}

/** A request that carries `data`, the next piece of state. */
export function encodeMigDataWrite(data: Uint8Array): Uint8Array {
  return encodeMigDataReadReply(data);
}

/** The data; a view. */
export function decodeMigDataWrite(payload: Uint8Array, maxBytes: number): Uint8Array {
  const argsz = needArgsz(payload, MIG_DATA_BYTES, 'MIG_DATA_WRITE');
  const size = checkedSize(argsz, getU32(payload, 4), maxBytes, 'MIG_DATA_WRITE');
  if (payload.length < MIG_DATA_BYTES + size) throw badRequest('ERR_VFU_PAYLOAD', `MIG_DATA_WRITE: ${payload.length - MIG_DATA_BYTES} bytes of data, it says ${size}`);
  return payload.subarray(MIG_DATA_BYTES, MIG_DATA_BYTES + size);
}

function checkedSize(argsz: number, size: number, maxBytes: number, name: string): number {
  if (size > maxBytes) throw badRequest('ERR_VFU_RANGE', `${name}: size ${size} is above ${maxBytes}`);
  if (argsz < MIG_DATA_BYTES + size) throw badRequest('ERR_VFU_ARGSZ', `${name}: argsz ${argsz} for a size of ${size}`);
  return size;
}
