/** Names of configuration registers, as setpci has them: `COMMAND`, `BAR0`, `CAP_EXP+8.w`, `ECAP0003+4`. */
import type { ConfigBytes } from './lspci/config-bytes.ts';
import { bits } from './lspci/fields.ts';

/** Offset and width in bytes (PCI Local Bus 3.0, 6.1). */
const HEADER: Readonly<Record<string, readonly [number, number]>> = {
  VENDOR_ID: [0x00, 2], DEVICE_ID: [0x02, 2], COMMAND: [0x04, 2], STATUS: [0x06, 2], REVISION: [0x08, 1], REVISION_ID: [0x08, 1], CLASS_PROG: [0x09, 1], CLASS_DEVICE: [0x0a, 2],
  CACHE_LINE_SIZE: [0x0c, 1], LATENCY_TIMER: [0x0d, 1], HEADER_TYPE: [0x0e, 1], BIST: [0x0f, 1], CARDBUS_CIS: [0x28, 4], SUBSYSTEM_VENDOR_ID: [0x2c, 2], SUBSYSTEM_ID: [0x2e, 2],
  ROM_ADDRESS: [0x30, 4], CAPABILITY_LIST: [0x34, 1], INTERRUPT_LINE: [0x3c, 1], INTERRUPT_PIN: [0x3d, 1], MIN_GNT: [0x3e, 1], MAX_LAT: [0x3f, 1],
  ...Object.fromEntries([0, 1, 2, 3, 4, 5].flatMap((index): [string, [number, number]][] => [[`BAR${index}`, [0x10 + 4 * index, 4]], [`BASE_ADDRESS_${index}`, [0x10 + 4 * index, 4]]])),
};

const CAPABILITIES: Readonly<Record<string, number>> = {
  PM: 0x01, AGP: 0x02, VPD: 0x03, SLOTID: 0x04, MSI: 0x05, CHSWP: 0x06, PCIX: 0x07, HT: 0x08, VNDR: 0x09, DBG: 0x0a, CCRC: 0x0b, HOTPLUG: 0x0c, SSVID: 0x0d, AGP3: 0x0e,
  SECURE: 0x0f, EXP: 0x10, MSIX: 0x11, SATA: 0x12, AF: 0x13, EA: 0x14,
};

const EXTENDED: Readonly<Record<string, number>> = {
  AER: 0x01, VC: 0x02, DSN: 0x03, PB: 0x04, RCLINK: 0x05, RCILINK: 0x06, RCEC: 0x07, MFVC: 0x08, RCRB: 0x0a, VNDR: 0x0b, ACS: 0x0d, ARI: 0x0e, ATS: 0x0f, SRIOV: 0x10, MRIOV: 0x11,
  PRI: 0x13, REBAR: 0x15, TPH: 0x17, LTR: 0x18, SECPCI: 0x19, PASID: 0x1b, DPC: 0x1d, L1PM: 0x1e, PTM: 0x1f, DVSEC: 0x23, VF_REBAR: 0x24, DLNK: 0x25, LMR: 0x27, DOE: 0x2e,
};

export interface Register {
  readonly offset: number;
  readonly widthBytes: number;
}

/** A name without its place: capabilities lie where the device's lists say. */
export interface RegisterName {
  readonly base: { readonly kind: 'header'; readonly offset: number } | { readonly kind: 'capability' | 'extended'; readonly id: number };
  readonly plus: number;
  readonly widthBytes: number;
}

const FORM = /^([A-Z][A-Z0-9_]*)(?:\+(0x[0-9a-f]+|\d+))?(?:\.([bwlq]))?$/i;
const WIDTHS: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4, q: 8 };

/** undefined: the text names no register. */
export function parseRegister(text: string): RegisterName | undefined {
  const parts = FORM.exec(text);
  if (parts === null) return undefined;
  const name = parts[1]!.toUpperCase();
  const plus = Number(parts[2] ?? 0);
  const width = WIDTHS[parts[3]?.toLowerCase() ?? ''];
  if (Object.hasOwn(HEADER, name)) {
    const [offset, usual] = HEADER[name]!;
    return { base: { kind: 'header', offset }, plus, widthBytes: width ?? usual };
  }
  const extended = idOf(name, 'ECAP', 4, EXTENDED);
  if (extended !== undefined) return { base: { kind: 'extended', id: extended }, plus, widthBytes: width ?? 4 };
  const capability = idOf(name, 'CAP', 2, CAPABILITIES);
  return capability === undefined ? undefined : { base: { kind: 'capability', id: capability }, plus, widthBytes: width ?? 4 };
}

/** `CAP_EXP` by name, `CAP10` by number. */
function idOf(name: string, prefix: string, digits: number, names: Readonly<Record<string, number>>): number | undefined {
  if (!name.startsWith(prefix)) return undefined;
  const rest = name.slice(prefix.length);
  if (rest.startsWith('_')) return Object.hasOwn(names, rest.slice(1)) ? names[rest.slice(1)] : undefined;
  return rest.length === digits && /^[0-9A-F]+$/.test(rest) ? parseInt(rest, 16) : undefined;
}

/** Where the register lies in this configuration space; undefined where the device has no such capability. */
export function locate(name: RegisterName, config: ConfigBytes): Register | undefined {
  const { base, plus, widthBytes } = name;
  const start = base.kind === 'header' ? base.offset : base.kind === 'capability' ? findCapability(config, base.id) : findExtended(config, base.id);
  return start === undefined ? undefined : { offset: start + plus, widthBytes };
}

// Both walks visit an offset once: a device may have drawn a circle.

function findCapability(config: ConfigBytes, id: number): number | undefined {
  if (bits(config.u16(0x06), 4, 1) === 0) return undefined;
  const seen = new Set<number>();
  for (let at = config.u8(0x34) & ~3; at >= 0x40 && !seen.has(at); at = config.u8(at + 1) & ~3) {
    if (config.u8(at) === id) return at;
    seen.add(at);
  }
  return undefined;
}

function findExtended(config: ConfigBytes, id: number): number | undefined {
  const seen = new Set<number>();
  for (let at = 0x100; at >= 0x100 && config.has(at, 4) && !seen.has(at);) {
    const header = config.u32(at);
    if (header === 0 || header === 0xffff_ffff) return undefined;
    if (bits(header, 0, 16) === id) return at;
    seen.add(at);
    at = bits(header, 20, 12) & ~3;
  }
  return undefined;
}
