/**
 * Names of registers, from JSON:
 *
 * ```json
 * { "devices": [ {
 *   "name": "a card",
 *   "match": ["1234:5678"],
 *   "regions": { "BAR0": [
 *     { "name": "CTRL", "offset": "0x10", "fields": [ { "name": "ENABLE", "bits": 0 }, { "name": "MODE", "bits": [4, 2], "values": { "1": "fast" } } ] },
 *     { "name": "QUEUE", "offset": 256, "size": 4, "count": 16, "stride": 8 }
 *   ] }
 * } ] }
 * ```
 *
 * `match`: vendor:device in hexadecimal; without it the device matches all. `size` (1, 2, 3, 4 or 8 bytes) is 4, `count` 1, `stride` the
 * size unless given. `bits` is one bit, or the highest and the lowest. Numbers may be written as strings, also hexadecimal.
 */
import { readFileSync, statSync } from 'node:fs';
import { MAX_DICTIONARY_BYTES, MAX_REGISTER_COUNT } from '../limits.ts';

/** A dictionary that cannot be used: `path` leads to what is wrong with it. */
export class DictionaryError extends Error {
  override readonly name = 'DictionaryError';
  readonly code = 'ERR_DICTIONARY';
  readonly path: string;
  constructor(path: string, message: string) {
    super(`${path}: ${message}`);
    this.path = path;
  }
}

export interface BitField {
  readonly name: string;
  readonly high: number;
  readonly low: number;
  /** Names of values. */
  readonly values: ReadonlyMap<bigint, string>;
}

export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly count: number;
  readonly strideBytes: number;
  readonly fields: readonly BitField[];
}

export interface DeviceDictionary {
  readonly name: string;
  /** 'vendor:device', four lower-case digits each; empty: any. */
  readonly match: readonly string[];
  /** By region index; sorted by offset. */
  readonly regions: ReadonlyMap<number, readonly Register[]>;
}

const REGIONS = ['BAR0', 'BAR1', 'BAR2', 'BAR3', 'BAR4', 'BAR5', 'ROM', 'CONFIG', 'VGA'];
const SIZES = [1, 2, 3, 4, 8];

