/**
 * Little-endian loads and stores on a Uint8Array. Byte arithmetic instead of a DataView: no object per message.
 * The loads do not check bounds; decoders check the length of what they are given first.
 */
import { badRequest } from './errors.ts';

const HIGH = 0x1_0000_0000;
/** High word of 2^53. */
const HIGH_LIMIT = 0x20_0000;

export function getU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function getU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** A u64 that has to be below 2^53 to make sense (an offset in a region or file, a size); throws ERR_VFU_RANGE otherwise. */
export function getU53(bytes: Uint8Array, at: number): number {
  const high = getU32(bytes, at + 4);
  if (high >= HIGH_LIMIT) throw badRequest('ERR_VFU_RANGE', `64-bit value 0x${getU64(bytes, at).toString(16)} is not below 2^53`);
  return high * HIGH + getU32(bytes, at);
}

export function getU64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(getU32(bytes, at + 4)) << 32n) | BigInt(getU32(bytes, at));
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** `value` is an integer in [0, 2^53). */
export function putU53(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, value % HIGH);
  putU32(bytes, at + 4, Math.floor(value / HIGH));
}

export function putU64(bytes: Uint8Array, at: number, value: bigint): void {
  putU32(bytes, at, Number(value & 0xffff_ffffn));
  putU32(bytes, at + 4, Number((value >> 32n) & 0xffff_ffffn));
}
