import { EmudevError } from './errors.ts';
import { parseList, type KeyValue } from './kvargs.ts';
import { suggestion } from './nearest.ts';
import { shown } from './shown.ts';
import type { ArgSchema, ArgSpec } from './vdev.ts';

/**
 * Checks `pairs` against `schema`, fills defaults. `who` (a device or driver name) opens every message. Throws EMUDEV_BAD_ARG: an
 * unknown key names the known ones, a bad value says what a good one is.
 */
export function parseArgs<A>(schema: ArgSchema<A>, pairs: readonly KeyValue[], who = 'arguments'): A {
  const specs = schema as Readonly<Record<string, ArgSpec<unknown>>>;
  const values = new Map<string, unknown>();
  for (const [key, text] of pairs) {
    // hasOwn: a key named 'constructor' or '__proto__' is unknown like any other.
    const spec = Object.hasOwn(specs, key) ? specs[key] : undefined;
    if (spec === undefined) {
      const known = Object.keys(specs);
      const list = known.length === 0 ? 'it takes none' : `known: ${known.join(', ')}`;
      throw new EmudevError('EMUDEV_BAD_ARG', `${who}: unknown argument '${shown(key)}'${suggestion(key, known)}; ${list}`);
    }
    if (values.has(key) && spec.merge === undefined) throw new EmudevError('EMUDEV_BAD_ARG', `${who}: argument '${key}' is given twice`);
    try {
      const value = spec.parse(text ?? '');
      values.set(key, values.has(key) ? spec.merge!(values.get(key), value) : value);
    } catch (error) {
      const seen = text === undefined ? `'${key}' has no value` : `${key}=${shown(text)}`;
      throw new EmudevError('EMUDEV_BAD_ARG', `${who}: ${seen}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  for (const [key, spec] of Object.entries(specs)) {
    if (values.has(key)) continue;
    if (spec.default !== undefined) values.set(key, spec.default);
    else if (spec.required === true) throw new EmudevError('EMUDEV_BAD_ARG', `${who}: argument '${key}' is missing: ${key}=${spec.placeholder} (${spec.help})`);
  }
  return Object.fromEntries(values) as A;
}

/** What every ready-made argument takes beside its own settings. */
export interface ArgOptions<T> {
  readonly help: string;
  readonly required?: boolean;
  readonly default?: T;
}

function argSpec<T>(options: ArgOptions<T> & { readonly defaultText?: string | undefined }, placeholder: string, parse: (text: string) => T): ArgSpec<T> {
  return {
    help: options.help,
    placeholder,
    ...(options.required === undefined ? {} : { required: options.required }),
    ...(options.default === undefined ? {} : { default: options.default }),
    ...(options.defaultText === undefined ? {} : { defaultText: options.defaultText }),
    parse,
  };
}

/** A decimal or 0x… integer in [min, max]. */
export function integerArg(options: ArgOptions<number> & { readonly min: number; readonly max: number }): ArgSpec<number> {
  const { min, max } = options;
  return argSpec(options, `${min}..${max}`, (text) => {
    const value = /^(-?\d+|0[xX][\da-fA-F]+)$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new Error(`must be an integer from ${min} to ${max}`);
    return value;
  });
}

/** `on` or `off`; the key alone means on. */
export function onOffArg(options: ArgOptions<boolean>): ArgSpec<boolean> {
  return argSpec(options, 'on|off', (text) => {
    if (text === 'on' || text === '' || text === '1') return true;
    if (text === 'off' || text === '0') return false;
    throw new Error('must be on or off');
  });
}

/** One of a few words. */
export function oneOfArg<const T extends string>(choices: readonly T[], options: ArgOptions<NoInfer<T>>): ArgSpec<T> {
  return argSpec<T>(options, choices.join('|'), (text) => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw new Error(`must be one of ${choices.join(', ')}${suggestion(text, choices)}`);
    return found;
  });
}

/** A unicast MAC address, six bytes. All zeros is refused: leave the argument out instead. */
export function macArg(options: ArgOptions<Uint8Array>): ArgSpec<Uint8Array> {
  return argSpec(options, 'XX:XX:XX:XX:XX:XX', (text) => {
    const bytes = /^[\da-fA-F]{2}(:[\da-fA-F]{2}){5}$/.test(text) ? Uint8Array.from(text.split(':'), (hex) => Number.parseInt(hex, 16)) : undefined;
    if (bytes === undefined) throw new Error('must be six bytes as in 52:54:00:12:34:56');
    if ((bytes[0]! & 1) !== 0) throw new Error('is a multicast address (lowest bit of the first byte is set)');
    if (bytes.every((byte) => byte === 0)) throw new Error('is the zero address');
    return bytes;
  });
}

/** A file-system path, as given. */
export function pathArg(options: ArgOptions<string>): ArgSpec<string> {
  return argSpec(options, 'PATH', (text) => {
    if (text === '' || text.includes('\0')) throw new Error('must be a path');
    return text;
  });
}

/** Any text that is not empty. */
export function stringArg(options: ArgOptions<string> & { readonly placeholder?: string }): ArgSpec<string> {
  return argSpec(options, options.placeholder ?? 'TEXT', (text) => {
    if (text === '') throw new Error('must not be empty');
    return text;
  });
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** 1048576 is 1M. */
function sizeText(bytes: number): string {
  const [unit, factor] = Object.entries(SIZE_UNITS).findLast(([, n]) => bytes >= n && bytes % n === 0) ?? ['', 1];
  return `${bytes / factor}${unit === 'k' ? unit : unit.toUpperCase()}`;
}

/** Bytes, with k, M or G for powers of 1024. */
export function sizeArg(options: ArgOptions<number> & { readonly min?: number; readonly max?: number }): ArgSpec<number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = options;
  return argSpec({ ...options, defaultText: options.default === undefined ? undefined : sizeText(options.default) }, 'SIZE[k|M|G]', (text) => {
    const match = /^(\d+)([kKmMgG]?)$/.exec(text);
    const value = match === null ? Number.NaN : Number(match[1]) * SIZE_UNITS[match[2]!.toLowerCase()]!;
    if (!(value >= min && value <= max)) throw new Error(`must be a size in bytes from ${min} to ${max}, as in 4096, 64k, 2M or 1G`);
    return value;
  });
}

/**
 * Several values of one kind: `k=[a,b]`, `k=a`, or the key again (`k=a,k=b`), in their order. `element` says what one is; its own
 * `required` and `default` mean nothing here.
 */
export function listArg<T>(element: ArgSpec<T>, options: ArgOptions<readonly T[]> & { readonly max: number }): ArgSpec<readonly T[]> {
  const bounded = (values: readonly T[]): readonly T[] => {
    if (values.length === 0 || values.length > options.max) throw new Error(`must be a list of 1 to ${options.max}, as in [${element.placeholder},…]`);
    return values;
  };
  return {
    ...argSpec<readonly T[]>(options, `${element.placeholder}|[${element.placeholder},…]`, (text) => bounded(parseList(text).map((each) => element.parse(each)))),
    merge: (earlier, later) => bounded([...earlier, ...later]),
  };
}