/** @throws DictionaryError for a file that is not one, LinuxError's kin (ENOENT, …) for one that cannot be read */
export function readDictionary(file: string): DeviceDictionary[] {
  if (statSync(file).size > MAX_DICTIONARY_BYTES) throw new DictionaryError(file, `larger than ${MAX_DICTIONARY_BYTES} bytes`);
  const text = readFileSync(file, 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new DictionaryError(file, `this is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseDictionary(value, file);
}

/** `name` begins the paths of errors. */
export function parseDictionary(value: unknown, name: string): DeviceDictionary[] {
  const root = object(value, name, ['devices']);
  return list(root['devices'], `${name}: devices`).map((device, i) => parseDevice(device, `${name}: devices[${i}]`));
}

function parseDevice(value: unknown, path: string): DeviceDictionary {
  const device = object(value, path, ['name', 'match', 'regions']);
  const match = device['match'] === undefined ? [] : list(device['match'], `${path}.match`).map((id, i) => {
    if (typeof id !== 'string' || !/^[0-9a-f]{4}:[0-9a-f]{4}$/i.test(id)) throw new DictionaryError(`${path}.match[${i}]`, `"vendor:device" of four hexadecimal digits each, not ${shown(id)}`);
    return id.toLowerCase();
  });
  const regions = new Map<number, readonly Register[]>();
  for (const [region, registers] of Object.entries(object(device['regions'], `${path}.regions`))) {
    const index = REGIONS.indexOf(region.toUpperCase());
    if (index < 0) throw new DictionaryError(`${path}.regions`, `no region is called ${shown(region)}; there are ${REGIONS.join(', ')}`);
    if (regions.has(index)) throw new DictionaryError(`${path}.regions`, `${REGIONS[index]!} is there twice`);
    regions.set(index, parseRegisters(registers, `${path}.regions.${region}`));
  }
  return { name: text(device['name'], `${path}.name`), match, regions };
}

function parseRegisters(value: unknown, path: string): Register[] {
  const registers = list(value, path).map((register, i) => parseRegister(register, `${path}[${i}]`));
  registers.sort((a, b) => a.offset - b.offset);
  for (const [i, register] of registers.entries()) {
    const before = registers[i - 1];
    if (before !== undefined && endOf(before) > register.offset) throw new DictionaryError(path, `${before.name} and ${register.name} overlap at 0x${register.offset.toString(16)}`);
  }
  return registers;
}

function endOf(register: Register): number {
  return register.offset + register.strideBytes * (register.count - 1) + register.sizeBytes;
}

function parseRegister(value: unknown, path: string): Register {
  const register = object(value, path, ['name', 'offset', 'size', 'count', 'stride', 'fields']);
  const sizeBytes = register['size'] === undefined ? 4 : number(register['size'], `${path}.size`, 1, 8);
  if (!SIZES.includes(sizeBytes)) throw new DictionaryError(`${path}.size`, `one of ${SIZES.join(', ')} bytes, not ${sizeBytes}`);
  const count = register['count'] === undefined ? 1 : number(register['count'], `${path}.count`, 1, MAX_REGISTER_COUNT);
  const fields = register['fields'] === undefined ? [] : list(register['fields'], `${path}.fields`).map((field, i) => parseField(field, `${path}.fields[${i}]`, sizeBytes));
  return {
    name: text(register['name'], `${path}.name`), offset: number(register['offset'], `${path}.offset`, 0, Number.MAX_SAFE_INTEGER / 2), sizeBytes, count,
    strideBytes: register['stride'] === undefined ? sizeBytes : number(register['stride'], `${path}.stride`, sizeBytes, 2 ** 32), fields,
  };
}

function parseField(value: unknown, path: string, sizeBytes: number): BitField {
  const field = object(value, path, ['name', 'bits', 'values']);
  const top = 8 * sizeBytes - 1;
  const bits = Array.isArray(field['bits']) ? (field['bits'] as unknown[]) : [field['bits'], field['bits']];
  if (bits.length !== 2) throw new DictionaryError(`${path}.bits`, 'one bit, or the highest and the lowest');
  const [high, low] = [number(bits[0], `${path}.bits`, 0, top), number(bits[1], `${path}.bits`, 0, top)];
  if (high < low) throw new DictionaryError(`${path}.bits`, `the highest bit comes first, not [${high}, ${low}]`);
  const values = Object.entries(field['values'] === undefined ? {} : object(field['values'], `${path}.values`))
    .map(([key, name]) => [BigInt(number(key, `${path}.values`, 0, Number.MAX_SAFE_INTEGER)), text(name, `${path}.values.${key}`)] as const);
  return { name: text(field['name'], `${path}.name`), high, low, values: new Map(values) };
}

function object(value: unknown, path: string, keys?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new DictionaryError(path, `an object is wanted, not ${shown(value)}`);
  const odd = keys === undefined ? undefined : Object.keys(value).find((key) => !keys.includes(key));
  if (odd !== undefined) throw new DictionaryError(path, `${shown(odd)} means nothing here; there are ${keys!.join(', ')}`);
  return value as Readonly<Record<string, unknown>>;
}

const MAX_SHOWN_CHARS = 64;

/** What stands there instead: a list or an object may be nested deeper than the stack allows JSON.stringify to go. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (typeof value === 'object') return Array.isArray(value) ? 'a list' : 'an object';
  return typeof value === 'string' ? JSON.stringify(value.slice(0, MAX_SHOWN_CHARS)) : String(value as number | boolean);
}

function list(value: unknown, path: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new DictionaryError(path, 'a list is wanted');
  return value;
}

function text(value: unknown, path: string): string {
  if (typeof value !== 'string' || !/^[\x20-\x7e]{1,64}$/.test(value)) throw new DictionaryError(path, 'a name of 1 to 64 printable ASCII characters is wanted');
  return value;
}

function number(value: unknown, path: string, min: number, max: number): number {
  const n = typeof value === 'number' ? value : typeof value === 'string' && /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : NaN;
  if (!Number.isSafeInteger(n) || n < min || n > max) throw new DictionaryError(path, `a number within ${min}..${max} is wanted, not ${shown(value)}`);
  return n;
}

/** The registers of the device that a session talks to. */
export class RegisterNames {
  readonly #devices: readonly DeviceDictionary[];
  readonly #config: readonly Register[];

  /** `config`: registers of every configuration space, which a device's own take precedence over. */
  constructor(devices: readonly DeviceDictionary[], config: readonly Register[]) {
    this.#devices = devices;
    this.#config = config;
  }

  /** Ids that are not known yet mean the only device there is. */
  deviceOf(vendor: number | undefined, device: number | undefined): DeviceDictionary | undefined {
    if (vendor === undefined || device === undefined) return this.#devices.length === 1 ? this.#devices[0] : undefined;
    const id = `${vendor.toString(16).padStart(4, '0')}:${device.toString(16).padStart(4, '0')}`;
    return this.#devices.find(({ match }) => match.includes(id)) ?? this.#devices.find(({ match }) => match.length === 0);
  }

  /** 'CTRL', 'QUEUE[3]', 'CTRL+2' within it, 'A..B' over several; undefined where nothing is known. */
  nameOf(device: DeviceDictionary | undefined, region: number, offset: number, bytes: number): string | undefined {
    const first = this.#find(device, region, offset);
    if (first === undefined) return undefined;
    if (bytes <= remaining(first, offset)) return instanceName(first, offset);
    if (bytes > 8) return undefined;
    const last = this.#find(device, region, offset + bytes - 1);
    return last === undefined ? instanceName(first, offset) : `${instanceName(first, offset)}..${instanceName(last, instanceOffset(last, offset + bytes - 1))}`;
  }

  /** 'ENABLE MODE=fast', for an access to exactly one register with fields; undefined otherwise. */
  valueOf(device: DeviceDictionary | undefined, region: number, offset: number, data: Uint8Array): string | undefined {
    const register = this.#find(device, region, offset);
    if (register === undefined || register.fields.length === 0 || instanceOffset(register, offset) !== offset || data.length !== register.sizeBytes) return undefined;
    let value = 0n;
    for (let i = data.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i]!);
    const parts: string[] = [];
    for (const { name, high, low, values } of register.fields) {
      const field = (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
      const named = values.get(field);
      if (named !== undefined) parts.push(`${name}=${named}`);
      else if (field !== 0n) parts.push(high === low ? name : `${name}=${field}`);
    }
    return parts.join(' ');
  }

  #find(device: DeviceDictionary | undefined, region: number, offset: number): Register | undefined {
    return find(device?.regions.get(region) ?? [], offset) ?? (region === CONFIG ? find(this.#config, offset) : undefined);
  }
}

const CONFIG = 7;

function find(registers: readonly Register[], offset: number): Register | undefined {
  let low = 0;
  let high = registers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (registers[middle]!.offset <= offset) low = middle + 1;
    else high = middle;
  }
  const register = registers[low - 1];
  if (register === undefined) return undefined;
  const within = (offset - register.offset) % register.strideBytes;
  return (offset - register.offset) / register.strideBytes < register.count && within < register.sizeBytes ? register : undefined;
}

function instanceOffset(register: Register, offset: number): number {
  return offset - ((offset - register.offset) % register.strideBytes);
}

function remaining(register: Register, offset: number): number {
  return register.sizeBytes - (offset - instanceOffset(register, offset));
}

function instanceName(register: Register, offset: number): string {
  const at = instanceOffset(register, offset);
  const name = register.count === 1 ? register.name : `${register.name}[${(at - register.offset) / register.strideBytes}]`;
  return at === offset ? name : `${name}+${offset - at}`;
}
