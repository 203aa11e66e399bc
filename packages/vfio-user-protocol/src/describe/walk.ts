/** Walks along a payload and notes down what it meets. Lenient: what was read before a payload ends too early stays noted. */
import { getU16, getU32, getU64 } from '../bytes.ts';
import { dataText, flagNames, hex } from './values.ts';

/** A field as text: flags by name, addresses in hexadecimal; printable ASCII. */
export interface DescribedField {
  readonly name: string;
  readonly value: string;
}

/** Ends a walk; `describeMessage` turns it into `malformed`. */
export class Malformed extends Error {}

const decimal = (value: number | bigint): string => value.toString();

export class PayloadWalk {
  readonly payload: Uint8Array;
  readonly fields: DescribedField[] = [];
  readonly maxDataBytes: number;
  readonly maxListed: number;
  at = 0;

  constructor(payload: Uint8Array, maxDataBytes: number, maxListed: number) {
    this.payload = payload;
    this.maxDataBytes = maxDataBytes;
    this.maxListed = maxListed;
  }

  get left(): number {
    return this.payload.length - this.at;
  }

  note(name: string, value: string): void {
    this.fields.push({ name, value });
  }

  skip(bytes: number, name: string): number {
    if (this.left < bytes) throw new Malformed(`the payload of ${this.payload.length} bytes ends before ${name}, which has ${bytes} bytes at ${this.at}`);
    const at = this.at;
    this.at += bytes;
    return at;
  }

  u16(name: string, text: (value: number) => string = decimal): number {
    const value = getU16(this.payload, this.skip(2, name));
    this.note(name, text(value));
    return value;
  }

  u32(name: string, text: (value: number) => string = decimal): number {
    const value = getU32(this.payload, this.skip(4, name));
    this.note(name, text(value));
    return value;
  }

  flags(name: string, names: Parameters<typeof flagNames>[1]): number {
    return this.u32(name, (value) => flagNames(value, names));
  }

  u64(name: string, text: (value: bigint) => string = hex): bigint {
    const value = getU64(this.payload, this.skip(8, name));
    this.note(name, text(value));
    return value;
  }

  /** A field that is zero in everything but odd messages: noted only then. */
  reserved(name: string, bytes: 4 | 8 = 4): void {
    const at = this.skip(bytes, name);
    const value = bytes === 4 ? getU32(this.payload, at) : getU64(this.payload, at);
    if (value !== 0 && value !== 0n) this.note(name, hex(value));
  }

  /** `count` bytes of data; where fewer are left, those, and the walk ends. */
  data(name: string, count: number | bigint): void {
    const bytes = count > this.left ? this.left : Number(count);
    this.note(name, dataText(this.payload.subarray(this.at, this.at + bytes), this.maxDataBytes));
    this.at += bytes;
    if (bytes < count) throw new Malformed(`${bytes} bytes of ${name}, ${count} are announced`);
  }

  /** `count` entries of `bytes` each: the first ones by `entry`, then how many more there are. */
  list(count: number | bigint, bytes: number, what: string, entry: (at: number, index: number) => void): void {
    const whole = Math.floor(this.left / bytes);
    const present = count > whole ? whole : Number(count);
    const start = this.at;
    for (let i = 0; i < Math.min(present, this.maxListed); i++) entry(start + bytes * i, i);
    if (present > this.maxListed) this.note('more', `${present - this.maxListed} ${what}`);
    this.at = start + bytes * present;
    if (present < count) throw new Malformed(`${present} ${what}, ${count} are announced`);
  }
}
