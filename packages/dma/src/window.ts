/**
 * The DMA window: one linear memory for the whole process, in whose upper part the files of guests are mapped.
 *
 * A WebAssembly.Memory of 4 GiB reserves its addresses at once and never moves, so mmap(MAP_FIXED) inside it puts foreign
 * pages where kernels and typed arrays of every thread reach them. That is no documented feature of V8: `selfTest` checks it.
 */
import { LinuxError, MADV_DONTDUMP, MADV_DONTFORK, linux } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { DmaError } from './errors.ts';
import { FreeRanges } from './free-ranges.ts';
import { CHUNK_BYTES, PAGE_BYTES } from './iotlb.ts';
import { ALLOC_GRAIN_BYTES, MAX_FILE_BLOCK_BYTES, MAX_WINDOW_MAPPINGS, PRIVATE_BYTES, RELEASE_RETRY_MS, RELEASE_SLICE_BYTES, RELEASE_TURN_MS, WINDOW_BYTES, WINDOW_PAGES } from './limits.ts';
import { checkWindow } from './self-test.ts';

/** Byte offset in the window; 0 never names anything, so it can mean "none". */
export type WindowOffset = number;

/** The window as any thread sees it: what `attachWindow` makes of a posted memory and base. */
export interface WindowView {
  readonly memory: WebAssembly.Memory;
  /** Address of byte 0 in this process. */
  readonly base: bigint;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
}

/** The accessors over a memory that another thread has posted. Allocation and mapping stay with the thread that opened it. */
export function attachWindow(memory: WebAssembly.Memory, base: bigint): WindowView {
  const buffer = memory.buffer;
  return { memory, base, u8: new Uint8Array(buffer), i32: new Int32Array(buffer), u32: new Uint32Array(buffer), view: new DataView(buffer) };
}

/** Part of a file for `Window.map`: mmap(2) with MAP_SHARED, readable. */
export interface WindowMapRequest {
  /** Borrowed for the duration of the call: the mapping outlives it. */
  readonly fd: number;
  /** Multiple of 4096. */
  readonly fdOffset: number;
  /** Multiple of 4096, not 0. */
  readonly lengthBytes: number;
  /** Map for writing. A store to a page mapped without kills the process. */
  readonly write: boolean;
  /** Make the offset congruent to this address modulo 2 MiB (huge pages of the file go first). */
  readonly congruentTo?: bigint;
  /** `FileStatus.blockBytes` of the file, for who knows it already. */
  readonly blockBytes?: number;
}

/**
 * Part of a file in the window. Disposing puts zero pages in its place: at once where it is small, else slice by slice between
 * other work of the thread, because taking out gigabytes takes a second. Nobody may look there any more in either case.
 */
export interface WindowMapping extends Disposable {
  readonly offset: WindowOffset;
  readonly lengthBytes: number;
  /** Disposes; `released` is called when the last page is out. */
  release(released?: () => void): void;
}

let theWindow: Window | undefined;

/**
 * The DMA window of this process: 4 GiB of shared linear memory, private allocations below `PRIVATE_BYTES` and mapped files above.
 * Get it with `Window.open`; worker threads make a `WindowView` of its `memory` and `base` with `attachWindow`.
 */
export class Window implements WindowView, Disposable {
  readonly memory: WebAssembly.Memory;
  readonly base: bigint;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  #sys: Sys = linux;
  #references = 0;
  #epoch = 0;
  #private = new FreeRanges(ALLOC_GRAIN_BYTES, PRIVATE_BYTES);
  /** Everything at and above it was never handed out, so it is still zero and uncommitted. */
  #untouched = ALLOC_GRAIN_BYTES;
  readonly #allocated = new Map<WindowOffset, number>();
  #mappable = new FreeRanges(PRIVATE_BYTES, WINDOW_BYTES);
  readonly #mappings = new Set<WindowMapping>();
  /** Disposed mappings whose pages still have to be taken out. */
  readonly #releasing: { start: number; readonly end: number; readonly released: (() => void) | undefined }[] = [];
  #releaseTurn: NodeJS.Immediate | undefined;
  /** The kernel refused to take pages out: until then nobody asks again. */
  #releaseRetry: NodeJS.Timeout | undefined;
  readonly #onEmptied: (() => void)[] = [];

