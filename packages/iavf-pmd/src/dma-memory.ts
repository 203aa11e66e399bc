import type { Window, WindowMapping } from '@emudev/dma';
import { F_SEAL_GROW, F_SEAL_SHRINK, OwnedFd, type Sys } from '@emudev/linux';
import { IavfError } from './errors.ts';

/** Where the device finds the driver's memory. Above 4 GiB, so that no code forgets the high half of an address. */
export const DMA_BASE = 0x1_0000_0000n;
/** Where it finds the buffers that ports share. */
export const POOL_BASE = 0x2_0000_0000n;
/** One entry of the device's translation table covers this much if address and file agree modulo it. */
const CHUNK_BYTES = 2 * 1024 * 1024;

export interface DmaBlock {
  /** Window offset. */
  readonly offset: number;
  readonly iova: bigint;
  readonly bytes: number;
}

/**
 * Memory that devices may touch: one memfd, in the window and (at `base`) in their address spaces. Carved up front to back, never given
 * back: what is in it lives as long as it.
 */
export class DmaMemory implements Disposable {
  readonly bytes: number;
  readonly #window: Window;
  readonly #fd: OwnedFd;
  readonly #mapping: WindowMapping;
  readonly #base: bigint;
  #used = 0;

  constructor(window: Window, sys: Sys, bytes: number, base: bigint = DMA_BASE) {
    this.#base = base;
    this.bytes = Math.ceil(bytes / CHUNK_BYTES) * CHUNK_BYTES;
    this.#window = window;
    this.#fd = new OwnedFd(sys.memfdCreate('iavf-pmd', { allowSealing: true }), sys);
    try {
      sys.ftruncate(this.#fd.fd, this.bytes);
      // Nobody can pull the file from under either side.
      sys.addSeals(this.#fd.fd, F_SEAL_SHRINK | F_SEAL_GROW);
      this.#mapping = window.map({ fd: this.#fd.fd, fdOffset: 0, lengthBytes: this.bytes, write: true, congruentTo: base });
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  get fd(): number {
    return this.#fd.fd;
  }

  /** Where this process has it: what a kernel's IOMMU is told. */
  get address(): bigint {
    return this.#window.base + BigInt(this.#mapping.offset);
  }

  /** `align` is a power of two up to 4096. */
  carve(bytes: number, align = 4096): DmaBlock {
    const start = Math.ceil(this.#used / align) * align;
    if (start + bytes > this.bytes) throw new IavfError('ERR_IAVF_CONFIG', `no ${bytes} bytes left of ${this.bytes} for rings and buffers`);
    this.#used = start + bytes;
    return { offset: this.#mapping.offset + start, iova: this.#base + BigInt(start), bytes };
  }

  zero(block: DmaBlock): void {
    this.#window.u8.fill(0, block.offset, block.offset + block.bytes);
  }

  /** Afterwards the window holds zero pages there: a stale access reads nothing and harms nobody. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#fd.close();
  }
}
