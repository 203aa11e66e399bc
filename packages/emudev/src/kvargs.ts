/**
 * The text of a `--vdev` argument, DPDK's kvargs grammar:
 *
 * ```
 * vdev  = name *( "," pair )
 * pair  = [ key [ "=" value ] ]        ; split at the first "="; an empty pair is skipped
 * ```
 *
 * A comma inside `[…]` belongs to the value.
 */
import { EmudevError } from './errors.ts';
import { MAX_ARG_PAIRS, MAX_VDEV_TEXT } from './limits.ts';

/** `value` is undefined where the key stands alone. */
export type KeyValue = readonly [key: string, value: string | undefined];

export interface VdevText {
  readonly name: string;
  readonly pairs: readonly KeyValue[];
}

/** `'emu_iavf0,path=/run/vm0.sock,queues=4'` taken apart. Throws EMUDEV_BAD_ARG. */
export function parseVdev(text: string): VdevText {
  if (text.length > MAX_VDEV_TEXT) throw new EmudevError('EMUDEV_BAD_ARG', `a device argument has at most ${MAX_VDEV_TEXT} characters, not ${text.length}`);
  const [name = '', ...rest] = splitAtCommas(text);
  if (name === '' || name.includes('=')) {
    throw new EmudevError('EMUDEV_BAD_ARG', `a device argument begins with the device's name, as in 'net_tap0,iface=tap0'; got '${text}'`);
  }
  return { name, pairs: pairsOf(rest) };
}

/** The part after the name: `'path=/x,queues=4'`. */
export function parseKvargs(text: string): readonly KeyValue[] {
  return pairsOf(splitAtCommas(text));
}

function pairsOf(parts: readonly string[]): readonly KeyValue[] {
  const pairs = parts.filter((part) => part !== '').map((part): KeyValue => {
    const equals = part.indexOf('=');
    const key = equals === -1 ? part : part.slice(0, equals);
    if (key === '') throw new EmudevError('EMUDEV_BAD_ARG', `'${part}' has a value but no key`);
    return [key, equals === -1 ? undefined : part.slice(equals + 1)];
  });
  if (pairs.length > MAX_ARG_PAIRS) throw new EmudevError('EMUDEV_BAD_ARG', `a device takes at most ${MAX_ARG_PAIRS} arguments, not ${pairs.length}`);
  return pairs;
}

function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '[') depth++;
    else if (c === ']' && depth > 0) depth--;
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (depth > 0) throw new EmudevError('EMUDEV_BAD_ARG', `'${text}' has a '[' without its ']'`);
  parts.push(text.slice(start));
  return parts;
}

/** Splits off the arguments that are meant for somebody else, e.g. a launcher's transport keys. */
export function takeArgs(pairs: readonly KeyValue[], keys: readonly string[]): { taken: readonly KeyValue[]; rest: readonly KeyValue[] } {
  return {
    taken: pairs.filter(([key]) => keys.includes(key)),
    rest: pairs.filter(([key]) => !keys.includes(key)),
  };
}
