/**
 * Base address registers. What a consumer learns by the all-ones probe is exactly the write mask of the register: address bits
 * below the size do not exist, so they read as zero. Table-driven: a BAR is a pair of 32-bit values, power-on and writable.
 */
import { PciLayoutError } from './errors.ts';
import { MAX_BAR32_BYTES, MAX_BAR_BYTES, MAX_IO_BAR_BYTES } from './limits.ts';
import { PCI_BAR_64, PCI_BAR_IO, PCI_BAR_PREFETCH } from './registers.ts';

/** A base address register (PCI Local Bus 3.0, 6.2.5): what a function asks of the address space. */
export interface Bar {
  /** 0 to 5; a 64-bit BAR takes the next index as well. */
  readonly index: number;
  readonly kind: 'io' | 'memory32' | 'memory64';
  /** A power of two; at least 16 (memory) or 4 (I/O). */
  readonly sizeBytes: number;
  readonly prefetchable?: boolean;
}

/** One 32-bit register: its value at power-on and the bits a consumer can change. */
export interface BarRegister {
  readonly index: number;
  readonly value: number;
  readonly writable: number;
}

const isPowerOfTwo = (n: number): boolean => Number.isSafeInteger(n) && n > 0 && Number.isInteger(Math.log2(n));

const LIMITS = {
  io: { min: 4, max: MAX_IO_BAR_BYTES, typeBits: PCI_BAR_IO },
  memory32: { min: 16, max: MAX_BAR32_BYTES, typeBits: 0 },
  memory64: { min: 16, max: MAX_BAR_BYTES, typeBits: PCI_BAR_64 },
} as const;

function check(bar: Bar): void {
  const { min, max } = LIMITS[bar.kind];
  const last = bar.kind === 'memory64' ? 4 : 5;
  if (!Number.isInteger(bar.index) || bar.index < 0 || bar.index > last) {
    throw new PciLayoutError(`BAR index ${bar.index}: a ${bar.kind} BAR has an index from 0 to ${last}`);
  }
  if (!isPowerOfTwo(bar.sizeBytes) || bar.sizeBytes < min || bar.sizeBytes > max) {
    throw new PciLayoutError(`BAR ${bar.index}: size ${bar.sizeBytes} is not a power of two from ${min} to ${max}`);
  }
  if (bar.kind === 'io' && bar.prefetchable === true) throw new PciLayoutError(`BAR ${bar.index}: an I/O BAR cannot be prefetchable`);
}

/** The registers of one BAR: one, or two for 64 bits. */
export function barRegisters(bar: Bar): BarRegister[] {
  check(bar);
  const value = LIMITS[bar.kind].typeBits | (bar.prefetchable === true ? PCI_BAR_PREFETCH : 0);
  // One 64-bit mask cut in halves: below 4 GiB the upper register is all address bits, not none.
  const mask = ~(BigInt(bar.sizeBytes) - 1n);
  const low = { index: bar.index, value, writable: Number(mask & 0xffffffffn) };
  if (bar.kind !== 'memory64') return [low];
  return [low, { index: bar.index + 1, value: 0, writable: Number((mask >> 32n) & 0xffffffffn) }];
}
