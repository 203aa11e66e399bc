import { randomFillSync } from 'node:crypto';
import {
  IOTLB_BYTES, IOTLB_MIN_SLOTS, IOTLB_OFFSET_MASK, IOTLB_PART, IOTLB_PART_SHIFT, IOTLB_READ, IOTLB_SLOTS_PER_KEY, IOTLB_TABLE, IOTLB_USED_SHIFT, IOTLB_WRITE,
  PAGES_PER_CHUNK, PAGE_BYTES, PARTS_PER_CHUNK,
  iotlbDelete, iotlbInitTable, iotlbSet, iotlbTableBytes, iotlbTakeUsed, type IotlbMemory,
} from './iotlb.ts';
import { DmaError } from './errors.ts';
import { IOTLB_MAX_KEYS, MAX_PAGE_TABLES } from './limits.ts';
import type { Window, WindowOffset } from './window.ts';

/** Pages of device addresses with their place in the window. `page` is IOVA >> 12; `flags` is a mask of IOTLB_READ and IOTLB_WRITE. */
export interface MappedRange {
  readonly page: number;
  readonly pages: number;
  readonly offset: WindowOffset;
  readonly flags: number;
}

/** A key of the hash table. Dead where it has neither: nothing of the chunk is in the window. */
interface Chunk {
  /** Its value where that is all there is of it: one extent covers it, or one part of it is there. */
  single: number;
  /** Its page table, 0 = none. A dead chunk keeps it until the table is rebuilt: readers may be looking at it. */
  pageTable: WindowOffset;
  /** In the page table. */
  pages: number;
}

const PAGES_PER_PART = PAGES_PER_CHUNK / PARTS_PER_CHUNK;

/** Dead keys that are worth a new table. */
const COMPACT_AT_LEAST = 128;

/** Memory of the table that nothing refers to any more, except readers that are not quiescent yet. */
interface Garbage {
  readonly offset: WindowOffset;
  readonly isPageTable: boolean;
}

/** Page tables of all devices of a window since it was emptied last. */
const pageTablesOf = new WeakMap<Window, { readonly epoch: number; count: number }>();

/**
 * Keeps one device's IOTLB: owns its memory and its page tables. Ranges never overlap: the caller has checked. `add`, `evict` and
 * `takeUsed` may run beside readers; what `evict` and growing leave behind is `collectGarbage`'s.
 */
export class ChunkTable implements Disposable {
  /** The handle: what readers know the table by. */
  readonly offset: WindowOffset;
  readonly #window: Window;
  readonly #memory: IotlbMemory;
  readonly #pageTables: { readonly epoch: number; count: number };
  readonly #chunks = new Map<number, Chunk>();
  #table: WindowOffset;
  #slots = IOTLB_MIN_SLOTS;
  #dead = 0;
  #garbage = new Set<Garbage>();
  #generation = 0;
  #disposed = false;

