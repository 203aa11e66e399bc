/**
 * Where a device is: a PCI function of the kernel, a mediated device, a vfio-user socket.
 *
 * ```
 * address = [ "pci:" ] [ domain ":" ] bus ":" device "." function    ; hexadecimal, domain 0 unless given
 *         | [ "mdev:" ] uuid                                         ; RFC 4122, 36 characters
 *         | "vfio-user:" path | path                                 ; a bare path contains a "/"
 * ```
 */
import { BusError, quoted } from './errors.ts';
import { MAX_SELECTOR_TEXT, MAX_SOCKET_PATH_BYTES } from './limits.ts';

/** A PCI function: domain up to 32 bits, bus 8, device 5, function 3; with ARI the function has all 8 bits and the device is 0. */
export interface PciFunctionAddress {
  readonly kind: 'pci';
  readonly domain: number;
  readonly bus: number;
  readonly device: number;
  readonly function: number;
}

/** A mediated device; `uuid` in lower case, as the kernel prints it. */
export interface MdevAddress {
  readonly kind: 'mdev';
  readonly uuid: string;
}

/** A device behind a vfio-user socket. */
export interface VfioUserAddress {
  readonly kind: 'vfio-user';
  readonly path: string;
}

/** Where a device of any kind is. */
export type PciAddress = PciFunctionAddress | MdevAddress | VfioUserAddress;

/** Kinds in the order in which a list of devices is sorted. */
export const ADDRESS_KINDS: readonly PciAddress['kind'][] = ['pci', 'mdev', 'vfio-user'];

const BDF = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f]{1,2})$/i;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Reads any of the forms above. Throws ERR_BUS_ADDRESS, which quotes what is wrong. */
export function parseAddress(text: string): PciAddress {
  if (text.length > MAX_SELECTOR_TEXT) throw new BusError('ERR_BUS_ADDRESS', `an address has at most ${MAX_SELECTOR_TEXT} characters, not ${text.length}`);
  if (text.startsWith('pci:')) return parsePciFunction(text.slice(4));
  if (text.startsWith('mdev:')) return { kind: 'mdev', uuid: parseUuid(text.slice(5)) };
  if (text.startsWith('vfio-user:')) return socketAt(text.slice(10));
  if (text.includes('/')) return socketAt(text);
  if (UUID.test(text)) return { kind: 'mdev', uuid: text.toLowerCase() };
  if (BDF.test(text)) return parsePciFunction(text);
  const kind = /^[a-z][a-z-]*(?=:)/i.exec(text)?.[0];
  if (kind !== undefined && !/^[0-9a-f]+$/i.test(kind)) throw new BusError('ERR_BUS_ADDRESS', `${quoted(kind)} is no kind of address: there are ${ADDRESS_KINDS.join(', ')}`);
  throw new BusError('ERR_BUS_ADDRESS', `${quoted(text)} is neither a PCI address (0000:06:0d.0), nor a UUID, nor a path with a '/'`);
}

/** `[domain:]bus:device.function`, all hexadecimal. Throws ERR_BUS_ADDRESS. */
export function parsePciFunction(text: string): PciFunctionAddress {
  const match = BDF.exec(text);
  if (match === null) throw new BusError('ERR_BUS_ADDRESS', `${quoted(text)} is no PCI address as in 0000:06:0d.0`);
  const [domain, bus, device, fn] = match.slice(1).map((digits: string | undefined) => Number.parseInt(digits ?? '0', 16)) as [number, number, number, number];
  if (device > 0x1f) throw new BusError('ERR_BUS_ADDRESS', `device ${quoted(match[3]!)} of ${quoted(text)}: a bus has 0x20`);
  // An ARI function number takes the place of the device number (PCI Express Base, 6.13).
  if (fn > 7 && device !== 0) throw new BusError('ERR_BUS_ADDRESS', `function ${quoted(match[4]!)} of ${quoted(text)}: a device has 8, unless it is device 0 with ARI`);
  return { kind: 'pci', domain, bus, device, function: fn };
}

/** The text form of RFC 4122, in lower case. Throws ERR_BUS_ADDRESS. */
export function parseUuid(text: string): string {
  if (!UUID.test(text)) throw new BusError('ERR_BUS_ADDRESS', `${quoted(text)} is no UUID as in 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001`);
  return text.toLowerCase();
}

function socketAt(path: string): VfioUserAddress {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > MAX_SOCKET_PATH_BYTES) throw new BusError('ERR_BUS_ADDRESS', `the path of a socket has 1..${MAX_SOCKET_PATH_BYTES} bytes, not ${bytes}: ${quoted(path)}`);
  if (path.includes('\0')) throw new BusError('ERR_BUS_ADDRESS', `${quoted(path)} contains a zero byte`);
  return { kind: 'vfio-user', path };
}

/** The one text of an address: `0000:06:0d.0`, the UUID, `vfio-user:PATH`. `parseAddress` reads it back. */
export function formatAddress(address: PciAddress): string {
  switch (address.kind) {
    case 'pci': return `${hex(address.domain, 4)}:${hex(address.bus, 2)}:${hex(address.device, 2)}.${hex(address.function, 1)}`;
    case 'mdev': return address.uuid;
    case 'vfio-user': return `vfio-user:${address.path}`;
  }
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** Order of a list of devices: PCI functions by domain, bus, device and function, then UUIDs, then sockets by path. 0: the same place. */
export function compareAddresses(a: PciAddress, b: PciAddress): number {
  if (a.kind === 'pci' && b.kind === 'pci') return a.domain - b.domain || a.bus - b.bus || a.device - b.device || a.function - b.function;
  if (a.kind === 'mdev' && b.kind === 'mdev') return byText(a.uuid, b.uuid);
  if (a.kind === 'vfio-user' && b.kind === 'vfio-user') return byText(a.path, b.path);
  return ADDRESS_KINDS.indexOf(a.kind) - ADDRESS_KINDS.indexOf(b.kind);
}

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
