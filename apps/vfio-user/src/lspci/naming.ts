/** How names and numbers of a function are combined: names, `-n` numbers, `-nn` both. */
import { hex } from './fields.ts';
import type { PciNames } from './pci-ids.ts';

export type NumberStyle = 'names' | 'numbers' | 'both';

export function className(names: PciNames, style: NumberStyle, base: number, sub: number): string {
  const number = hex(base, 2) + hex(sub, 2);
  if (style === 'numbers') return number;
  const exact = names.subclass(base, sub);
  const name = exact ?? names.baseClass(base);
  if (name === undefined) return style === 'both' ? `Class [${number}]` : `Class ${number}`;
  // A name that only says half of the number comes with all of it.
  return style === 'both' || exact === undefined ? `${name} [${number}]` : name;
}

export function progIfName(names: PciNames, base: number, sub: number, progIf: number): string | undefined {
  const name = names.progIf(base, sub, progIf);
  if (name !== undefined || base !== 1 || sub !== 1 || (progIf & 0x70) !== 0) return name;
  // IDE: each bit has a meaning of its own.
  const parts: readonly (readonly [number, string])[] = [[0x80, 'Master'], [0x08, 'SecP'], [0x04, 'SecO'], [0x02, 'PriP'], [0x01, 'PriO']];
  return parts.filter(([bit]) => (progIf & bit) !== 0).map(([, text]) => text).join(' ');
}

export function deviceName(names: PciNames, style: NumberStyle, vendor: number, device: number): string {
  return pair(style, vendor, device, () => names.vendor(vendor), () => names.device(vendor, device));
}

export function subsystemName(names: PciNames, style: NumberStyle, vendor: number, device: number, subVendor: number, subDevice: number): string {
  return pair(style, subVendor, subDevice, () => names.vendor(subVendor), () => {
    const own = vendor !== 0 && device !== 0 ? names.subsystem(vendor, device, subVendor, subDevice) : undefined;
    return own ?? (vendor === subVendor && device === subDevice ? names.device(vendor, device) : undefined);
  });
}

function pair(style: NumberStyle, first: number, second: number, firstName: () => string | undefined, secondName: () => string | undefined): string {
  const number = `${hex(first, 4)}:${hex(second, 4)}`;
  if (style === 'numbers') return number;
  const vendor = firstName();
  const device = secondName();
  const shown = style === 'both' ? ` [${number}]` : '';
  if (vendor === undefined) return style === 'both' ? `Device${shown}` : `Device ${number}`;
  if (device !== undefined) return `${vendor} ${device}${shown}`;
  return style === 'both' ? `${vendor} Device${shown}` : `${vendor} Device ${hex(second, 4)}`;
}