  constructor(window: Window) {
    this.#window = window;
    this.#memory = { u32: window.u32, u64: new BigUint64Array(window.memory.buffer) };
    const known = pageTablesOf.get(window);
    this.#pageTables = known?.epoch === window.epoch ? known : { epoch: window.epoch, count: 0 };
    if (this.#pageTables !== known) pageTablesOf.set(window, this.#pageTables);
    this.offset = window.alloc(IOTLB_BYTES);
    this.#table = this.#newTable(this.#slots);
    window.u32[this.offset >>> 2] = this.#table;
  }

  get generation(): number {
    return this.#generation;
  }

  /** All of the range or nothing: throws ERR_DMA_LIMIT or ERR_WINDOW_FULL before anything has changed. */
  add(range: MappedRange): void {
    const pieces = piecesOf(range);
    let keys = 0;
    for (const { chunk } of pieces) if (!this.#chunks.has(chunk)) keys++;
    this.#makeRoom(keys);
    const pageTables = this.#allocPageTables(pieces);
    for (const piece of pieces) {
      const { chunk } = piece;
      let entry = this.#chunks.get(chunk);
      if (entry === undefined) this.#chunks.set(chunk, (entry = { single: 0, pageTable: 0, pages: 0 }));
      else if (isDead(entry)) this.#dead--;
      if (piece.whole || isSinglePart(piece, entry)) {
        const part = piece.whole ? 0 : IOTLB_PART | ((piece.firstPage / PAGES_PER_PART) << IOTLB_PART_SHIFT);
        entry.single = (piece.offset | range.flags | part) >>> 0;
        this.#discardPageTable(entry);
        iotlbSet(this.#memory, this.#table, chunk, entry.single);
        continue;
      }
      const fresh = pageTables.get(chunk);
      if (fresh !== undefined) entry.pageTable = fresh;
      if (entry.single !== 0) {
        const { single } = entry;
        entry.single = 0;
        const firstPage = ((single >>> IOTLB_PART_SHIFT) & (PARTS_PER_CHUNK - 1)) * PAGES_PER_PART;
        this.#setPages(entry, firstPage, PAGES_PER_PART, (single & IOTLB_OFFSET_MASK) >>> 0, single & (IOTLB_READ | IOTLB_WRITE));
      }
      this.#setPages(entry, piece.firstPage, piece.pages, piece.offset, range.flags);
      iotlbSet(this.#memory, this.#table, chunk, (entry.pageTable | IOTLB_TABLE) >>> 0);
    }
  }

  /** Takes a range out while readers run: they may use what it named until they are quiescent. */
  evict(range: MappedRange): void {
    for (const piece of piecesOf(range)) this.#clear(piece);
  }

  /** Takes a range out while no reader of this table runs. */
  remove(range: MappedRange): void {
    for (const piece of piecesOf(range)) {
      const entry = this.#clear(piece);
      if (!isDead(entry)) continue;
      this.#dead--;
      this.#chunks.delete(piece.chunk);
      iotlbDelete(this.#memory.u32, this.#table, piece.chunk);
      this.#discardPageTable(entry);
    }
    this.collectGarbage(this.garbage());
  }

  /** Whether readers have used any of the range since it was asked last. */
  takeUsed(range: MappedRange): boolean {
    let used = 0;
    let chunk = Math.floor(range.page / PAGES_PER_CHUNK);
    let firstPage = range.page % PAGES_PER_CHUNK;
    for (let left = range.pages; left > 0; ) {
      const pages = Math.min(left, PAGES_PER_CHUNK - firstPage);
      const whole = pages === PAGES_PER_CHUNK;
      const first = whole ? 0 : firstPage >>> IOTLB_USED_SHIFT;
      const last = whole ? 0 : (firstPage + pages - 1) >>> IOTLB_USED_SHIFT;
      used |= iotlbTakeUsed(this.#memory.u32, this.#table, chunk, (2 << last) - (1 << first));
      chunk++;
      firstPage = 0;
      left -= pages;
    }
    return used !== 0;
  }

  /** What is mapped for the device has changed, whether the table shows it or not. */
  touch(): void {
    this.#generation = (this.#generation + 1) >>> 0;
    Atomics.store(this.#memory.u32, (this.offset >>> 2) + 1, this.#generation);
  }

  /** Page tables that there can still be, of all devices together. */
  get pageTablesLeft(): number {
    return MAX_PAGE_TABLES - this.#pageTables.count;
  }

  /** Gives up what has left for good, once that is most of the table, or `always`. Readers may be running; see `garbage`. */
  compact(always = false): void {
    if (this.#disposed || this.#dead === 0) return;
    if (!always && (this.#dead * 2 <= this.#chunks.size || this.#dead < COMPACT_AT_LEAST)) return;
    let slots = IOTLB_MIN_SLOTS;
    while ((this.#chunks.size - this.#dead) * 4 > slots) slots *= 2;
    try {
      this.#rebuild(slots);
    } catch (error) {
      // No memory for another table now.
      if (!(error instanceof DmaError)) throw error;
    }
  }

  /** What readers may still be looking at; for `collectGarbage` when all that run now have been quiescent. */
  garbage(): readonly Garbage[] {
    return [...this.#garbage];
  }

  collectGarbage(garbage: readonly Garbage[]): void {
    for (const piece of garbage) {
      if (!this.#garbage.delete(piece)) continue;
      if (piece.isPageTable) this.#pageTables.count--;
      this.#window.free(piece.offset);
    }
  }

  #setPages(entry: Chunk, firstPage: number, pages: number, offset: WindowOffset, flags: number): void {
    const first = (entry.pageTable >>> 2) + firstPage;
    for (let page = 0; page < pages; page++) this.#memory.u32[first + page] = ((offset + page * PAGE_BYTES) | flags) >>> 0;
    entry.pages += pages;
  }

  #clear({ chunk, firstPage, pages }: Piece): Chunk {
    const entry = this.#chunks.get(chunk)!;
    if (entry.single !== 0) {
      entry.single = 0;
      iotlbSet(this.#memory, this.#table, chunk, 0);
    } else {
      const first = (entry.pageTable >>> 2) + firstPage;
      this.#memory.u32.fill(0, first, first + pages);
      entry.pages -= pages;
    }
    if (isDead(entry)) this.#dead++;
    return entry;
  }

  #discardPageTable(entry: Chunk): void {
    if (entry.pageTable !== 0) this.#garbage.add({ offset: entry.pageTable, isPageTable: true });
    entry.pageTable = 0;
  }

  #makeRoom(keys: number): void {
    if (this.#chunks.size - this.#dead + keys > IOTLB_MAX_KEYS) throw new DmaError('ERR_DMA_LIMIT', `the window holds memory of ${IOTLB_MAX_KEYS} chunks of 2 MiB for this device already`);
    if ((this.#chunks.size + keys) * IOTLB_SLOTS_PER_KEY <= this.#slots) return;
    let slots = IOTLB_MIN_SLOTS;
    while ((this.#chunks.size - this.#dead + keys) * IOTLB_SLOTS_PER_KEY > slots) slots *= 2;
    // Dead keys alone must not make every addition rebuild.
    if (this.#dead * 4 < this.#chunks.size && slots === this.#slots) slots *= 2;
    this.#rebuild(slots);
  }

  /** A table without the dead keys takes the place of the one in force. */
  #rebuild(slots: number): void {
    const table = this.#newTable(slots);
    for (const [chunk, entry] of this.#chunks) {
      if (isDead(entry)) {
        this.#discardPageTable(entry);
        this.#chunks.delete(chunk);
      } else {
        iotlbSet(this.#memory, table, chunk, entry.single !== 0 ? entry.single : (entry.pageTable | IOTLB_TABLE) >>> 0);
      }
    }
    this.#dead = 0;
    this.#garbage.add({ offset: this.#table, isPageTable: false });
    this.#table = table;
    this.#slots = slots;
    Atomics.store(this.#memory.u32, this.offset >>> 2, table);
  }

  #newTable(slots: number): WindowOffset {
    const table = this.#window.alloc(iotlbTableBytes(slots));
    const seed = randomFillSync(new Uint32Array(2));
    iotlbInitTable(this.#memory.u32, table, slots, [seed[0]!, seed[1]!]);
    return table;
  }

  /** By chunk, for those that need one and have none. */
  #allocPageTables(pieces: readonly Piece[]): Map<number, WindowOffset> {
    const made = new Map<number, WindowOffset>();
    try {
      for (const piece of pieces) {
        const { chunk } = piece;
        const entry = this.#chunks.get(chunk);
        if (piece.whole || isSinglePart(piece, entry) || (entry !== undefined && entry.pageTable !== 0)) continue;
        if (this.#pageTables.count >= MAX_PAGE_TABLES) throw new DmaError('ERR_DMA_LIMIT', `the window has ${MAX_PAGE_TABLES} page tables of chunks already`);
        made.set(chunk, this.#window.alloc(PAGES_PER_CHUNK * 4, PAGES_PER_CHUNK * 4));
        this.#pageTables.count++;
      }
    } catch (error) {
      this.#pageTables.count -= made.size;
      for (const offset of made.values()) this.#window.free(offset);
      throw error;
    }
    return made;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const entry of this.#chunks.values()) this.#discardPageTable(entry);
    this.#chunks.clear();
    this.collectGarbage(this.garbage());
    this.#window.free(this.#table);
    this.#window.free(this.offset);
  }
}

function isDead(entry: Chunk): boolean {
  return entry.single === 0 && entry.pages === 0;
}

/** What a value with PART can say, if nothing else is there of the chunk. */
function isSinglePart({ firstPage, pages }: Piece, entry: Chunk | undefined): boolean {
  return pages === PAGES_PER_PART && firstPage % PAGES_PER_PART === 0 && (entry === undefined || isDead(entry));
}

interface Piece {
  readonly chunk: number;
  readonly whole: boolean;
  readonly firstPage: number;
  readonly pages: number;
  readonly offset: WindowOffset;
}

function piecesOf(range: MappedRange): Piece[] {
  const pieces: Piece[] = [];
  let chunk = Math.floor(range.page / PAGES_PER_CHUNK);
  let firstPage = range.page % PAGES_PER_CHUNK;
  let offset = range.offset;
  for (let left = range.pages; left > 0; ) {
    const pages = Math.min(left, PAGES_PER_CHUNK - firstPage);
    pieces.push({ chunk, whole: pages === PAGES_PER_CHUNK, firstPage, pages, offset });
    chunk++;
    firstPage = 0;
    offset += pages * PAGE_BYTES;
    left -= pages;
  }
  return pieces;
}
