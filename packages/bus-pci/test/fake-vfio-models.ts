/** Devices for `FakeVfio`: the sample mediated devices of Linux (samples/vfio-mdev), as 6.1 has them, and functions as vfio-pci shows them. */
import type { FakeModel, FakeRegion } from './fake-vfio-device.ts';

const PCI_ONLY = 2;
const RESET_AND_PCI = 3;
/** VFIO_REGION_INFO_FLAG_*: read and write; the same and mmap. */
const RW = 3;
const RWM = 7;
/** vfio-pci's and mtty's way of computing offsets. */
const bySlot = (index: number): number => index * 2 ** 40;
const INTX = { count: 1, flags: 7 };
const MSI = (count: number): { count: number; flags: number } => ({ count, flags: 9 });

/** Configuration space: what is there at first, and what writing to its BARs leaves. */
class Config {
  readonly #bytes: Uint8Array;
  readonly #barMasks: ReadonlyMap<number, number>;

  constructor(sizeBytes: number, header: string, bars: readonly { readonly at: number; readonly value: number; readonly sizeBytes: number }[] = []) {
    this.#bytes = new Uint8Array(sizeBytes);
    this.#bytes.set(Buffer.from(header.replaceAll(' ', ''), 'hex'));
    const view = new DataView(this.#bytes.buffer);
    for (const { at, value } of bars) view.setUint32(at, value, true);
    this.#barMasks = new Map(bars.map(({ at, sizeBytes: size }) => [at, -size >>> 0]));
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  read(offset: number, into: Uint8Array): number {
    into.set(this.#bytes.subarray(offset, offset + into.length));
    return into.length;
  }

  write(offset: number, from: Uint8Array): number {
    const mask = this.#barMasks.get(offset);
    if (mask !== undefined && from.length === 4) {
      const view = new DataView(this.#bytes.buffer);
      const value = new DataView(from.buffer, from.byteOffset).getUint32(0, true);
      view.setUint32(offset, ((value & mask) | (view.getUint32(offset, true) & (view.getUint32(offset, true) & 1 ? 3 : 15))) >>> 0, true);
    } else if (offset >= 4 && offset < 8) this.#bytes.set(from, offset); // the command register
    return from.length;
  }
}

/** One 16550 whose transmitter is its receiver. */
class Uart {
  readonly #fifo: number[] = [];
  readonly #registers = new Uint8Array(8);
  readonly #divisor = new Uint8Array(2);
  #fifoBytes = 1;
  #trigger = 1;
  #overrun = false;
  readonly #interrupt: () => void;

  constructor(interrupt: () => void) {
    this.#interrupt = interrupt;
  }

  get #ier(): number {
    return this.#registers[1]!;
  }

  get #divisorLatch(): boolean {
    return (this.#registers[3]! & 0x80) !== 0;
  }

  write(offset: number, value: number): void {
    if (offset < 2 && this.#divisorLatch) {
      this.#divisor[offset] = value;
    } else if (offset === 0) {
      if (this.#fifo.length < this.#fifoBytes) {
        this.#fifo.push(value);
        if (this.#fifo.length === this.#trigger && (this.#ier & 1) !== 0) this.#interrupt();
      } else {
        this.#overrun = true;
        if ((this.#ier & 4) !== 0) this.#interrupt();
      }
    } else if (offset === 2) {
      if ((value & 6) !== 0) { this.#fifo.length = 0; this.#overrun = false; }
      [this.#fifoBytes, this.#trigger] = (value & 1) === 0 ? [1, 1] : [16, [1, 4, 8, 14][value >> 6]!];
    } else {
      this.#registers[offset] = value;
      if (offset === 1 && (value & 2) !== 0 && this.#fifo.length === 0) this.#interrupt();
    }
  }

  read(offset: number): number {
    if (offset < 2 && this.#divisorLatch) return this.#divisor[offset]!;
    switch (offset) {
      case 0: return this.#receive();
      case 2: return this.#identify();
      case 5: return (this.#fifo.length > 0 ? 0x01 : 0x60) | (this.#overrun ? 0x02 : 0);
      case 6: return 0xb0;
      default: return this.#registers[offset]!;
    }
  }

  #receive(): number {
    const value = this.#fifo.shift() ?? 0;
    if (this.#fifo.length === 0 && (this.#ier & 2) !== 0) this.#interrupt();
    return value;
  }

  #identify(): number {
    const reason = (this.#ier & 4) !== 0 && this.#overrun ? 6
      : (this.#ier & 1) !== 0 && this.#fifo.length >= this.#trigger ? 4
        : (this.#ier & 2) !== 0 && this.#fifo.length === 0 ? 2 : 1;
    return 0xc0 | reason;
  }
}

/** The serial card mtty with one port or two. */
export function fakeMtty(ports: 1 | 2 = 2): FakeModel & { readonly log: string[] } {
  const signals = new Map<number, readonly (() => void)[]>();
  const interrupt = (): void => { for (const vectors of signals.values()) vectors[0]?.(); };
  const uarts = Array.from({ length: ports }, () => new Uart(interrupt));
  const bars = Array.from({ length: ports }, (_, i) => ({ at: 0x10 + 4 * i, value: 1, sizeBytes: 8 }));
  const config = new Config(255, '48435332 01000002 10020007 00000000', bars);
  config.bytes.set(Buffer.from('48435332', 'hex'), 0x2c);
  config.bytes[0x3d] = 1;
  config.bytes.set(Buffer.from('PCI Serial/UART'), 0x60);
  const regions = Array.from({ length: 9 }, (_, i): FakeRegion => ({ offset: bySlot(i), sizeBytes: i < ports ? 8 : i === 7 ? 255 : 0, flags: RW }));
  return {
    flags: PCI_ONLY, regions, irqs: [INTX, MSI(1), undefined, undefined, MSI(1)], infoFirst: true, log: [],
    connected: (index, vectors) => { if (index < 2) signals.set(index, vectors); },
    read: (region, offset, into) => {
      if (region === 7) return config.read(offset, into);
      into.forEach((_, i) => { into[i] = uarts[region]!.read(offset + i); });
      return into.length;
    },
    write: (region, offset, from) => {
      if (region === 7) return config.write(offset, from);
      from.forEach((value, i) => { uarts[region]!.write(offset + i, value); });
      return from.length;
    },
  };
}

const noInterrupts = Array.from({ length: 5 }, () => ({ count: 0, flags: 0 }));
const absent: FakeRegion = { offset: 0, sizeBytes: 0, flags: 0 };
const DISPLAY_HEADER = (ids: string): string => `${ids} 00000000 01008003 00000000`;

/** The display mdpy: one mapped BAR, no interrupts, offsets that nobody computes. */
export function fakeMdpy(): FakeModel {
  const config = new Config(255, DISPLAY_HEADER('361b0f00'), [{ at: 0x10, value: 8, sizeBytes: 0x20_0000 }]);
  config.bytes.set(Buffer.from('f41a0011', 'hex'), 0x2c);
  const regions = Array.from({ length: 9 }, () => absent).with(0, { offset: 0x1000, sizeBytes: 0x20_0000, flags: RWM }).with(7, { offset: 0, sizeBytes: 255, flags: RW });
  return {
    flags: PCI_ONLY, regions, irqs: noInterrupts, infoFirst: true, settable: false,
    read: (region, offset, into) => (region === 7 ? config.read(offset, into) : undefined),
    write: (region, offset, from) => (region === 7 ? config.write(offset, from) : undefined),
  };
}

/** The display mbochs: registers that cannot be mapped, a region of its own type. */
export function fakeMbochs(): FakeModel {
  const config = new Config(255, DISPLAY_HEADER('34121111'), [{ at: 0x10, value: 8, sizeBytes: 0x100_0000 }, { at: 0x18, value: 0, sizeBytes: 0x1000 }]);
  config.bytes.set(Buffer.from('f41a0011', 'hex'), 0x2c);
  /** VBE_DISPI_INDEX_ID is 0xb0c5. */
  const registers = Uint16Array.of(0xb0c5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64);
  const edid = new Uint8Array(Uint32Array.of(0x0001_0002, 0, 1, 1).buffer);
  const regions = [...Array.from({ length: 9 }, () => absent), { offset: 0x2000, sizeBytes: 0x1000, flags: RW, capabilities: edid }]
    .with(0, { offset: 0x3000, sizeBytes: 0x100_0000, flags: RWM }).with(2, { offset: 0x1000, sizeBytes: 0x1000, flags: RW }).with(7, { offset: 0, sizeBytes: 255, flags: RW });
  const register = (offset: number): number => (offset - 0x500) >> 1;
  return {
    flags: PCI_ONLY, regions, irqs: noInterrupts, settable: false,
    read: (region, offset, into) => {
      if (region === 7) return config.read(offset, into);
      if (region !== 2 || into.length !== 2 || registers[register(offset)] === undefined) return undefined;
      new DataView(into.buffer, into.byteOffset).setUint16(0, registers[register(offset)]!, true);
      return 2;
    },
    write: (region, offset, from) => {
      if (region === 7) return config.write(offset, from);
      if (region !== 2 || from.length !== 2 || registers[register(offset)] === undefined) return undefined;
      if (register(offset) > 0) registers[register(offset)] = new DataView(from.buffer, from.byteOffset).getUint16(0, true);
      return 2;
    },
  };
}

/** For `fakeFunction`. */
export interface FakeFunctionOptions {
  /** By index, over those of an e1000e. */
  readonly regions?: Readonly<Record<number, FakeRegion | undefined>>;
  readonly irqs?: FakeModel['irqs'];
  readonly flags?: number;
  readonly infoBytes?: number;
  /** Bytes of configuration space from 0x40 on, over the capability for MSI-X: 5 vectors, table at BAR 3. */
  readonly capabilities?: string;
  readonly reset?: () => void;
  /** Bit 0 of BAR registers that are I/O ports, by index. */
  readonly ports?: readonly number[];
}

const MSIX_MAPPABLE = Uint8Array.from(Buffer.from('0300010000000000', 'hex'));

/** A function bound to vfio-pci: an e1000e, unless said otherwise. */
export function fakeFunction({ regions: changed = {}, irqs, flags = RESET_AND_PCI, infoBytes, capabilities = '1100 0400 03000000 03200000', reset, ports = [2] }: FakeFunctionOptions = {}): FakeModel & { readonly log: string[] } {
  const config = new Uint8Array(4096);
  config.set(Buffer.from('8680d310000010000000000200000000', 'hex'));
  config[0x34] = 0x40;
  for (const index of ports) config[0x10 + 4 * index] = 1;
  config.set(Buffer.from(capabilities.replaceAll(' ', ''), 'hex'), 0x40);
  const slots: readonly (Omit<FakeRegion, 'offset'> | undefined)[] = [
    { sizeBytes: 0x2_0000, flags: RWM }, { sizeBytes: 0x2_0000, flags: RWM }, { sizeBytes: 0x20, flags: RW }, { sizeBytes: 0x4000, flags: RWM, capabilities: MSIX_MAPPABLE },
    { sizeBytes: 0, flags: 0 }, { sizeBytes: 0, flags: 0 }, { sizeBytes: 0x4_0000, flags: 1 }, { sizeBytes: 4096, flags: RW }, undefined,
  ];
  const regions = slots.map((slot, i): FakeRegion | undefined => (i in changed ? changed[i] : slot === undefined ? undefined : { ...slot, offset: bySlot(i) }));
  for (const [index, region] of Object.entries(changed)) if (Number(index) >= regions.length) regions[Number(index)] = region;
  return {
    flags, regions, irqs: irqs ?? [INTX, MSI(1), MSI(5), MSI(1), MSI(1)], log: [],
    ...(infoBytes === undefined ? {} : { infoBytes }), ...(reset === undefined ? {} : { reset }),
    read: (region, offset, into) => {
      if (region !== 7) return undefined;
      into.set(config.subarray(offset, offset + into.length));
      return into.length;
    },
  };
}
