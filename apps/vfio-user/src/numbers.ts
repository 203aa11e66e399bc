/** Numbers of the command line: decimal, 0x or 0b, with K, M or G for powers of 1024. */
import { usage } from './exit.ts';

const FORM = /^(0x[0-9a-f]+|0b[01]+|\d+)([kmg])?$/i;
const UNITS: Readonly<Record<string, bigint>> = { k: 1n << 10n, m: 1n << 20n, g: 1n << 30n };

/** Any non-negative number; undefined where the text is none. */
export function tryNumber(text: string): bigint | undefined {
  const parts = FORM.exec(text.replaceAll('_', ''));
  return parts === null ? undefined : BigInt(parts[1]!) * (UNITS[parts[2]?.toLowerCase() ?? ''] ?? 1n);
}

/** An offset or length; `what` names it in the error. */
export function parseSize(text: string, what: string): number {
  const value = tryNumber(text);
  if (value === undefined) throw usage(`${what} "${text}" is no number (1234, 0x4d2, 0b101, 64K)`);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw usage(`${what} ${text} is too large`);
  return Number(value);
}

/** A register's value, little endian in `widthBytes`. Negative numbers are taken as two's complement. */
export function parseValue(text: string, widthBytes: number): Uint8Array {
  const negative = text.startsWith('-');
  const magnitude = tryNumber(negative ? text.slice(1) : text);
  const bits = BigInt(8 * widthBytes);
  if (magnitude === undefined) throw usage(`value "${text}" is no number (1234, 0x4d2, 0b101, 64K)`);
  if (negative ? magnitude > 1n << (bits - 1n) : magnitude >> bits !== 0n) throw usage(`value ${text} does not fit into ${widthBytes} ${widthBytes === 1 ? 'byte' : 'bytes'}`);
  const value = BigInt.asUintN(Number(bits), negative ? -magnitude : magnitude);
  return Uint8Array.from({ length: widthBytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** `0x` and two digits a byte, as registers are usually written. */
export function formatValue(littleEndian: Uint8Array): string {
  return `0x${[...littleEndian].reverse().map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

const SIZE_UNITS: readonly string[] = ['', 'K', 'M', 'G', 'T', 'P'];

/** `64K`; whole units only, so that nothing is rounded. */
export function formatSize(bytes: number): string {
  let size = bytes;
  let unit = 0;
  while (size !== 0 && size % 1024 === 0 && unit < SIZE_UNITS.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${size}${SIZE_UNITS[unit]!}`;
}
