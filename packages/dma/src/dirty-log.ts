/**
 * Which pages of a consumer's memory the device has written, from `start` to `stop`.
 *
 * The log itself always has pages of 4 KiB: the grain of DMA regions. A report may have any page size: a bit of it is set when
 * any logged page that it touches is dirty, and a report clears the logged pages that lie in its range entirely. So a page is
 * reported once too often rather than not at all: both halves of a dirty page as long as nobody asks for the whole of it.
 */
import { DmaError } from './errors.ts';
import { DirtyPages } from './dirty-pages.ts';
import { PAGE_BYTES, PAGE_SHIFT } from './iotlb.ts';
import { MAX_DIRTY_BITMAP_BYTES, MAX_LOGGED_RANGES } from './limits.ts';
import type { RegionIndex } from './region-index.ts';

/** Device addresses [iova, iova + length): bytes, not empty, below 2^64. */
export interface IovaRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/** What the log knows of a region. */
export interface LoggedRegion {
  readonly iova: bigint;
  readonly end: bigint;
  /** False where the consumer executes the writes itself and keeps the log of them (DMA messages). */
  readonly logged: boolean;
}

interface PageRange {
  readonly first: number;
  readonly end: number;
}

const PAGE = BigInt(PAGE_BYTES);
const SHIFT = BigInt(PAGE_SHIFT);
const ADDRESS_SPACE_END = 1n << 64n;

/**
 * The pages a device has written between `start` and `stop`, as VFIO's DMA_LOGGING features report them (linux/vfio.h); one per
 * `IovaSpace`. Sees what goes through `IovaSpace.write` and `markDirty`, not what the consumer writes itself.
 */
export class DirtyLog {
  readonly #regions: RegionIndex<LoggedRegion>;
  readonly #pages = new DirtyPages();
  #pageSize: bigint | undefined;
  /** undefined: everything is logged. */
  #ranges: PageRange[] | undefined;

  constructor(regions: RegionIndex<LoggedRegion>) {
    this.#regions = regions;
  }

  /** True between `start` and `stop`. */
  get active(): boolean {
    return this.#pageSize !== undefined;
  }

  /**
   * Logs from now on what is written in `ranges`, or everywhere if there are none. While it logs already, the same page size
   * adds ranges and another one is refused. Ranges in too many pieces (MAX_LOGGED_RANGES) make it log everywhere. `pageSize`: what
   * the consumer means to ask for; a power of two.
   * @throws DmaError ERR_DMA_INVALID (EINVAL)
   */
  start(pageSize: bigint, ranges: readonly IovaRange[]): void {
    checkPageSize(pageSize);
    for (const { iova, length } of ranges) checkRange(iova, length);
    if (this.#pageSize !== undefined && this.#pageSize !== pageSize) {
      throw new DmaError('ERR_DMA_INVALID', `dirty pages are logged in pages of ${this.#pageSize} bytes already, not ${pageSize}`);
    }
    const before = this.#pageSize === undefined ? [] : this.#ranges;
    this.#pageSize = pageSize;
    const all = before === undefined || ranges.length === 0 ? undefined : merged([...before, ...ranges.map(touchedPages)]);
    // CLIENT: every write looks at all of them, and it may start again and again. Logging more than was asked for misses nothing.
    this.#ranges = all === undefined || all.length > MAX_LOGGED_RANGES ? undefined : all;
  }

  /** Forgets everything. Nothing happens where nothing is logged. */
  stop(): void {
    this.#pageSize = undefined;
    this.#ranges = undefined;
    this.#pages.clear();
  }