  /** The window of this process: every call returns the same object, and the last `[Symbol.dispose]` empties it. */
  static open(options: { sys?: Sys } = {}): Window {
    theWindow ??= new Window(options.sys ?? linux);
    if (theWindow.#references === 0) theWindow.#sys = options.sys ?? linux;
    theWindow.#references++;
    return theWindow;
  }

  private constructor(sys: Sys) {
    this.memory = new WebAssembly.Memory({ initial: WINDOW_PAGES, maximum: WINDOW_PAGES, shared: true });
    this.base = sys.addressOf(this.memory.buffer);
    ({ u8: this.u8, i32: this.i32, u32: this.u32, view: this.view } = attachWindow(this.memory, this.base));
  }

  /** The system calls it maps with: the real ones unless `open` was given others. */
  get sys(): Sys {
    return this.#sys;
  }

  /** Grows when the window is emptied: what was allocated in an earlier epoch is gone. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Files mapped at present. */
  get mappingCount(): number {
    return this.#mappings.size;
  }

  /** Bytes of the window in which nothing is mapped. */
  get mappableBytes(): number {
    return this.#mappable.freeBytes;
  }

  /** True while pages of disposed mappings are still being taken out. */
  get releasing(): boolean {
    return this.#releasing.length > 0;
  }

  /** Private bytes in use at present. */
  get allocatedBytes(): number {
    let sum = 0;
    for (const bytes of this.#allocated.values()) sum += bytes;
    return sum;
  }

  /** Zero-filled private memory; `align` is a power of two. ERR_WINDOW_FULL when there is none. */
  alloc(bytes: number, align: number = ALLOC_GRAIN_BYTES): WindowOffset {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || !Number.isSafeInteger(align) || align <= 0 || (align & (align - 1)) !== 0) {
      throw new DmaError('ERR_DMA_INVALID', `alloc(${bytes}, ${align}): expected a positive size and a power of two`);
    }
    const length = roundUp(bytes, ALLOC_GRAIN_BYTES);
    const offset = this.#private.take(length, Math.max(align, ALLOC_GRAIN_BYTES));
    if (offset === undefined) throw new DmaError('ERR_WINDOW_FULL', `no ${length} private bytes left in the window (${PRIVATE_BYTES} in all)`);
    if (offset < this.#untouched) this.u8.fill(0, offset, Math.min(offset + length, this.#untouched));
    this.#untouched = Math.max(this.#untouched, offset + length);
    this.#allocated.set(offset, length);
    return offset;
  }

  /** Gives an `alloc` back. Whoever may still hold the offset must be quiescent. */
  free(offset: WindowOffset): void {
    const length = this.#allocated.get(offset);
    if (length === undefined) throw new DmaError('ERR_DMA_INVALID', `free(${offset}): not allocated`);
    this.#allocated.delete(offset);
    this.#private.give(offset, length);
  }

  /**
   * Puts part of a file into the window. ERR_WINDOW_FULL when there is no room, ERR_DMA_INVALID for unaligned numbers,
   * ERR_DMA_FILE with the errno of fstat or mmap where the kernel refuses. The caller has checked the file's size.
   */
  map(request: WindowMapRequest): WindowMapping {
    const { fd, fdOffset, lengthBytes } = request;
    if (!isPageMultiple(fdOffset) || !isPageMultiple(lengthBytes) || lengthBytes === 0) {
      throw new DmaError('ERR_DMA_INVALID', `file offset ${fdOffset} and length ${lengthBytes} must be multiples of ${PAGE_BYTES}, the length not 0`);
    }
    if (this.#mappings.size >= MAX_WINDOW_MAPPINGS) throw new DmaError('ERR_WINDOW_FULL', `the window holds ${MAX_WINDOW_MAPPINGS} mappings already`);
    // Huge pages are mapped whole: hugetlbfs wants address, offset and length aligned, and would silently round the length up
    // over a neighbour. Other files may report a large block as well; then this costs a little room.
    const block = usableBlock(request.blockBytes ?? failingAsFile(() => this.#sys.fstat(fd).blockBytes));
    const lead = fdOffset % block;
    const length = roundUp(lead + lengthBytes, block);
    const start = this.#place(length, lead, block, request.congruentTo);
    if (start === undefined) throw new DmaError('ERR_WINDOW_FULL', `no ${length} contiguous bytes left in the window (${WINDOW_BYTES - PRIVATE_BYTES} in all)`);
    const address = this.base + BigInt(start);
    try {
      failingAsFile(() => this.#sys.mmap({ address, lengthBytes: length, read: true, write: request.write, fd, fdOffset: fdOffset - lead }));
    } catch (error) {
      // MAP_FIXED may have removed what was there before it failed: never leave a hole.
      this.#release(start, length, undefined);
      throw error;
    }
    // Keeps guest memory out of our core dumps.
    this.#advise(start, length, MADV_DONTDUMP);
    const release = (released?: () => void): void => {
      if (this.#mappings.delete(mapping)) this.#release(start, length, released);
    };
    const mapping: WindowMapping = { offset: start + lead, lengthBytes, release, [Symbol.dispose]: release };
    this.#mappings.add(mapping);
    return mapping;
  }

  #place(length: number, lead: number, block: number, congruentTo: bigint | undefined): number | undefined {
    if (block > PAGE_BYTES) return this.#mappable.take(length, block, 0, Number(this.base % BigInt(block)));
    if (congruentTo !== undefined) {
      const residue = Number((congruentTo - BigInt(lead)) & BigInt(CHUNK_BYTES - 1));
      return this.#mappable.take(length, CHUNK_BYTES, residue);
    }
    return this.#mappable.take(length, PAGE_BYTES);
  }

  #release(start: number, length: number, released: (() => void) | undefined): void {
    if (length <= RELEASE_SLICE_BYTES && this.#releasing.length === 0 && this.#putZeroPages(start, length)) {
      this.#mappable.give(start, length);
      released?.();
      return;
    }
    this.#releasing.push({ start, end: start + length, released });
    if (this.#releaseRetry === undefined) this.#releaseSoon();
  }

  #releaseSoon(): void {
    this.#releaseTurn ??= setImmediate(() => { this.#releaseSlices(performance.now() + RELEASE_TURN_MS); });
  }

  /** At least one slice, then as many as there is time for. Pages that the kernel does not take out stay where they are, and nobody gets the room. */
  #releaseSlices(until: number): void {
    this.#releaseTurn = undefined;
    for (let range = this.#releasing[0]; range !== undefined; range = this.#releasing[0]) {
      const length = this.#putZeroPagesFrom(range);
      if (length === 0) {
        this.#releaseLater();
        return;
      }
      this.#mappable.give(range.start, length);
      range.start += length;
      if (range.start === range.end) {
        this.#releasing.shift();
        range.released?.();
      }
      if (this.#releasing.length > 0 && performance.now() >= until) {
        this.#releaseSoon();
        return;
      }
    }
  }

  /** Bytes taken out: one slice; or, where the kernel has no mapping left to split the range with, all of it; or 0. */
  #putZeroPagesFrom(range: { readonly start: number; readonly end: number }): number {
    const all = range.end - range.start;
    const slice = Math.min(RELEASE_SLICE_BYTES, all);
    if (this.#putZeroPages(range.start, slice)) return slice;
    return slice < all && this.#putZeroPages(range.start, all) ? all : 0;
  }

  #releaseLater(): void {
    clearTimeout(this.#releaseRetry);
    this.#releaseRetry = setTimeout(() => {
      this.#releaseRetry = undefined;
      this.#releaseSlices(performance.now() + RELEASE_TURN_MS);
    }, RELEASE_RETRY_MS).unref();
  }

  /** False: the kernel refused (ENOMEM past vm.max_map_count). As a rule what was there is there still; readable it is in any case but one, a kernel out of memory. */
  #putZeroPages(start: number, length: number): boolean {
    try {
      this.#sys.mmap({ address: this.base + BigInt(start), lengthBytes: length, read: true, write: true });
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      return false;
    }
    // As V8 marks its own reservation: only then does the kernel join the hole with its neighbours again.
    this.#advise(start, length, MADV_DONTFORK);
    return true;
  }

  /** Best effort: nothing breaks where the kernel refuses. */
  #advise(start: number, length: number, advice: number): void {
    try {
      this.#sys.madvise(this.base + BigInt(start), length, advice);
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
    }
  }

