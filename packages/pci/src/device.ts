/**
 * The contract of an emulated PCI device. A device knows no transport: whoever serves it (a vfio-user server, an in-memory
 * host in tests, a replayed recording) calls this interface and offers `PciHost`.
 *
 * Order of calls, all on the control thread, never two at a time:
 *
 * ```
 * attach → ( read | write | quiesce … memoryChanged / irqsChanged … resume | reset )* → detach
 * ```
 *
 * | call                         | when                                                     | may await |
 * | ---------------------------- | -------------------------------------------------------- | --------- |
 * | attach                       | a consumer has connected and negotiated                  | yes       |
 * | read, write                  | a trapped access; the consumer waits for the result      | yes       |
 * | quiesce                      | before the DMA table or an interrupt descriptor changes  | yes       |
 * | memoryChanged, irqsChanged   | between quiesce and resume, after the change             | no        |
 * | resume                       | after the change, also when it failed                    | no        |
 * | reset                        | the consumer asks for a function reset (power-on state)  | yes       |
 * | irqsMasked                   | the consumer masked or unmasked vectors                  | no        |
 * | migration.*                  | the consumer moves the device's state, or has left it in another than `running` (behind detach); see migration.ts | yes |
 * | detach                       | the consumer has gone; memory and descriptors still valid| yes       |
 */

import type { Migration } from './migration.ts';

/**
 * An emulated PCI function, as whoever serves it sees it. What `read`, `write`, `reset` or a migration hop throws is answered to the
 * consumer with the error's `errno`, EIO where it has none.
 */
export interface PciDevice {
  readonly name: string;
  /** Present regions by VFIO index (0..5 BARs, 6 ROM, 7 configuration space, 8 VGA). */
  readonly regions: readonly RegionDescription[];
  /** Interrupt kinds by VFIO index (0 INTx, 1 MSI, 2 MSI-X, 3 ERR, 4 REQ). */
  readonly irqs: readonly IrqDescription[];
  /** True when `reset` restores the power-on state (VFIO_DEVICE_FLAGS_RESET). */
  readonly resettable: boolean;
  /** A consumer has come: `host` is its memory and its interrupts until `detach` resolves. A throw turns it away, and no `detach` follows. */
  attach(host: PciHost): void | Promise<void>;
  /** The consumer has gone. When it resolves, nothing of the device may use `host` any more. */
  detach(reason: DetachReason): void | Promise<void>;
  /** `offset + into.length` is inside the region: the caller has checked. */
  read(region: number, offset: number, into: Uint8Array): void | Promise<void>;
  /** `offset + from.length` is inside the region: the caller has checked. `from` is valid until it resolves. */
  write(region: number, offset: number, from: Uint8Array): void | Promise<void>;
  /** Resolves when no thread of the device touches guest memory or signals an interrupt. */
  quiesce(reason: QuiesceReason): Promise<void>;
  /** The change is over (or has failed): the device may go on where `quiesce` stopped it. */
  resume(): void;
  /** The DMA table is another: translations of earlier `GuestMemory.generation`s are void. */
  memoryChanged(): void;
  /** Vectors [start, start + count) of `index` have new descriptors: ask `host.irqFd`. */
  irqsChanged(index: number, start: number, count: number): void;
  /** DMA mappings and interrupt descriptors survive a reset; everything else returns to power-on. */
  reset(): void | Promise<void>;
  /** Informative: the host itself holds masked interrupts back and delivers them when they are unmasked. */
  irqsMasked?(index: number, start: number, count: number, masked: boolean): void;
  /** Descriptors that a consumer may use instead of messages for writes into a region; asked for at every DEVICE_GET_REGION_IO_FDS. In the order of their creation (on the wire the newest comes first); `fd` -1: none. */
  ioFds?(region: number): readonly IoFd[];
  /** Present: the device's state can be saved and restored. */
  readonly migration?: Migration;
  /**
   * True when every byte the device writes into guest memory goes through `GuestMemory.write` or is reported to `markDirty`.
   * Only then may a consumer log dirty pages: a log that misses a page corrupts the migrated guest.
   */
  readonly tracksDirtyPages?: boolean;
}

/** What a transport offers to a device while a consumer is attached. */
export interface PciHost {
  readonly memory: GuestMemory;
  /** The eventfd of an interrupt vector, or -1. Valid until the next `irqsChanged` or `detach`; owned by the host. */
  irqFd(index: number, vector: number): number;
  /**
   * Raises one MSI, MSI-X, ERR or REQ interrupt from the control thread; held back while the vector is masked. False where the
   * consumer has assigned no descriptor. Threads that poll signal `irqFd` themselves.
   */
  trigger(index: number, vector: number): boolean;
  /**
   * The level of the INTx pin. Asserting signals once and masks (VFIO automask); as long as it stays asserted every unmask, by
   * message or by the consumer's resample eventfd, signals again.
   */
  setIntx(asserted: boolean): void;
  /**
   * The consumer's memory by DMA_READ and DMA_WRITE messages even where it is mapped; undefined where the consumer serves none.
   * The consumer itself marks the pages dirty that it writes for a message.
   */
  readonly dmaMessages?: DmaMessageAccess | undefined;
  /** For `ConfigSpaceHooks.onFlr`: quiesce, `device.reset()`, resume. */
  functionLevelReset(): Promise<void>;
}

