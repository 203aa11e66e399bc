/** The formats of sysfs attributes. All throw ERR_BUS_SYSFS_CONTENT, which names the attribute. */
import { BusError, quoted } from './errors.ts';
import { MAX_RESOURCES } from './limits.ts';

/** `0x8086`: a hexadecimal number of at most `max`. */
export function parseHex(text: string, max: number, attribute: string): number {
  const value = /^0x[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : Number.NaN;
  if (!(value <= max)) throw new BusError('ERR_BUS_SYSFS_CONTENT', `${attribute} is ${quoted(text)}, not a hexadecimal number up to 0x${max.toString(16)}`);
  return value;
}

/** `24`, `-1`: a decimal number from `min` to 2^31 - 1. */
export function parseDecimal(text: string, min: number, attribute: string): number {
  const value = /^-?[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= 0x7fff_ffff)) throw new BusError('ERR_BUS_SYSFS_CONTENT', `${attribute} is ${quoted(text)}, not a number from ${min} to 2147483647`);
  return value;
}

/** A line of a PCI device's `resource` file: 0 to 5 are BARs, 6 is the ROM, the rest SR-IOV and bridge windows. */
export interface PciResource {
  readonly index: number;
  readonly kind: 'memory' | 'io' | 'other';
  /** Where the kernel has put it. */
  readonly start: bigint;
  readonly sizeBytes: bigint;
  readonly is64Bit: boolean;
  readonly prefetchable: boolean;
}

/** Flags of linux/ioport.h. */
const IORESOURCE_IO = 0x100n;
const IORESOURCE_MEM = 0x200n;
const IORESOURCE_PREFETCH = 0x2000n;
const IORESOURCE_MEM_64 = 0x10_0000n;

/** A `resource` file: one line each with first and last address and flags. Resources that are not there (all zero) are left out. */
export function parseResources(text: string): readonly PciResource[] {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  if (lines.length > MAX_RESOURCES) throw new BusError('ERR_BUS_SYSFS_CONTENT', `resource has ${lines.length} lines, more than ${MAX_RESOURCES}`);
  return lines.flatMap((line, index) => {
    const match = /^(0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16})$/i.exec(line);
    if (match === null) throw new BusError('ERR_BUS_SYSFS_CONTENT', `resource line ${index} is ${quoted(line)}, not three hexadecimal numbers`);
    const [start, end, flags] = match.slice(1).map(BigInt) as [bigint, bigint, bigint];
    if (start === 0n && end === 0n && flags === 0n) return [];
    if (end < start) throw new BusError('ERR_BUS_SYSFS_CONTENT', `resource line ${index} ends before it begins: ${quoted(line)}`);
    const kind = (flags & IORESOURCE_MEM) !== 0n ? 'memory' : (flags & IORESOURCE_IO) !== 0n ? 'io' : 'other';
    return [{ index, kind, start, sizeBytes: end - start + 1n, is64Bit: (flags & IORESOURCE_MEM_64) !== 0n, prefetchable: (flags & IORESOURCE_PREFETCH) !== 0n }];
  });
}
