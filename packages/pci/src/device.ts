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
 * | detach                       | the consumer has gone; memory and descriptors still valid| yes       |
 */

export interface PciDevice {
  readonly name: string;
  /** Present regions by VFIO index (0..5 BARs, 6 ROM, 7 configuration space, 8 VGA). */
  readonly regions: readonly RegionDescription[];
  /** Interrupt kinds by VFIO index (0 INTx, 1 MSI, 2 MSI-X, 3 ERR, 4 REQ). */
  readonly irqs: readonly IrqDescription[];
  /** True when `reset` restores the power-on state (VFIO_DEVICE_FLAGS_RESET). */
  readonly resettable: boolean;
  attach(host: PciHost): void | Promise<void>;
  detach(reason: DetachReason): void | Promise<void>;
  /** `offset + into.length` is inside the region: the caller has checked. */
  read(region: number, offset: number, into: Uint8Array): void | Promise<void>;
  write(region: number, offset: number, from: Uint8Array): void | Promise<void>;
  /** Resolves when no thread of the device touches guest memory or signals an interrupt. */
  quiesce(reason: QuiesceReason): Promise<void>;
  resume(): void;
  memoryChanged(): void;
  /** Vectors [start, start + count) of `index` have new descriptors: ask `host.irqFd`. */
  irqsChanged(index: number, start: number, count: number): void;
  /** DMA mappings and interrupt descriptors survive a reset; everything else returns to power-on. */
  reset(): void | Promise<void>;
}

/** What a transport offers to a device while a consumer is attached. */
export interface PciHost {
  readonly memory: GuestMemory;
  /** The eventfd of an interrupt vector, or -1. Valid until the next `irqsChanged` or `detach`; owned by the host. */
  irqFd(index: number, vector: number): number;
}

export type Access = 'read' | 'write';

/** The consumer's memory as the device may see it. */
export interface GuestMemory {
  /** Grows with every change of the DMA table: a cached translation is valid for one generation. */
  readonly generation: number;
  /** Window offset of this device's IOTLB (see @emudev/dma), for kernels. */
  readonly iotlb: number;
  /**
   * Copies guest memory out. Resolves at once where the range is mapped; goes by message where the consumer gave no descriptor.
   * Throws `GuestMemoryError` where a byte is not mapped or not readable by the device.
   */
  read(iova: bigint, into: Uint8Array): void | Promise<void>;
  write(iova: bigint, from: Uint8Array): void | Promise<void>;
  /** Window offset of a range that is mapped, permitted and contiguous in the window; undefined otherwise. */
  translate(iova: bigint, lengthBytes: number, access: Access): number | undefined;
}

export type DetachReason = 'closed' | 'connection-lost' | 'protocol-error' | 'server-closed';
export type QuiesceReason = 'dma-map' | 'dma-unmap' | 'irqs' | 'reset' | 'detach';

export interface RegionDescription {
  readonly index: number;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Parts that a consumer may map: offsets are relative to the region, `backing` is where region offset 0 lies in the file. */
  readonly mmap?: { readonly areas: readonly { readonly offset: number; readonly sizeBytes: number }[]; readonly backing: { readonly fd: number; readonly offset: number } };
}

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