/** Rejects with a typed error: the consumer's errno, a time-out, or that the consumer has gone. */
export interface DmaMessageAccess {
  /** DMA_READ of [iova, iova + into.length), in pieces of what the consumer takes. */
  read(iova: bigint, into: Uint8Array): Promise<void>;
  /** Long transfers go in pieces; those before a piece that failed have been written. */
  write(iova: bigint, from: Uint8Array): Promise<void>;
}

/** What a device does to guest memory. */
export type Access = 'read' | 'write';

/** The consumer's memory as the device may see it. */
export interface GuestMemory {
  /** Grows with every change of the DMA table. */
  readonly generation: number;
  /** Window offset of this device's IOTLB (see @emudev/dma), for kernels. */
  readonly iotlb: number;
  /**
   * Copies guest memory out. Resolves at once where the range is mapped; goes by message where the consumer gave no descriptor.
   * Throws `GuestMemoryError` where a byte is not mapped or not readable by the device.
   */
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  /** Copies into guest memory, and marks it dirty where pages are logged. As `read` in everything else. */
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
  /**
   * Window offset of a range that is mapped, permitted and contiguous in the window; undefined otherwise. Holds until the thread does
   * something else: for longer, `pin`.
   */
  translate(iova: bigint, lengthBytes: number, access: Access): number | undefined;
  /**
   * A range of one mapping that stays where it is in the window: for rings. undefined as for `translate`, or where there is no room.
   * Until it is disposed of, or the mapping ends, which shows as a change of `generation`.
   */
  pin(iova: bigint, lengthBytes: number, access: Access): (Disposable & { readonly offset: number }) | undefined;
  /**
   * How the device comes by a range, every byte of which it may access so: by the window alone, or also by messages (a region without
   * a descriptor). undefined: not all of it can be reached. Absent: what `translate` does not have is out of reach.
   */
  reach?(iova: bigint, lengthBytes: number, access: Access): 'window' | 'messages' | undefined;
  /**
   * Memory in the window that this device sees at an address of ours, for kernels to work on copies of what comes by messages.
   * `iova` may change with `generation`, and the page behind the area is void. undefined: no room.
   */
  bounce?(lengthBytes: number): (Disposable & { readonly iova: bigint; readonly offset: number; readonly sizeBytes: number }) | undefined;
  /**
   * A device that writes through `translate` (not `write`) says here what it has written, after it has. Costs nothing while
   * no consumer logs dirty pages.
   */
  markDirty(iova: bigint, lengthBytes: number): void;
}

/** A descriptor that stands for writes to [offset, offset + sizeBytes) of a region (linux/kvm.h KVM_IOEVENTFD, ioregionfd, shadow ioeventfd). Borrowed: the device closes it. */
export type IoFd = { readonly offset: number; readonly sizeBytes: number; readonly fd: number } & (
  | { readonly kind: 'ioeventfd'; /** KVM_IOEVENTFD_FLAG_*: 1 DATAMATCH, 2 PIO. */ readonly flags: number; readonly datamatch: bigint }
  | { readonly kind: 'ioregionfd'; /** 1 PIO, 2 POSTED_WRITES. */ readonly flags: number; readonly userData: bigint }
  /** The value written is stored at `memoryOffset` of `memoryFd` before `fd` is signalled. */
  | { readonly kind: 'shadow'; readonly flags: number; readonly datamatch: bigint; readonly memoryFd: number; readonly memoryOffset: number }
);

/** Why a consumer has gone: it closed the connection, lost it, broke the protocol, or the server was closed. */
export type DetachReason = 'closed' | 'connection-lost' | 'protocol-error' | 'server-closed';
/** What is about to change while the device is quiescent. */
export type QuiesceReason = 'dma-map' | 'dma-unmap' | 'irqs' | 'reset' | 'flr' | 'migration' | 'detach';

/** A region of the device (VFIO_DEVICE_GET_REGION_INFO): sizes and offsets in bytes. */
export interface RegionDescription {
  readonly index: number;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Parts that a consumer may map: offsets are relative to the region, `backing` is where region offset 0 lies in the file. */
  readonly mmap?: { readonly areas: readonly { readonly offset: number; readonly sizeBytes: number }[]; readonly backing: { readonly fd: number; readonly offset: number } };
}

/** An interrupt kind of the device (VFIO_DEVICE_GET_IRQ_INFO): `count` vectors. */
export interface IrqDescription {
  readonly index: number;
  readonly count: number;
  /** VFIO_IRQ_INFO_*: 1 EVENTFD, 2 MASKABLE, 4 AUTOMASKED, 8 NORESIZE. */
  readonly flags: number;
}

/** A guest address that is not mapped, not permitted, or out of reach. `errno` is what a protocol reports. */
export class GuestMemoryError extends Error {
  readonly code = 'ERR_GUEST_MEMORY';
  readonly errno = 14; // EFAULT
  override readonly name = 'GuestMemoryError';
  readonly iova: bigint;
  readonly lengthBytes: number;
  readonly access: Access;
  constructor(iova: bigint, lengthBytes: number, access: Access, why: string) {
    super(`guest ${access} of ${lengthBytes} bytes at 0x${iova.toString(16)}: ${why}`);
    this.iova = iova;
    this.lengthBytes = lengthBytes;
    this.access = access;
  }
}
