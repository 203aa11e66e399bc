/** A base address register of an open device: its registers by stores and loads where it is mapped, by messages where not. */
import type { Window } from '@emudev/dma';
import { BusError } from './errors.ts';
import type { BusMapping, BusRegion, PciTransport } from './transport.ts';

/** Bytes of a register. */
type Width = 1 | 2 | 4;

/**
 * Registers in a mapped part of a BAR: every call is one access of exactly that width, at once. `offset` is the BAR's, and a multiple of the width;
 * ERR_BUS_RANGE outside the part that was asked for. (A DataView would not do: engines may split its accesses into bytes.)
 */
export interface DirectRegisters {
  /** A byte at `offset` of the BAR, in one load. */
  read8(offset: number): number;
  /** A 16-bit register at `offset` of the BAR, in one load. */
  read16(offset: number): number;
  /** A 32-bit register at `offset` of the BAR, in one load. */
  read32(offset: number): number;
  /** The same in one store. */
  write8(offset: number, value: number): void;
  /** The same in one store. */
  write16(offset: number, value: number): void;
  /** The same in one store. */
  write32(offset: number, value: number): void;
}

/** From `BusDevice.bar`. Offsets are bytes from its start, multiples of the width that is accessed; registers are little-endian. */
export class Bar {
  readonly index: number;
  readonly sizeBytes: number;
  /** I/O ports are never mapped. */
  readonly kind: 'memory' | 'io';
  /** Parts that are mapped, ascending; none where the device offers none that is safe to map. */
  readonly areas: BusMapping['areas'];
  readonly #transport: PciTransport;
  readonly #window: Window;
  readonly #u16: Uint16Array;

  /** For `BusDevice`. `mapping` belongs to the caller. */
  constructor(transport: PciTransport, region: BusRegion, kind: 'memory' | 'io', window: Window, mapping: BusMapping | undefined) {
    this.#transport = transport;
    this.index = region.index;
    this.sizeBytes = region.sizeBytes;
    this.kind = kind;
    this.areas = mapping?.areas ?? [];
    this.#window = window;
    this.#u16 = new Uint16Array(window.memory.buffer);
  }

  /** A register of 1 byte. */
  read8(offset: number): Promise<number> { return this.#read(offset, 1); }
  /** A register of 2 bytes. */
  read16(offset: number): Promise<number> { return this.#read(offset, 2); }
  /** A register of 4 bytes. */
  read32(offset: number): Promise<number> { return this.#read(offset, 4); }
  /** Resolves when the device has taken it. */
  write8(offset: number, value: number): Promise<void> { return this.#write(offset, 1, value, false); }
  /** Resolves when the device has taken it. */
  write16(offset: number, value: number): Promise<void> { return this.#write(offset, 2, value, false); }
  /** Resolves when the device has taken it. */
  write32(offset: number, value: number): Promise<void> { return this.#write(offset, 4, value, false); }
  /** As `write32`, but resolves when it is on its way; that it was refused remains unknown. */
  post32(offset: number, value: number): Promise<void> { return this.#write(offset, 4, value, true); }

  /** Where [offset, offset + length) is in the DMA window (for kernels); undefined where it is not in one mapped part. */
  windowOffset(offset: number, length: number): number | undefined {
    const area = this.areas.find((each) => offset >= each.offset && offset + length <= each.offset + each.sizeBytes);
    return area === undefined ? undefined : area.windowOffset + offset - area.offset;
  }

  /** The registers in [offset, offset + length), for immediate access; undefined where they are not mapped. Of no use once the device is closed. */
  direct(offset: number, length: number): DirectRegisters | undefined {
    const start = this.windowOffset(offset, length);
    if (start === undefined) return undefined;
    const at = (register: number, width: Width): number => {
      this.#check(register, width);
      if (register < offset || register + width > offset + length) throw outside(this.index, register, width);
      return start + register - offset;
    };
    return {
      read8: (register) => this.#load(at(register, 1), 1),
      read16: (register) => this.#load(at(register, 2), 2),
      read32: (register) => this.#load(at(register, 4), 4),
      write8: (register, value) => { this.#store(at(register, 1), 1, value); },
      write16: (register, value) => { this.#store(at(register, 2), 2, value); },
      write32: (register, value) => { this.#store(at(register, 4), 4, value); },
    };
  }

  /** For a driver that accesses these registers directly only: ERR_BUS_NOT_MAPPABLE, here rather than later, where one of them is not mapped. */
  requireDirect(ranges: readonly { readonly offset: number; readonly length: number }[]): void {
    const missing = ranges.find(({ offset, length }) => this.windowOffset(offset, length) === undefined);
    if (missing === undefined) return;
    throw new BusError('ERR_BUS_NOT_MAPPABLE', `the driver needs BAR ${this.index} 0x${missing.offset.toString(16)}+0x${missing.length.toString(16)} mapped; ${mappedParts(this.areas)}`);
  }

  async #read(offset: number, width: Width): Promise<number> {
    this.#check(offset, width);
    const at = this.windowOffset(offset, width);
    if (at !== undefined) return this.#load(at, width);
    const bytes = new Uint8Array(width);
    await this.#transport.read(this.index, offset, bytes);
    return (bytes[0]! | (bytes[1] ?? 0) << 8 | (bytes[2] ?? 0) << 16 | (bytes[3] ?? 0) << 24) >>> 0;
  }

  async #write(offset: number, width: Width, value: number, posted: boolean): Promise<void> {
    this.#check(offset, width);
    const at = this.windowOffset(offset, width);
    if (at !== undefined) return this.#store(at, width, value);
    await this.#transport.write(this.index, offset, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24).subarray(0, width), { posted });
  }

  /** Not aligned, it would be several accesses, or another register. */
  #check(offset: number, width: Width): void {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % width !== 0 || offset + width > this.sizeBytes) throw outside(this.index, offset, width);
  }

  #load(at: number, width: Width): number {
    const { u8, u32 } = this.#window;
    return width === 4 ? Atomics.load(u32, at >>> 2) : width === 2 ? Atomics.load(this.#u16, at >>> 1) : Atomics.load(u8, at);
  }

  /** No Atomics.store: it may be an exchange, which would read the register, too. */
  #store(at: number, width: Width, value: number): void {
    const { u8, u32 } = this.#window;
    if (width === 4) u32[at >>> 2] = value;
    else if (width === 2) this.#u16[at >>> 1] = value;
    else u8[at] = value;
  }
}

function outside(index: number, offset: number, width: number): BusError {
  return new BusError('ERR_BUS_RANGE', `BAR ${index} has no register of ${width} bytes at ${offset}`);
}

function mappedParts(areas: Bar['areas']): string {
  return areas.length === 0 ? 'nothing of it is' : `mapped are ${areas.map(({ offset, sizeBytes }) => `0x${offset.toString(16)}+0x${sizeBytes.toString(16)}`).join(', ')}`;
}
