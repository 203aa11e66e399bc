/**
 * Which devices a program wants, as DPDK's command line says it: `-a ADDRESS[,key=value…]` allows, `-b ADDRESS` blocks, and there is one
 * kind of list at a time. An entry may also be written `bus=pci,addr=ADDRESS[,key=value…]`.
 */
import { parseKvargs } from '@emudev/emudev';
import type { KeyValue } from '@emudev/emudev';
import { formatAddress, parseAddress } from './address.ts';
import type { PciAddress } from './address.ts';
import { BusError, quoted } from './errors.ts';
import { MAX_SELECTORS, MAX_SELECTOR_TEXT } from './limits.ts';

/** An entry of an allow list: a device, and what its driver is told. */
export interface Selector {
  readonly address: PciAddress;
  /** In the order given; a key may come again. */
  readonly args: readonly KeyValue[];
}

/** `ADDRESS[,key=value…]` or `bus=pci,addr=ADDRESS[,key=value…]`. Throws ERR_BUS_SELECTION, ERR_BUS_ADDRESS. */
export function parseSelector(text: string): Selector {
  if (text.length > MAX_SELECTOR_TEXT) throw new BusError('ERR_BUS_SELECTION', `a selector has at most ${MAX_SELECTOR_TEXT} characters, not ${text.length}`);
  if (text.startsWith('bus=')) return layered(text);
  // A path with a comma cannot be written here: DPDK's grammar has no quotes.
  const comma = text.indexOf(',');
  return { address: parseAddress(comma === -1 ? text : text.slice(0, comma)), args: comma === -1 ? [] : pairsOf(text, text.slice(comma + 1)) };
}

function layered(text: string): Selector {
  const [[, bus], ...rest] = pairsOf(text, text) as [KeyValue, ...KeyValue[]];
  if (bus !== 'pci') throw new BusError('ERR_BUS_SELECTION', `bus ${quoted(bus ?? '')} in ${quoted(text)}: this is the bus pci`);
  const addresses = rest.filter(([key]) => key === 'addr');
  if (addresses.length !== 1) throw new BusError('ERR_BUS_SELECTION', `${quoted(text)} has ${addresses.length} keys addr, one is needed`);
  return { address: parseAddress(addresses[0]![1] ?? ''), args: rest.filter(([key]) => key !== 'addr') };
}

function pairsOf(text: string, pairs: string): readonly KeyValue[] {
  try {
    return parseKvargs(pairs);
  } catch (cause) {
    throw new BusError('ERR_BUS_SELECTION', `${quoted(text)}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** What `Selection.parse` takes: the values of `-a` and `-b`. */
export interface SelectionText {
  readonly allow?: readonly string[];
  readonly block?: readonly string[];
}

/** An allow list, a block list, or neither: then every device is wanted. */
export class Selection {
  /** By the address's one text form. */
  readonly #listed: ReadonlyMap<string, Selector>;
  readonly #allows: boolean;

  /** Throws ERR_BUS_SELECTION where both lists are given, a device is listed twice, or a blocked one has arguments; ERR_BUS_ADDRESS. */
  static parse({ allow = [], block = [] }: SelectionText): Selection {
    if (allow.length > 0 && block.length > 0) throw new BusError('ERR_BUS_SELECTION', `devices are allowed (${quoted(allow[0]!)}) and blocked (${quoted(block[0]!)}): give one kind of list`);
    const texts = [...allow, ...block];
    if (texts.length > MAX_SELECTORS) throw new BusError('ERR_BUS_SELECTION', `${texts.length} entries; at most ${MAX_SELECTORS} are taken`);
    const listed = new Map<string, Selector>();
    for (const text of texts) {
      const selector = parseSelector(text);
      const key = formatAddress(selector.address);
      if (listed.has(key)) throw new BusError('ERR_BUS_SELECTION', `${quoted(text)}: ${key} is listed twice`);
      if (block.length > 0 && selector.args.length > 0) throw new BusError('ERR_BUS_SELECTION', `${quoted(text)}: a device that is blocked takes no arguments`);
      listed.set(key, selector);
    }
    return new Selection(listed, allow.length > 0);
  }

  private constructor(listed: ReadonlyMap<string, Selector>, allows: boolean) {
    this.#listed = listed;
    this.#allows = allows;
  }

  /** The devices of an allow list, in the order given; none otherwise. */
  get allowed(): readonly Selector[] {
    return this.#allows ? [...this.#listed.values()] : [];
  }

  /** The device's selector if it is wanted (without arguments where it is not listed), else undefined. */
  of(address: PciAddress): Selector | undefined {
    const listed = this.#listed.get(formatAddress(address));
    if (this.#allows) return listed;
    return listed === undefined ? { address, args: [] } : undefined;
  }
}
