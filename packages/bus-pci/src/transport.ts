/**
 * The one interface that every kind of device has when it is open: a kernel device through VFIO, a mediated device, a device behind a
 * vfio-user socket. A transport moves bytes and descriptors and knows nothing of PCI; `BusDevice` makes a PCI device of any of them.
 *
 * Indexes are VFIO's: regions 0 to 5 BARs, 6 ROM, 7 configuration space, 8 VGA, from 9 on the device's own; interrupts 0 INTx, 1 MSI,
 * 2 MSI-X, 3 error, 4 request. Every method rejects with a `BusError`: ERR_BUS_RANGE for what is outside the device, ERR_BUS_REFUSED (with
 * the device's or the kernel's `errno`) for what it does not do, ERR_BUS_GONE when it is not there any more, ERR_BUS_CLOSED after
 * `close`.
 */
import type { Window } from '@emudev/dma';
import type { PciAddress } from './address.ts';

/** A region of the device. Sizes and offsets in bytes; what a kernel says beyond 2^53 is refused. */
export interface BusRegion {
  readonly index: number;
  /** 0: there is no such region. */
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Parts that may be mapped, ascending; of a BAR with a MSI-X table never the pages of the table, unless the kernel says that they may be. */
  readonly areas: readonly { readonly offset: number; readonly sizeBytes: number }[];
  /** Of a region specific to the device (VFIO_REGION_INFO_CAP_TYPE). */
  readonly type?: { readonly type: number; readonly subtype: number };
}

/** Interrupts of one index: `count` vectors (0: none of this kind), VFIO_IRQ_INFO_* flags. */
export interface BusInterruptInfo {
  readonly index: number;
  readonly count: number;
  readonly flags: number;
}

/** Mapped areas of one region, in the DMA window; stores and loads go to the device. They stay until disposed of, which `close` does not do. */
export interface BusMapping extends Disposable {
  readonly areas: readonly { readonly offset: number; readonly sizeBytes: number; readonly windowOffset: number }[];
}

/** Memory of this process for the device: a file (memfd), and where the process has it mapped. All are multiples of 4096. */
export interface BusDmaMap {
  readonly iova: bigint;
  readonly sizeBytes: number;
  /** What the device may do. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** The memory as a file: what a vfio-user device maps. Borrowed until the promise settles. */
  readonly fd: number;
  readonly fdOffset: number;
  /** The same memory in this process (`window.base` + window offset): what the kernel pins. Stays mapped until `dmaUnmap`. */
  readonly address: bigint;
}

/** Why an open device has come to its end. */
export type BusDeviceEnd =
  /** `close` was called. */
  | 'closed'
  /** The device or its server has gone away. */
  | 'gone';

/** An open device. Calls may be issued concurrently; they are executed in order. */
export interface PciTransport extends AsyncDisposable {
  readonly address: PciAddress;
  readonly regionCount: number;
  readonly interruptCount: number;
  /** Whether `reset` does something. */
  readonly resettable: boolean;
  /** IOVAs that the device may be given, both ends included, ascending; undefined: any. */
  readonly iovaRanges: readonly { readonly first: bigint; readonly last: bigint }[] | undefined;
  /** Page sizes of DMA maps: the smallest that addresses and sizes are multiples of, bytes. */
  readonly dmaPageBytes: number;
  /** DMA maps that are possible at a time; a driver should need few. */
  readonly maxDmaMaps: number;
  /** Settles, never rejects, when the device is closed or has gone. */
  readonly closed: Promise<BusDeviceEnd>;

  /** Asked of the device once. ERR_BUS_RANGE from `regionCount` on; an index that the device does not have is a region of 0 bytes. */
  region(index: number): Promise<BusRegion>;
  /** As `region`: a kind of interrupt that the device does not have counts 0 vectors. */
  interrupt(index: number): Promise<BusInterruptInfo>;
  /** Exactly `into.length` bytes, as one access: a register is read with its own width. `into` may be a view of shared memory. */
  read(region: number, offset: number, into: Uint8Array): Promise<void>;
  /** As `read`. `posted`: resolves when the write is under way, in order with all others; that it was refused remains unknown. */
  write(region: number, offset: number, from: Uint8Array, options?: { readonly posted?: boolean }): Promise<void>;
  /** Maps all `areas` of a region, or nothing. ERR_BUS_NOT_MAPPABLE where it has none, or where doing so would be dangerous. */
  map(region: number, window: Window): Promise<BusMapping>;
  /**
   * The device signals `fds[i]` (an eventfd; -1 disconnects) for vector `start + i`. The descriptors stay the caller's, and open until
   * they are disconnected. The count of enabled MSI and MSI-X vectors may be fixed with the first call: name all of them in one.
   */
  setInterrupts(index: number, start: number, fds: readonly number[]): Promise<void>;
  /** Disconnects all vectors of an index. */
  clearInterrupts(index: number): Promise<void>;
  /** Masks or unmasks; INTx is masked by the device itself when it signals, and needs an unmask after each interrupt. */
  maskInterrupts(index: number, start: number, count: number, masked: boolean): Promise<void>;
  /**
   * Where the device may share its addresses with others: the lowest multiple of `align` (a power of two) from `from` on that none of them has a map
   * at, within `iovaRanges`; undefined: there is none. It is the next `dmaMap`'s, made in the same turn. Absent: the device has all addresses to itself.
   */
  freeIova?(sizeBytes: number, align: number, from: bigint): bigint | undefined;
  /** ERR_BUS_DMA where the range is in use already, or is outside `iovaRanges`. */
  dmaMap(map: BusDmaMap): Promise<void>;
  /** Exactly one earlier map. When it resolves the device no longer uses the memory. */
  dmaUnmap(iova: bigint, sizeBytes: number): Promise<void>;
  /** ERR_BUS_REFUSED where `resettable` is false. */
  reset(): Promise<void>;
  /** Calls back when the owner of the device wants it back (VFIO's request interrupt, unplugging): close it soon. */
  onReleaseRequest(callback: () => void): Disposable;
  /** Ends everything that this device has: interrupts, DMA maps, descriptors. Mappings stay. Never rejects; also `Symbol.asyncDispose`. */
  close(): Promise<void>;
}