  /** `observer` is called once, when the last `open` is given back: whatever it still holds for the window is of no use then. */
  onEmptied(observer: () => void): void {
    this.#onEmptied.push(observer);
  }

  /** Throws ERR_WINDOW_SELF_TEST where files do not show up in this engine's linear memory as they should. */
  selfTest(): void {
    checkWindow(this);
  }

  /** Gives one `open` back. The last one empties the window: whatever is still mapped or allocated is gone. */
  [Symbol.dispose](): void {
    if (this.#references === 0 || --this.#references > 0) return;
    for (const mapping of [...this.#mappings]) mapping[Symbol.dispose]();
    clearImmediate(this.#releaseTurn);
    this.#releaseSlices(Infinity);
    for (const observer of this.#onEmptied.splice(0)) observer();
    // Where that fails the mark stays, and `alloc` writes the zeros.
    if (this.#untouched > ALLOC_GRAIN_BYTES && this.#putZeroPages(0, roundUp(this.#untouched, PAGE_BYTES))) this.#untouched = ALLOC_GRAIN_BYTES;
    this.#epoch++;
    this.#allocated.clear();
    this.#private = new FreeRanges(ALLOC_GRAIN_BYTES, PRIVATE_BYTES);
  }
}

/** What mappings of a file have to be aligned to: its huge pages, else 4 KiB. `reported`: `FileStatus.blockBytes`. */
export function usableBlock(reported: number): number {
  const usable = reported > PAGE_BYTES && reported <= MAX_FILE_BLOCK_BYTES && (reported & (reported - 1)) === 0;
  return usable ? reported : PAGE_BYTES;
}

/** Turns a LinuxError into ERR_DMA_FILE with its errno. */
export function failingAsFile<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new DmaError('ERR_DMA_FILE', `the file cannot be mapped: ${error.message}`, { errno: error.errno, cause: error });
  }
}

export function isPageMultiple(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0 && n % PAGE_BYTES === 0;
}

function roundUp(n: number, multiple: number): number {
  return Math.ceil(n / multiple) * multiple;
}
