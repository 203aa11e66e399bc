/** A range of a file that regions of one or several devices lie in, and what of it is in the window. */
import type { ChunkTable, MappedRange } from './chunk-table.ts';
import type { KeptFile } from './kept-files.ts';
import { PAGE_BYTES } from './iotlb.ts';
import { EXTENT_BYTES, SMALL_EXTENT_BYTES } from './limits.ts';
import type { WindowMapping, WindowOffset } from './window.ts';

/** What one device has in the window: no device pushes out what others have within their share. */
export interface Account {
  bytes: number;
  extents: number;
  /** What of it cannot leave, as the files behind it are not kept. */
  readonly fixed: { bytes: number; extents: number };
  /** Regions. */
  users: number;
  /** Descriptors kept for its views, with the number of those. */
  readonly files: Map<KeptFile, number>;
}

/** One region of one device in a view. */
export interface ViewUser {
  readonly table: ChunkTable;
  /** Of the region's first byte: IOVA >> 12. */
  readonly page: number;
  readonly flags: number;
  readonly account: Account;
}

/** A part of a view that is in the window. */
export interface Extent {
  readonly view: FileView;
  /** Bytes from the start of the view. */
  readonly start: number;
  readonly lengthBytes: number;
  readonly mapping: WindowMapping;
  /** Who must find it where it is. */
  pins: number;
}

export interface FileViewOptions {
  /** What makes another region share the view. */
  readonly key: string;
  /** Descriptors are counted against it. */
  readonly account: Account;
  readonly file: KeptFile | undefined;
  readonly fdOffset: number;
  readonly sizeBytes: number;
  readonly write: boolean;
  /** What mappings of the file have to be aligned to. */
  readonly blockBytes: number;
  /** IOVA modulo 2 MiB: where chunks of the IOTLB begin. */
  readonly residue: number;
}

export class FileView {
  readonly key: string;
  readonly account: Account;
  /** undefined: the process had no descriptor to keep, so all of the view is in the window and stays there. */
  readonly file: KeptFile | undefined;
  readonly fdOffset: number;
  readonly sizeBytes: number;
  readonly write: boolean;
  readonly blockBytes: number;
  readonly users: ViewUser[] = [];
  readonly largeBytes: number;
  readonly smallBytes: number;
  /** What of the view an extent begins on: bytes that make a position a multiple of the extent's size. */
  readonly #bias: number;
  /** By where they begin. */
  readonly #extents = new Map<number, Extent>();

  constructor(options: FileViewOptions) {
    this.key = options.key;
    this.account = options.account;
    this.file = options.file;
    this.fdOffset = options.fdOffset;
    this.sizeBytes = options.sizeBytes;
    this.write = options.write;
    this.blockBytes = options.blockBytes;
    // Huge pages come whole: an extent is at least one of them.
    this.largeBytes = Math.max(EXTENT_BYTES, options.blockBytes);
    this.smallBytes = options.blockBytes > SMALL_EXTENT_BYTES ? this.largeBytes : SMALL_EXTENT_BYTES;
    this.#bias = options.blockBytes > EXTENT_BYTES ? options.fdOffset : options.residue;
  }

  get extents(): Iterable<Extent> {
    return this.#extents.values();
  }

  /** All of it in one piece. */
  get whole(): Extent | undefined {
    const first = this.#extents.get(0);
    return first?.lengthBytes === this.sizeBytes ? first : undefined;
  }

  /** Where the extent of this size that has the byte at `at` begins and how long it is. */
  place(at: number, sizeBytes: number): { start: number; lengthBytes: number } {
    const begin = at - ((at + this.#bias) % sizeBytes);
    const start = Math.max(0, begin);
    return { start, lengthBytes: Math.min(this.sizeBytes, begin + sizeBytes) - start };
  }

  /** What is in the window at `at`. */
  find(at: number): Extent | undefined {
    for (const start of [0, this.place(at, this.largeBytes).start, this.place(at, this.smallBytes).start]) {
      const extent = this.#extents.get(start);
      if (extent !== undefined && at >= start && at < start + extent.lengthBytes) return extent;
    }
    return undefined;
  }

  /** Bytes from `at`, where nothing is, that are surely not in the window either. */
  untilExtent(at: number): number {
    const { start, lengthBytes } = this.place(at, this.smallBytes);
    return start + lengthBytes - at;
  }

  /** Whether nothing of [start, start + lengthBytes) is in the window. */
  isAbsent(start: number, lengthBytes: number): boolean {
    for (let at = start; at < start + lengthBytes; at += this.smallBytes) if (this.find(at) !== undefined) return false;
    return this.find(start + lengthBytes - 1) === undefined;
  }

  add(extent: Extent): void {
    this.#extents.set(extent.start, extent);
  }

  delete(extent: Extent): void {
    this.#extents.delete(extent.start);
  }

  rangeOf(user: ViewUser, extent: Extent): MappedRange {
    return { page: user.page + (extent.start / PAGE_BYTES), pages: extent.lengthBytes / PAGE_BYTES, offset: extent.mapping.offset, flags: user.flags };
  }
}

/** Offset in the window of a byte of an extent. */
export function offsetIn(extent: Extent, at: number): WindowOffset {
  return extent.mapping.offset + at - extent.start;
}
