/**
 * Pages that the device wrote by DMA_WRITE. The server logs only what it writes itself; what it sends by message is written by
 * this process, which therefore has to keep the log of it (vfio-user specification, dirty pages).
 */
import type { DirtyBitmap } from './dirty-bitmap.ts';
import { MAX_DIRTY_BLOCKS } from './limits.ts';

const PAGE_SHIFT = 12n;
/** Pages of one block: a bitmap of 4096 bytes, 128 MiB of addresses. */
const BLOCK_SHIFT = 15n;
const BLOCK_MASK = (1n << BLOCK_SHIFT) - 1n;
const BLOCK_BYTES = 4096;

export class DirtyTracker {
  #on = false;
  /** Too much to remember: everything counts as dirty until the log is stopped. */
  #everything = false;
  readonly #blocks = new Map<bigint, Uint8Array>();

  start(): void {
    this.#on = true;
  }

  stop(): void {
    this.#on = false;
    this.#everything = false;
    this.#blocks.clear();
  }

  get on(): boolean {
    return this.#on;
  }

  /** The log of the server is lost: all that it may have held is dirty. */
  markEverything(): void {
    this.#everything = this.#on;
    this.#blocks.clear();
  }

  mark(iova: bigint, lengthBytes: number): void {
    if (!this.#on || this.#everything || lengthBytes === 0) return;
    const last = (iova + BigInt(lengthBytes) - 1n) >> PAGE_SHIFT;
    for (let page = iova >> PAGE_SHIFT; page <= last; page++) {
      const key = page >> BLOCK_SHIFT;
      let block = this.#blocks.get(key);
      if (block === undefined) {
        // CLIENT: which addresses are written is the server's choice, and a map without a descriptor may be huge.
        if (this.#blocks.size === MAX_DIRTY_BLOCKS) return this.markEverything();
        this.#blocks.set(key, (block = new Uint8Array(BLOCK_BYTES)));
      }
      const bit = Number(page & BLOCK_MASK);
      block[bit >> 3]! |= 1 << (bit & 7);
    }
  }

  /** Adds what was written within the bitmap's range to it and forgets it. A page that is only partly in the range stays. */
  take(into: DirtyBitmap): void {
    const { iova, end } = into;
    if (this.#everything) return into.mark(iova, end);
    const first = iova >> PAGE_SHIFT;
    const last = (end - 1n) >> PAGE_SHIFT;
    for (const [key, block] of this.#blocks) {
      const base = key << BLOCK_SHIFT;
      if (base > last || base + BLOCK_MASK < first) continue;
      const from = first > base ? Number(first - base) : 0;
      const to = last < base + BLOCK_MASK ? Number(last - base) : Number(BLOCK_MASK);
      for (let bit = from; bit <= to; bit++) {
        if ((block[bit >> 3]! & (1 << (bit & 7))) === 0) continue;
        const start = (base + BigInt(bit)) << PAGE_SHIFT;
        const stop = start + (1n << PAGE_SHIFT);
        into.mark(start, stop);
        if (start >= iova && stop <= end) block[bit >> 3]! &= ~(1 << (bit & 7));
      }
      if (block.every((byte) => byte === 0)) this.#blocks.delete(key);
    }
  }
}
