import {
  CHUNK_BYTES, IOTLB_BYTES, IOTLB_MAX_KEYS, IOTLB_TABLE, PAGES_PER_CHUNK, PAGE_BYTES, PAGE_SHIFT,
  iotlbDelete, iotlbInit, iotlbSet,
} from './iotlb.ts';
import { DmaError } from './errors.ts';
import type { Window, WindowOffset } from './window.ts';

/** A range of IOVAs with its place in the window. All multiples of 4 KiB; `flags` is a mask of IOTLB_READ and IOTLB_WRITE. */
export interface MappedRange {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly offset: WindowOffset;
  readonly flags: number;
}

interface PageTable {
  readonly offset: WindowOffset;
  pages: number;
}

/** Keeps one device's IOTLB: owns its memory and its page tables. Ranges never overlap: the caller has checked. */
export class ChunkTable implements Disposable {
  readonly offset: WindowOffset;
  readonly #window: Window;
  readonly #tables = new Map<number, PageTable>();
  #keys = 0;
  #generation = 0;
  #disposed = false;

  constructor(window: Window) {
    this.#window = window;
    this.offset = window.alloc(IOTLB_BYTES);
    iotlbInit(window.u32, this.offset);
  }

  get generation(): number {
    return this.#generation;
  }

  /** All of the range or nothing: throws ERR_DMA_LIMIT or ERR_WINDOW_FULL before anything has changed. */
  add(range: MappedRange): void {
    const chunks = chunksOf(range);
    const fresh: number[] = [];
    let keys = this.#keys;
    for (const piece of chunks) {
      if (piece.whole || !this.#tables.has(piece.chunk)) keys++;
      if (!piece.whole && !this.#tables.has(piece.chunk)) fresh.push(piece.chunk);
    }
    if (keys > IOTLB_MAX_KEYS) throw new DmaError('ERR_DMA_LIMIT', `the maps of this device touch more than ${IOTLB_MAX_KEYS} chunks of 2 MiB`);
    this.#makeTables(fresh);
    const { u32 } = this.#window;
    for (const piece of chunks) {
      if (piece.whole) {
        iotlbSet(u32, this.offset, piece.chunk, (piece.offset | range.flags) >>> 0);
        continue;
      }
      const table = this.#tables.get(piece.chunk)!;
      for (let page = 0; page < piece.pages; page++) {
        u32[(table.offset >>> 2) + piece.firstPage + page] = ((piece.offset + page * PAGE_BYTES) | range.flags) >>> 0;
      }
      table.pages += piece.pages;
    }
    this.#keys = keys;
    this.#changed();
  }

  remove(range: MappedRange): void {
    const { u32 } = this.#window;
    for (const piece of chunksOf(range)) {
      const table = piece.whole ? undefined : this.#tables.get(piece.chunk)!;
      if (table !== undefined) {
        u32.fill(0, (table.offset >>> 2) + piece.firstPage, (table.offset >>> 2) + piece.firstPage + piece.pages);
        table.pages -= piece.pages;
        if (table.pages > 0) continue;
        this.#tables.delete(piece.chunk);
      }
      iotlbDelete(u32, this.offset, piece.chunk);
      if (table !== undefined) this.#window.free(table.offset);
      this.#keys--;
    }
    this.#changed();
  }

  /** A change that the table itself does not show (a region reached by message came or went). */
  touch(): void {
    this.#changed();
  }

  #makeTables(chunks: number[]): void {
    const made: number[] = [];
    try {
      for (const chunk of chunks) {
        const offset = this.#window.alloc(PAGES_PER_CHUNK * 4, PAGES_PER_CHUNK * 4);
        this.#tables.set(chunk, { offset, pages: 0 });
        made.push(chunk);
      }
    } catch (error) {
      for (const chunk of made) {
        this.#window.free(this.#tables.get(chunk)!.offset);
        this.#tables.delete(chunk);
      }
      throw error;
    }
    for (const chunk of made) iotlbSet(this.#window.u32, this.offset, chunk, (this.#tables.get(chunk)!.offset | IOTLB_TABLE) >>> 0);
  }

  #changed(): void {
    this.#generation = (this.#generation + 1) >>> 0;
    Atomics.store(this.#window.u32, (this.offset >>> 2) + 1, this.#generation);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const table of this.#tables.values()) this.#window.free(table.offset);
    this.#tables.clear();
    this.#window.free(this.offset);
  }
}

interface Piece {
  readonly chunk: number;
  readonly whole: boolean;
  readonly firstPage: number;
  readonly pages: number;
  readonly offset: WindowOffset;
}

function chunksOf(range: MappedRange): Piece[] {
  const pieces: Piece[] = [];
  let chunk = Number(range.iova / BigInt(CHUNK_BYTES));
  let within = Number(range.iova % BigInt(CHUNK_BYTES));
  let offset = range.offset;
  let left = range.sizeBytes;
  while (left > 0) {
    const bytes = Math.min(left, CHUNK_BYTES - within);
    pieces.push({ chunk, whole: bytes === CHUNK_BYTES, firstPage: within >>> PAGE_SHIFT, pages: bytes >>> PAGE_SHIFT, offset });
    chunk++;
    within = 0;
    offset += bytes;
    left -= bytes;
  }
  return pieces;
}
