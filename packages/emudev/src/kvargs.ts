/**
 * The text of a `--vdev` argument, DPDK's kvargs grammar:
 *
 * ```
 * vdev  = name *( "," pair )           ; the name ends at the first comma
 * pair  = [ key [ "=" value ] ]        ; split at the first "="; an empty pair is skipped
 * value = *( character / list )
 * list  = "[" *( character / "," / list ) "]"
 * ```
 *
 * A comma inside `[…]` belongs to the value. There are no quotes and no escapes, and a space is a character like others. A key may
 * come again: whether that is a list or a mistake is for whoever reads the pairs. Where DPDK's reader is odd ours is plain: brackets
 * nest, a `[` that is never closed is refused, and a value may contain `=`.
 */
import { EmudevError } from './errors.ts';
import { MAX_ARG_PAIRS, MAX_DEVICE_NAME, MAX_VDEV_TEXT } from './limits.ts';
import { shown } from './shown.ts';

/** `value` is undefined where the key stands alone. */
export type KeyValue = readonly [key: string, value: string | undefined];

/** A device argument taken apart. */
export interface VdevText {
  readonly name: string;
  readonly pairs: readonly KeyValue[];
}

/** `'emu_iavf0,path=/run/vm0.sock,queues=4'` taken apart. Throws EMUDEV_BAD_ARG. */
export function parseVdev(text: string): VdevText {
  if (text.length > MAX_VDEV_TEXT) throw new EmudevError('EMUDEV_BAD_ARG', `a device argument has at most ${MAX_VDEV_TEXT} characters, not ${text.length}`);
  // The name ends at the first comma, whatever it contains: brackets mean something in values only.
  const comma = text.indexOf(',');
  const name = comma === -1 ? text : text.slice(0, comma);
  if (name === '' || name.includes('=')) {
    throw new EmudevError('EMUDEV_BAD_ARG', `a device argument begins with the device's name, as in 'net_tap0,iface=tap0'; got '${shown(text)}'`);
  }
  checkDeviceName(name);
  return { name, pairs: comma === -1 ? [] : pairsOf(splitAtCommas(text.slice(comma + 1))) };
}

/** The text that `parseVdev` takes apart to this. EMUDEV_BAD_ARG for what no text stands for: the grammar has no quotes. */
export function formatVdev(vdev: VdevText): string {
  const text = [vdev.name, ...vdev.pairs.map(pairText)].join(',');
  const { name, pairs } = parseVdev(text);
  const differs = vdev.pairs.findIndex(([key, value], at) => pairs[at]?.[0] !== key || pairs[at][1] !== value);
  if (name !== vdev.name) throw new EmudevError('EMUDEV_BAD_ARG', `a device name cannot be '${shown(vdev.name)}'`);
  if (differs !== -1 || pairs.length !== vdev.pairs.length) {
    throw new EmudevError('EMUDEV_BAD_ARG', `the argument '${shown(pairText(vdev.pairs[Math.max(0, differs)]!))}' cannot be written: a comma stands only between '[' and ']', a key has no '='`);
  }
  return text;
}

const pairText = ([key, value]: KeyValue): string => (value === undefined ? key : `${key}=${value}`);

/** Letters, digits, `_ . : -`, at most 64: a name appears in log lines, in paths and on command lines. Throws EMUDEV_BAD_ARG. */
export function checkDeviceName(name: string): void {
  if (/^[\w.:-]+$/.test(name) && name.length <= MAX_DEVICE_NAME) return;
  throw new EmudevError('EMUDEV_BAD_ARG', `a device name is 1..${MAX_DEVICE_NAME} letters, digits, '_', '.', ':' or '-', not '${shown(name)}'`);
}

/** `'[a,b]'` → `['a', 'b']`, `'a'` → `['a']`, `'[]'` → `[]`. Inner lists stay text. Throws EMUDEV_BAD_ARG. */
export function parseList(text: string): readonly string[] {
  if (!text.startsWith('[')) return [text];
  const inner = text.slice(1, -1);
  const elements = text.endsWith(']') ? splitAtCommas(inner) : [];
  // '[a],[b]' begins and ends right, too.
  if (!text.endsWith(']') || !isBalanced(inner)) throw new EmudevError('EMUDEV_BAD_ARG', `'${shown(text)}' is not a list as in [a,b]`);
  return inner === '' ? [] : elements;
}

/** The part after the name: `'path=/x,queues=4'`. */
export function parseKvargs(text: string): readonly KeyValue[] {
  return pairsOf(splitAtCommas(text));
}

function pairsOf(parts: readonly string[]): readonly KeyValue[] {
  const pairs = parts.filter((part) => part !== '').map((part): KeyValue => {
    const equals = part.indexOf('=');
    const key = equals === -1 ? part : part.slice(0, equals);
    if (key === '') throw new EmudevError('EMUDEV_BAD_ARG', `'${shown(part)}' has a value but no key`);
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
  if (depth > 0) throw new EmudevError('EMUDEV_BAD_ARG', `'${shown(text)}' has a '[' without its ']'`);
  parts.push(text.slice(start));
  return parts;
}

/** No ']' comes before its '['. */
function isBalanced(text: string): boolean {
  let depth = 0;
  for (const c of text) {
    if (c === '[') depth++;
    else if (c === ']' && --depth < 0) return false;
  }
  return depth === 0;
}

/** Splits off the arguments that are meant for somebody else, e.g. a launcher's transport keys. */
export function takeArgs(pairs: readonly KeyValue[], keys: readonly string[]): { taken: readonly KeyValue[]; rest: readonly KeyValue[] } {
  return {
    taken: pairs.filter(([key]) => keys.includes(key)),
    rest: pairs.filter(([key]) => !keys.includes(key)),
  };
}
