/** Memory that this process shares with a device of any kind: a file for who maps files, and locked where the kernel pins it. */
import type { Window } from '@emudev/dma';
import type { Sys } from '@emudev/linux';
import { DmaAllocator } from '@emudev/vfio-user-client';
import type { DmaAllocatorOptions, DmaBuffer, DmaMapRequest } from '@emudev/vfio-user-client';
import { asBusError } from './client-error.ts';
import { BusError } from './errors.ts';
import { DMA_CHUNK_BYTES } from './limits.ts';
import type { BusDmaMap, PciTransport } from './transport.ts';

/** Zero-filled memory that this process and the device see. Dispose of it when the device no longer uses it: the next buffer gets the same bytes. */
export type BusDmaBuffer = DmaBuffer;

/** How `BusDma.allocate` gets its memory: `chunkBytes` (2 MiB) per DMA map, addresses from `firstIova` (4 GiB) on, `limitBytes` (1 GiB) together. Devices of one IOMMU group, or one container, get different addresses. */
export type BusDmaOptions = Pick<DmaAllocatorOptions, 'chunkBytes' | 'limitBytes' | 'firstIova' | 'readable' | 'writable'>;

/** `BusDevice.dma`: the memory that the device may use. */
export class BusDma {
  readonly #transport: PciTransport;
  readonly #window: Window;
  readonly #sys: Sys;
  readonly #options: BusDmaOptions;
  #allocator: DmaAllocator | undefined;
  #maps = 0;

  /** For `BusDevice`. */
  constructor(transport: PciTransport, window: Window, sys: Sys, options: BusDmaOptions) {
    this.#transport = transport;
    this.#window = window;
    this.#sys = sys;
    this.#options = options;
  }

  /** DMA maps that the device has from this side. */
  get mapCount(): number {
    return this.#maps;
  }

  /**
   * A buffer; `align` (bytes, a power of two up to a chunk, 64 by default) holds for its IOVA. ERR_BUS_DMA where no memory, no address or no DMA map is
   * left, or the kernel locks no more of it (ENOMEM); ERR_BUS_ARGUMENT.
   */
  async allocate(sizeBytes: number, align?: number): Promise<BusDmaBuffer> {
    try {
      this.#allocator ??= this.#newAllocator();
      return await this.#allocator.allocate(sizeBytes, align);
    } catch (error) {
      throw asBusError(error, { ERR_VFU_CLIENT_BUSY: 'ERR_BUS_DMA' });
    }
  }

  /** Gives the device memory of the caller's. Its addresses must be others than `allocate` uses. ERR_BUS_DMA. */
  async map(map: BusDmaMap): Promise<void> {
    if (this.#maps >= this.#transport.maxDmaMaps) throw new BusError('ERR_BUS_DMA', `the device takes no more than ${this.#transport.maxDmaMaps} DMA maps`, { errno: 28 });
    this.#maps++;
    try {
      await this.#transport.dmaMap(map);
    } catch (error) {
      this.#maps--;
      throw error;
    }
  }

  /** Takes back exactly one earlier map. When it resolves the device no longer uses the memory. */
  async unmap(iova: bigint, sizeBytes: number): Promise<void> {
    await this.#transport.dmaUnmap(iova, sizeBytes);
    this.#maps--;
  }

  /** For `BusDevice`, when the transport is closed. */
  async close(): Promise<void> {
    await this.#allocator?.[Symbol.asyncDispose]();
  }

  #newAllocator(): DmaAllocator {
    const { iovaRanges, dmaPageBytes } = this.#transport;
    const chunkBytes = this.#options.chunkBytes ?? Math.max(DMA_CHUNK_BYTES, dmaPageBytes);
    const mapper = {
      map: (chunk: DmaMapRequest) => this.#mapChunk(chunk),
      // Of no consequence: what the device keeps is its own hold on the memory, until it is closed.
      unmap: (iova: bigint, sizeBytes: number) => this.unmap(iova, sizeBytes).catch(() => {}),
      has: () => false,
      forget: () => {},
      ...(this.#transport.freeIova === undefined ? {} : { freeIova: (sizeBytes: number, align: number, from: bigint) => this.#transport.freeIova!(sizeBytes, align, from) }),
    };
    return new DmaAllocator(mapper, { ...this.#options, chunkBytes, pageBytes: dmaPageBytes, sys: this.#sys, ...(iovaRanges === undefined ? {} : { iovaRanges }) });
  }

  #mapChunk({ iova, sizeBytes, readable, writable, fd, memory }: DmaMapRequest): Promise<void> {
    return this.map({ iova, sizeBytes, readable, writable, fd: fd!, fdOffset: 0, address: this.#window.base + BigInt(memory!.byteOffset) });
  }
}
