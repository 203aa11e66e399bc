/** Which pages of a range have been written: one bit a page, lowest address first, as it is on the wire. */
import { dirtyBitmapBytes } from '@emudev/vfio-user-protocol';
import type { IovaRange } from '@emudev/vfio-user-protocol';
import { badArgument } from './errors.ts';
import { MAX_DIRTY_BITMAP_BYTES } from './limits.ts';
import { hex } from './link.ts';

/** Which pages of [iova, iova + length) are dirty: the result of `DirtyLog.report` and `Dma.unmapDirty`. Iterates as `ranges`. */
export class DirtyBitmap {
  /** A multiple of `pageSize`. */
  readonly iova: bigint;
  /** Bytes; a multiple of `pageSize`, not 0. */
  readonly length: bigint;
  /** Bytes a bit stands for; a power of two. */
  readonly pageSize: bigint;
  readonly pages: number;
  readonly #bits: Uint8Array;

  /** All clean. ERR_VFU_CLIENT_ARGUMENT for a range that is not made of whole pages, or has too many. */
  constructor(iova: bigint, length: bigint, pageSize: bigint) {
    const bytes = dirtyBitmapBytes(length, pageSize);
    if (bytes < 0n || iova < 0n || iova % pageSize !== 0n || length % pageSize !== 0n || iova + length > 1n << 64n) {
      throw badArgument(`${hex(iova)}+${hex(length)} is no range of whole pages of ${pageSize} bytes`);
    }
    if (bytes > BigInt(MAX_DIRTY_BITMAP_BYTES)) throw badArgument(`a dirty bitmap of ${bytes} bytes, at most ${MAX_DIRTY_BITMAP_BYTES}: ask for less, or larger pages`);
    this.iova = iova;
    this.length = length;
    this.pageSize = pageSize;
    this.pages = Number(length / pageSize);
    this.#bits = new Uint8Array(Number(bytes));
  }

  /** One past the last address. */
  get end(): bigint {
    return this.iova + this.length;
  }

  /** Dirty pages. */
  get count(): number {
    let n = 0;
    for (const range of this.ranges()) n += Number(range.length / this.pageSize);
    return n;
  }

  /** Whether the page that holds this address has been written; false outside the range. */
  has(address: bigint): boolean {
    return address >= this.iova && address < this.end && this.#get(Number((address - this.iova) / this.pageSize));
  }

  /** Marks every page that shares an address with [start, stop); what is outside the range is passed over. */
  mark(start: bigint, stop: bigint): void {
    const from = start > this.iova ? start : this.iova;
    const to = stop < this.end ? stop : this.end;
    if (from >= to) return;
    const last = Number((to - 1n - this.iova) / this.pageSize);
    for (let page = Number((from - this.iova) / this.pageSize); page <= last;) {
      if ((page & 7) === 0 && page + 7 <= last) {
        this.#bits[page >> 3] = 0xff;
        page += 8;
      } else {
        this.#bits[page >> 3]! |= 1 << (page & 7);
        page++;
      }
    }
  }

  /** Adds the bits of a reply. Those beyond the last page of the range mean nothing: libvfio-user sets some. */
  addBits(bits: Uint8Array): void {
    if (bits.length !== this.#bits.length) throw badArgument(`${bits.length} bytes of bitmap, expected ${this.#bits.length}`);
    for (let i = 0; i < bits.length; i++) this.#bits[i]! |= bits[i]!;
  }

  /** Adds another bitmap's dirty pages, whatever its page size and range. */
  add(other: DirtyBitmap): void {
    for (const { iova, length } of other.ranges()) this.mark(iova, iova + length);
  }

  /** Runs of dirty pages, lowest address first. */
  *ranges(): Generator<IovaRange, void, undefined> {
    let first = -1;
    for (let page = 0; page <= this.pages; page++) {
      // Whole bytes of clean pages are the usual case.
      if (first === -1 && (page & 7) === 0 && this.#bits[page >> 3] === 0 && page + 8 <= this.pages) {
        page += 7;
        continue;
      }
      const dirty = page < this.pages && this.#get(page);
      if (dirty && first === -1) first = page;
      if (dirty || first === -1) continue;
      yield { iova: this.iova + BigInt(first) * this.pageSize, length: BigInt(page - first) * this.pageSize };
      first = -1;
    }
  }

  /** As `ranges`. */
  [Symbol.iterator](): Iterator<IovaRange> {
    return this.ranges();
  }

  #get(page: number): boolean {
    return (this.#bits[page >> 3]! & (1 << (page & 7))) !== 0;
  }
}
