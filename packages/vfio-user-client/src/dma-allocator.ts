/**
 * Memory for a driver: sealed memory files, seen by this process in the DMA window and by the device at addresses chosen here. One
 * DMA map per chunk, so that many buffers cost few messages.
 */
import { FreeRanges, Window } from '@emudev/dma';
import type { WindowMapping } from '@emudev/dma';
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, OwnedFd, linux } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import type { DmaMapRequest } from './dma-maps.ts';
import { badArgument, ClientError } from './errors.ts';
import { ALLOCATOR_ALIGN_BYTES, ALLOCATOR_CHUNK_BYTES, ALLOCATOR_FIRST_IOVA, ALLOCATOR_LIMIT_BYTES } from './limits.ts';

const PAGE_BYTES = 4096;
const ANY_IOVA: readonly { readonly first: bigint; readonly last: bigint }[] = [{ first: 0n, last: 0xffff_ffff_ffff_ffffn }];

/** The device, as an allocator sees it: `client.dma`, or another way to a device that this process shares memory with. */
export interface DmaMapper {
  /** Gives the device a chunk; `memory` is a view of the DMA window. */
  map(chunk: DmaMapRequest): Promise<void>;
  /** Takes back what was mapped with exactly this range. A `ClientError` counts as done: the device has gone, or keeps its own mapping of the file. */
  unmap(iova: bigint, sizeBytes: number): Promise<void>;
  /** Whether it is mapped although `unmap` has failed. */
  has(iova: bigint, sizeBytes: number): boolean;
  /** Makes `has` false: the memory goes all the same. */
  forget(iova: bigint, sizeBytes: number): void;
  /**
   * The lowest multiple of `align` from `from` on where nothing is mapped and the device reaches; undefined: there is none. `map` follows in the same
   * turn. Absent: the allocator is the only one that maps, and `iovaRanges` are what the device reaches.
   */
  freeIova?(sizeBytes: number, align: number, from: bigint): bigint | undefined;
}

/** How a `DmaAllocator` gets its memory, and what the device may do with it. */
export interface DmaAllocatorOptions {
  /** Bytes mapped to the device at a time; a power of two and a multiple of 4096. 2 MiB by default; larger buffers get a chunk of their own. */
  readonly chunkBytes?: number;
  /** All chunks together; 1 GiB by default. */
  readonly limitBytes?: number;
  /** Addresses from here on are used, a multiple of `chunkBytes`; 4 GiB by default, where 32-bit devices do not reach. */
  readonly firstIova?: bigint;
  /** Addresses that the device may be given, both ends included, ascending; any by default. */
  readonly iovaRanges?: readonly { readonly first: bigint; readonly last: bigint }[];
  /** What sizes of maps are multiples of; a power of two from 4096 (the default) to `chunkBytes`. */
  readonly pageBytes?: number;
  /** What the device may do; both by default. */
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** false: no descriptor goes to the server, the device comes by DMA messages. */
  readonly shared?: boolean;
  readonly sys?: Sys;
}

/** Part of a chunk, zero-filled. Dispose of it when the device no longer uses it: the next buffer gets the same bytes. */
export interface DmaBuffer extends Disposable {
  /** Where the device sees it. */
  readonly iova: bigint;
  readonly sizeBytes: number;
  /** Where this process sees it. */
  readonly bytes: Uint8Array;
  /** The same, as an offset in the DMA window (for kernels). */
  readonly windowOffset: number;
  /** The file it lies in, and where. The descriptor is the allocator's. */
  readonly fd: number;
  readonly fdOffset: number;
}

interface Chunk {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly file: OwnedFd;
  readonly mapping: WindowMapping;
  readonly free: FreeRanges;
}

/**
 * Makes buffers that a driver and its device share: memory files, mapped into the DMA window here and by DMA_MAP at the device.
 * Dispose of it when the device no longer uses any of them.
 */
export class DmaAllocator implements AsyncDisposable {
  readonly #dma: DmaMapper;
  readonly #window: Window;
  readonly #sys: Sys;
  readonly #options: Required<Omit<DmaAllocatorOptions, 'sys'>>;
  readonly #chunks: Chunk[] = [];
  #bytes = 0;
  #nextIova: bigint;
  /** Chunks are made one at a time, or two callers would make one each. */
  #making: Promise<unknown> = Promise.resolve();
  #disposed = false;

  /** `dma`: `client.dma` as a rule. */
  constructor(dma: DmaMapper, options: DmaAllocatorOptions = {}) {
    const { chunkBytes = ALLOCATOR_CHUNK_BYTES, limitBytes = ALLOCATOR_LIMIT_BYTES, firstIova = ALLOCATOR_FIRST_IOVA, iovaRanges = ANY_IOVA, pageBytes = PAGE_BYTES } = options;
    const { readable = true, writable = true, shared = true } = options;
    if (!isPowerOfTwo(pageBytes) || pageBytes < PAGE_BYTES) throw badArgument(`pages of ${pageBytes} bytes`);
    if (!isPowerOfTwo(chunkBytes) || chunkBytes < pageBytes) throw badArgument(`chunks of ${chunkBytes} bytes`);
    if (firstIova < 0n || firstIova % BigInt(chunkBytes) !== 0n) throw badArgument(`a first address of 0x${firstIova.toString(16)} for chunks of ${chunkBytes} bytes`);
    this.#options = { chunkBytes, limitBytes, firstIova, iovaRanges, pageBytes, readable, writable, shared };
    this.#dma = dma;
    this.#sys = options.sys ?? linux;
    this.#window = Window.open();
    this.#nextIova = firstIova;
  }

  /** Bytes mapped to the device. */
  get mappedBytes(): number {
    return this.#bytes;
  }