  /** After a write. Of the range only what lies in logged regions counts: that bounds the memory the log takes. */
  mark(iova: bigint, lengthBytes: number): void {
    if (this.#pageSize === undefined || !(lengthBytes > 0)) return;
    const end = iova + BigInt(lengthBytes);
    for (let region = this.#firstIn(iova, end); region !== undefined && region.iova < end; region = this.#regions.after(region.iova)) {
      if (region.logged) this.#add(touchedPages(intersection(region, iova, end)));
    }
  }

  /**
   * One bit per page of `pageSize` bytes from `iova` on, in whole 64-bit words; what it reports is clean afterwards. Holes, and
   * regions whose writes the consumer sees itself, are clean.
   * @throws DmaError ERR_DMA_INVALID (EINVAL): no log, a page size that is no power of two or larger than the range, a range that
   * is none; ERR_DMA_NOT_MAPPED (ENOENT): nothing at all is mapped there; ERR_DMA_LIMIT (ENOSPC): a bitmap of more than 256 MiB
   */
  report(iova: bigint, length: bigint, pageSize: bigint): Uint8Array {
    if (this.#pageSize === undefined) throw new DmaError('ERR_DMA_INVALID', 'dirty pages are not being logged');
    checkPageSize(pageSize);
    checkRange(iova, length);
    if (pageSize > length) throw new DmaError('ERR_DMA_INVALID', `a page of ${pageSize} bytes is larger than the range of ${length}`);
    const end = iova + length;
    if (this.#firstIn(iova, end) === undefined) throw new DmaError('ERR_DMA_NOT_MAPPED', `nothing is mapped in [0x${iova.toString(16)}, 0x${end.toString(16)})`);
    const bits = (length + pageSize - 1n) / pageSize;
    const bytes = 8n * ((bits + 63n) / 64n);
    if (bytes > BigInt(MAX_DIRTY_BITMAP_BYTES)) throw new DmaError('ERR_DMA_LIMIT', `a bitmap of ${bytes} bytes, at most ${MAX_DIRTY_BITMAP_BYTES}`);
    const bitmap = new Uint8Array(Number(bytes));
    this.#fill(bitmap, iova, end, pageSize, Number(bits));
    this.#pages.remove(Number((iova + PAGE - 1n) >> SHIFT), Number(end >> SHIFT));
    return bitmap;
  }

  /** What lay in [iova, end) is no longer mapped. */
  forget(iova: bigint, end: bigint): void {
    this.#pages.remove(Number(iova >> SHIFT), Number(end >> SHIFT));
  }

  /** Bits are relative to `iova`, which may lie inside a page; either page size may be the larger one. Exact: bits are below 2^31. */
  #fill(bitmap: Uint8Array, iova: bigint, end: bigint, pageSize: bigint, bits: number): void {
    const bitsPerPage = pageSize < PAGE ? Number(PAGE / pageSize) : 1;
    const pagesPerBit = pageSize > PAGE ? Number(pageSize / PAGE) : 1;
    const { first, end: endPage } = touchedPages({ iova, length: end - iova });
    // Bits before the first whole page, and from the start of a page to the last byte of it.
    const within = Number(iova % PAGE);
    const lead = Math.ceil((within * bitsPerPage) / PAGE_BYTES);
    const last = Math.floor(((PAGE_BYTES - 1 - within) * bitsPerPage) / PAGE_BYTES);
    this.#pages.forEachRun(first, endPage, (from, to) => {
      const firstBit = Math.max(0, Math.floor(((from - first) * bitsPerPage - lead) / pagesPerBit));
      const lastBit = Math.min(bits - 1, Math.floor(((to - 1 - first) * bitsPerPage + last) / pagesPerBit));
      setBits(bitmap, firstBit, lastBit + 1);
    });
  }

  #firstIn(iova: bigint, end: bigint): LoggedRegion | undefined {
    const before = this.#regions.atOrBefore(iova);
    if (before !== undefined && before.end > iova) return before;
    const next = this.#regions.after(iova);
    return next !== undefined && next.iova < end ? next : undefined;
  }

  #add({ first, end }: PageRange): void {
    if (this.#ranges === undefined) return this.#pages.add(first, end);
    for (const range of this.#ranges) {
      const from = Math.max(first, range.first);
      const to = Math.min(end, range.end);
      if (from < to) this.#pages.add(from, to);
    }
  }
}

/** Bits [from, to), the lowest of a byte first. */
function setBits(bitmap: Uint8Array, from: number, to: number): void {
  if (from >= to) return;
  const first = from >>> 3;
  const last = (to - 1) >>> 3;
  const head = (0xff << (from & 7)) & 0xff;
  const tail = 0xff >>> (7 - ((to - 1) & 7));
  if (first === last) {
    bitmap[first]! |= head & tail;
    return;
  }
  bitmap[first]! |= head;
  bitmap.fill(0xff, first + 1, last);
  bitmap[last]! |= tail;
}

function touchedPages({ iova, length }: IovaRange): PageRange {
  return { first: Number(iova >> SHIFT), end: Number((iova + length - 1n) >> SHIFT) + 1 };
}

function intersection(region: LoggedRegion, iova: bigint, end: bigint): IovaRange {
  const from = region.iova > iova ? region.iova : iova;
  return { iova: from, length: (region.end < end ? region.end : end) - from };
}

/** Sorted and disjoint: what two ranges have in common is added once. */
function merged(ranges: PageRange[]): PageRange[] {
  const result: PageRange[] = [];
  for (const range of ranges.sort((a, b) => a.first - b.first)) {
    const before = result.at(-1);
    if (before !== undefined && range.first <= before.end) result[result.length - 1] = { first: before.first, end: Math.max(before.end, range.end) };
    else result.push(range);
  }
  return result;
}

// CLIENT: page sizes and ranges are the consumer's.
function checkPageSize(pageSize: bigint): void {
  if (pageSize <= 0n || (pageSize & (pageSize - 1n)) !== 0n) throw new DmaError('ERR_DMA_INVALID', `a page size of ${pageSize} bytes: expected a power of two`);
}

function checkRange(iova: bigint, length: bigint): void {
  if (iova < 0n || length <= 0n || iova + length > ADDRESS_SPACE_END) throw new DmaError('ERR_DMA_INVALID', `0x${iova.toString(16)} + 0x${length.toString(16)}: expected a non-empty range below 2^64`);
}
