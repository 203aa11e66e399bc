/** The kernel's announcements of devices (lib/kobject_uevent.c of Linux): `ACTION@DEVPATH` and `KEY=VALUE`s, each ended by a zero byte. */
import { parsePciFunction, parseUuid } from '../address.ts';
import type { PciAddress } from '../address.ts';
import type { HotPlugEvent } from '../device-source.ts';

/** `add` comes before a driver has the device: only `bind` makes it one that can be opened. */
const KINDS: ReadonlyMap<string, HotPlugEvent['kind']> = new Map([['add', 'changed'], ['change', 'changed'], ['bind', 'added'], ['unbind', 'changed'], ['remove', 'removed']]);

/** What a message says about PCI functions and mediated devices; undefined for everything else. */
export function parseUevent(message: string): HotPlugEvent | undefined {
  const [header, ...pairs] = message.split('\0');
  const match = /^([a-z]+)@(\/.*)$/s.exec(header!);
  const kind = KINDS.get(match?.[1] ?? '');
  if (match === null || kind === undefined) return undefined;
  const value = (key: string): string | undefined => pairs.find((pair) => pair.startsWith(`${key}=`))?.slice(key.length + 1);
  // A parent of mediated devices: which ones it is about they say themselves, one by one.
  if (value('MDEV_STATE') !== undefined) return { kind: 'changed' };
  const address = addressOf(value('SUBSYSTEM'), match[2]!.slice(match[2]!.lastIndexOf('/') + 1));
  return address === undefined ? undefined : { kind, address };
}

function addressOf(subsystem: string | undefined, name: string): PciAddress | undefined {
  try {
    if (subsystem === 'pci') return parsePciFunction(name);
    if (subsystem === 'mdev') return { kind: 'mdev', uuid: parseUuid(name) };
  } catch {
    // Not a device's name.
  }
  return undefined;
}