  /**
   * `align` (bytes, a power of two up to `chunkBytes`) holds for `iova`. ERR_VFU_CLIENT_BUSY beyond `limitBytes` or `iovaRanges`; else what mapping
   * says: ERR_VFU_CLIENT_ARGUMENT when the server takes no more maps, the window's DmaError.
   */
  async allocate(sizeBytes: number, align: number = ALLOCATOR_ALIGN_BYTES): Promise<DmaBuffer> {
    const { chunkBytes } = this.#options;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) throw badArgument(`a buffer of ${sizeBytes} bytes`);
    if (!Number.isInteger(align) || align <= 0 || align > chunkBytes || (align & (align - 1)) !== 0) throw badArgument(`an alignment of ${align} bytes`);
    const grain = Math.max(align, ALLOCATOR_ALIGN_BYTES);
    const length = Math.ceil(sizeBytes / ALLOCATOR_ALIGN_BYTES) * ALLOCATOR_ALIGN_BYTES;
    const made = this.#making.then(() => this.#place(sizeBytes, length, grain));
    this.#making = made.catch(() => {});
    return made;
  }

  /** Unmaps everything from the device, and when it has, from this process. Buffers are gone: their bytes read as zero. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#making;
    for (const chunk of this.#chunks.splice(0)) {
      try {
        await this.#dma.unmap(chunk.iova, chunk.sizeBytes);
      } catch (error) {
        // The connection has gone, and with it the device's use of the memory; or the server refuses, and keeps its own mapping of the file.
        if (!(error instanceof ClientError)) throw error;
        if (this.#dma.has(chunk.iova, chunk.sizeBytes)) this.#dma.forget(chunk.iova, chunk.sizeBytes);
      } finally {
        chunk.mapping[Symbol.dispose]();
        chunk.file.close();
      }
    }
    this.#bytes = 0;
    this.#window[Symbol.dispose]();
  }

  async #place(sizeBytes: number, length: number, align: number): Promise<DmaBuffer> {
    if (this.#disposed) throw badArgument('the allocator has been disposed of');
    for (const chunk of this.#chunks) {
      const at = chunk.free.take(length, align);
      if (at !== undefined) return this.#buffer(chunk, at, sizeBytes, length);
    }
    const chunk = await this.#newChunk(length);
    this.#chunks.push(chunk);
    return this.#buffer(chunk, chunk.free.take(length, align)!, sizeBytes, length);
  }

  async #newChunk(atLeast: number): Promise<Chunk> {
    const { chunkBytes, limitBytes, pageBytes, readable, writable, shared } = this.#options;
    const sizeBytes = Math.max(chunkBytes, Math.ceil(atLeast / pageBytes) * pageBytes);
    if (this.#bytes + sizeBytes > limitBytes) throw new ClientError('ERR_VFU_CLIENT_BUSY', `${this.#bytes} bytes are allocated, ${limitBytes} may be`);
    const iova = this.#freeIova(sizeBytes);
    const file = new OwnedFd(this.#sys.memfdCreate('vfio-user-dma', { allowSealing: true }), this.#sys);
    let mapping: WindowMapping | undefined;
    try {
      this.#sys.ftruncate(file.fd, sizeBytes);
      // Servers ask for it: a file that cannot shrink cannot kill them.
      this.#sys.addSeals(file.fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
      mapping = this.#window.map({ fd: file.fd, fdOffset: 0, lengthBytes: sizeBytes, write: true });
      const memory = this.#window.u8.subarray(mapping.offset, mapping.offset + sizeBytes);
      await this.#dma.map({ iova, sizeBytes, readable, writable, memory, ...(shared ? { fd: file.fd } : {}) });
    } catch (error) {
      mapping?.[Symbol.dispose]();
      file.close();
      throw error;
    }
    this.#bytes += sizeBytes;
    // The next one begins where every alignment up to a chunk holds.
    this.#nextIova = iova + BigInt(Math.ceil(sizeBytes / chunkBytes) * chunkBytes);
    return { iova, sizeBytes, file, mapping, free: new FreeRanges(0, sizeBytes) };
  }

  #freeIova(sizeBytes: number): bigint {
    const { chunkBytes } = this.#options;
    const iova = this.#dma.freeIova === undefined ? this.#nextReachable(BigInt(sizeBytes), BigInt(chunkBytes)) : this.#dma.freeIova(sizeBytes, chunkBytes, this.#nextIova);
    if (iova === undefined) throw new ClientError('ERR_VFU_CLIENT_BUSY', `no ${sizeBytes} bytes are left of the addresses that the device may be given`);
    return iova;
  }

  #nextReachable(sizeBytes: bigint, align: bigint): bigint | undefined {
    for (const { first, last } of this.#options.iovaRanges) {
      const from = first > this.#nextIova ? first : this.#nextIova;
      const start = (from + align - 1n) / align * align;
      if (start + sizeBytes - 1n <= last) return start;
    }
    return undefined;
  }

  #buffer(chunk: Chunk, at: number, sizeBytes: number, length: number): DmaBuffer {
    const windowOffset = chunk.mapping.offset + at;
    const bytes = this.#window.u8.subarray(windowOffset, windowOffset + sizeBytes);
    bytes.fill(0);
    let freed = false;
    const free = (): void => {
      if (freed) return;
      freed = true;
      chunk.free.give(at, length);
    };
    return { iova: chunk.iova + BigInt(at), sizeBytes, bytes, windowOffset, fd: chunk.file.fd, fdOffset: at, [Symbol.dispose]: free };
  }
}

function isPowerOfTwo(n: number): boolean {
  return Number.isSafeInteger(n) && n > 0 && (BigInt(n) & (BigInt(n) - 1n)) === 0n;
}
