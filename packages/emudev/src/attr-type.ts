/**
 * What the values of an attribute look like, in a program and as text: telemetry prints them with `format`, a command line reads them
 * with `parse`, and no provider is asked to set a value that its type does not allow.
 */
import type { Attribute, AttrKey } from './device.ts';
import { suggestion } from './nearest.ts';

/** A kind of value. For every value that passes `check`: `parse(format(value))` equals it. */
export interface AttrType<T> {
  /** How a good value looks: '1..16', 'on|off', 'XX:XX:XX:XX:XX:XX'. */
  readonly placeholder: string;
  /** The text form of a value that passes `check`. */
  format(value: T): string;
  /** Throws an Error whose message says what a good text is. */
  parse(text: string): T;
  /** Throws an Error whose message says what a good value is. */
  check(value: unknown): void;
}

function attrType<T>(placeholder: string, isValue: (value: unknown) => boolean, must: string, format: (value: T) => string, parse: (text: string) => T | undefined): AttrType<T> {
  return {
    placeholder,
    format,
    parse(text) {
      const value = parse(text);
      if (value === undefined || !isValue(value)) throw new Error(`'${text}' must be ${must}`);
      return value;
    },
    check(value) {
      if (!isValue(value)) throw new Error(`expected ${must}`);
    },
  };
}

/** An integer of [min, max], within ±2⁵³; as text decimal, or 0x… when it is read. */
export function integerAttr(options: { readonly min: number; readonly max: number }): AttrType<number> {
  const { min, max } = options;
  return attrType<number>(
    `${min}..${max}`,
    (value) => Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max,
    `an integer from ${min} to ${max}`,
    String,
    // -0 and 0 are one number, with one text.
    (text) => (/^(-?\d+|0[xX][\da-fA-F]+)$/.test(text) ? Number(text) + 0 : undefined),
  );
}

/** A boolean, as text `on` or `off`. */
export function onOffAttr(): AttrType<boolean> {
  return attrType<boolean>('on|off', (value) => typeof value === 'boolean', 'a boolean: on or off', (value) => (value ? 'on' : 'off'), (text) => (text === 'on' ? true : text === 'off' ? false : undefined));
}

/** Text, of at most `maxLength` characters (256 by default); its text form is itself. */
export function stringAttr(options: { readonly maxLength?: number } = {}): AttrType<string> {
  const { maxLength = 256 } = options;
  return attrType<string>('TEXT', (value) => typeof value === 'string' && value.length <= maxLength, `text of at most ${maxLength} characters`, (value) => value, (text) => text);
}

/** One of a few words. */
export function oneOfAttr<const T extends string>(words: readonly T[]): AttrType<T> {
  const isWord = (value: unknown): boolean => words.some((word) => word === value);
  const type = attrType<T>(words.join('|'), isWord, `one of ${words.join(', ')}`, (value) => value, (text) => text as T);
  return {
    ...type,
    parse(text) {
      if (!isWord(text)) throw new Error(`'${text}' must be one of ${words.join(', ')}${suggestion(text, words)}`);
      return text as T;
    },
  };
}

/** A unicast MAC address, six bytes; as text 52:54:00:12:34:56. */
export function macAttr(): AttrType<Uint8Array> {
  return attrType<Uint8Array>(
    'XX:XX:XX:XX:XX:XX',
    (value) => value instanceof Uint8Array && value.length === 6 && (value[0]! & 1) === 0,
    'a unicast address of six bytes, as in 52:54:00:12:34:56',
    (value) => Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(':'),
    (text) => (/^[\da-fA-F]{2}(:[\da-fA-F]{2}){5}$/.test(text) ? Uint8Array.from(text.split(':'), (hex) => Number.parseInt(hex, 16)) : undefined),
  );
}

/** Anything JSON can say, of the shape that `isValue` accepts and `shape` describes: `{"up":true,"speedMbps":100000}`. */
export function jsonAttr<T>(isValue: (value: unknown) => boolean, shape: string): AttrType<T> {
  return attrType<T>(shape, isValue, `JSON of the form ${shape}`, (value) => JSON.stringify(value), (text) => {
    try {
      return JSON.parse(text) as T;
    } catch {
      return undefined;
    }
  });
}

/**
 * An entry of `EmudevProvider.attributes`: `new Map([attribute(COLOUR, { get: () => colour, set: (value) => { colour = value; } })])`.
 * Without `set` it is read only; `type` narrows what the key allows, e.g. to what this device has.
 */
export function attribute<T>(key: AttrKey<T>, access: { get(): T; set?(value: T): void }, type: AttrType<T> | undefined = key.type): [string, Attribute] {
  const { set } = access;
  return [key.name, {
    ...(type === undefined ? {} : { type: type as AttrType<unknown> }),
    get: () => access.get(),
    ...(set === undefined ? {} : { set: (value: unknown) => { set.call(access, value as T); } }),
  }];
}
