/** One device's DMA table. */
import { ChunkTable } from './chunk-table.ts';
import type { MappedRange } from './chunk-table.ts';
import { DirtyLog } from './dirty-log.ts';
import type { LoggedRegion } from './dirty-log.ts';
import { DmaError } from './errors.ts';
import { CHUNK_BYTES, IOTLB_READ, IOTLB_WRITE, PAGE_BYTES } from './iotlb.ts';
import { MAX_DMA_MAPS } from './limits.ts';
import { checkFile, mapFile } from './map-file.ts';
import type { Truncation } from './map-file.ts';
import { RegionIndex } from './region-index.ts';
import { isPageMultiple } from './window.ts';
import type { Window, WindowMapping, WindowOffset } from './window.ts';

/** Memory behind a region that is not mapped: whoever serves the device asks the consumer by message, or goes through a file. */
export interface RemoteMemory {
  /** True where the consumer does not see what is written, so that it has to be logged here when dirty pages are. */
  readonly direct?: boolean;
  /** Fills `into` from [iova, iova + into.length), which lies in one region. A rejection becomes that of `IovaSpace.read`. */
  read(iova: bigint, into: Uint8Array): Promise<void>;
  /** Writes `from` to [iova, iova + from.length), which lies in one region. A rejection becomes that of `IovaSpace.write`; part of it may have been written. */
  write(iova: bigint, from: Uint8Array): Promise<void>;
  /** Whether mapping `other` at the same place would be mapping the same once more. Without this: if it is the same object. */
  isSame?(other: RemoteMemory): boolean;
}

/** A region for `IovaSpace.map`: memory of the consumer that the device may reach from now on (vfio-user DMA_MAP). */
export interface DmaMapRequest {
  /** Multiples of 4096; the size is not 0 and the range ends at 2^64 at most. */
  readonly iova: bigint;
  readonly sizeBytes: number | bigint;
  /** What the device may do. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** Borrowed for the duration of the call. */
  readonly fd?: number;
  /** Multiple of 4096. */
  readonly fdOffset?: number | bigint;
  /** Without `fd`: how the region is reached. Without either, every access to it is a fault. */
  readonly remote?: RemoteMemory;
}

/** A region of an `IovaSpace`. */
export interface DmaEntry {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Where the region lies in the window; undefined if it is reached by message. */
  readonly offset: WindowOffset | undefined;
}

interface Region extends DmaEntry, LoggedRegion {
  readonly mapping: WindowMapping | undefined;
  readonly file: { readonly dev: bigint; readonly ino: bigint; readonly fdOffset: number } | undefined;
  readonly remote: RemoteMemory | undefined;
}

type Access = 'read' | 'write';
const ADDRESS_SPACE_END = 1n << 64n;

/**
 * DMA regions of one device by IOVA, as a consumer maps and unmaps them, and the accesses they permit. Satisfies the
 * `GuestMemory` of @emudev/pci. Change it only while every thread of the device is quiescent.
 */
export class IovaSpace implements Disposable {
  /** What the device writes, for a consumer that moves its guest elsewhere. */
  readonly dirtyLog: DirtyLog;
  readonly #window: Window;
  readonly #table: ChunkTable;
  readonly #truncation: Truncation;
  /** Disjoint. */
  readonly #regions = new RegionIndex<Region>();
  #disposed = false;

  constructor(window: Window, options: { truncation?: Truncation } = {}) {
    this.#window = window;
    this.#truncation = options.truncation ?? 'seal';
    this.#table = new ChunkTable(window);
    this.dirtyLog = new DirtyLog(this.#regions);
  }

  /** Grows with every change: a translation is valid for one generation. */
  get generation(): number {
    return this.#table.generation;
  }

  /** Window offset of the IOTLB. */
  get iotlb(): WindowOffset {
    return this.#table.offset;
  }

  /** Number of regions. */
  get size(): number {
    return this.#regions.size;
  }

  /** The regions, lowest IOVA first. The table must not change while they are walked. */
  *entries(): Generator<DmaEntry, void, void> {
    for (const { iova, sizeBytes, readable, writable, offset } of this.#regions) yield { iova, sizeBytes, readable, writable, offset };
  }

  /** Whether a region begins there. */
  has(iova: bigint): boolean {
    return this.#regions.atOrBefore(iova)?.iova === iova;
  }

  /**
   * Adds a region. Mapping exactly the same once more changes nothing. ERR_DMA_INVALID (EINVAL): unaligned, empty, past the
   * address space. ERR_DMA_OVERLAP (EEXIST). ERR_DMA_LIMIT, ERR_WINDOW_FULL (ENOSPC). ERR_DMA_FILE: the file is too short, not
   * regular, or not mappable. ERR_DMA_UNSEALED (EPERM). After an error nothing has changed.
   */
  map(request: DmaMapRequest): void {
    const { iova, end, sizeBytes, fdOffset } = checkRequest(request);
    const { readable, writable, fd } = request;
    const file = fd === undefined ? undefined : { iova, sizeBytes, fd, fdOffset, writable };
    const before = this.#regions.atOrBefore(iova);
    const after = this.#regions.after(iova);
    if (before?.iova === iova && before.end === end && before.readable === readable && before.writable === writable && this.#isSame(before, request, fdOffset)) return;
    if ((before !== undefined && before.end > iova) || (after !== undefined && after.iova < end)) {
      throw new DmaError('ERR_DMA_OVERLAP', `${range(iova, sizeBytes)} overlaps a mapped region`);
    }
    if (this.#regions.size >= MAX_DMA_MAPS) throw new DmaError('ERR_DMA_LIMIT', `a device has at most ${MAX_DMA_MAPS} DMA regions`);
    const common = { iova, end, sizeBytes, readable, writable };
    if (file === undefined) {
      const { remote } = request;
      this.#regions.insert({ ...common, offset: undefined, mapping: undefined, file: undefined, remote, logged: remote?.direct === true });
      this.#table.touch();
      return;
    }
    const status = checkFile(this.#window.sys, file, this.#truncation);
    // Only a region that can hold a whole chunk gains from congruence; small ones are packed.
    const mapping = mapFile(this.#window, file, status, sizeBytes >= CHUNK_BYTES ? iova : undefined);
    const region: Region = { ...common, offset: mapping.offset, mapping, file: { dev: status.dev, ino: status.ino, fdOffset }, remote: undefined, logged: true };
    try {
      this.#table.add(mappedRange(region));
    } catch (error) {
      mapping[Symbol.dispose]();
      throw error;
    }
    this.#regions.insert(region);
  }

  /** Removes a region that was mapped with exactly this range; ERR_DMA_NOT_MAPPED (ENOENT) otherwise. */
  unmap(iova: bigint, sizeBytes: number | bigint): void {
    this.#remove(this.#exactly(iova, sizeBytes));
  }

  /** As `unmap`, with a last report of the region's dirty pages. When there can be none (see `DirtyLog.report`) the region stays. */
  unmapReporting(iova: bigint, sizeBytes: number | bigint, pageSize: bigint): Uint8Array {
    const region = this.#exactly(iova, sizeBytes);
    const dirty = this.dirtyLog.report(iova, BigInt(sizeBytes), pageSize);
    this.#remove(region);
    return dirty;
  }

  /** Removes all regions. */
  clear(): void {
    const regions = [...this.#regions];
    this.#regions.clear();
    for (const region of regions) this.#release(region);
  }

  /** Unmaps every region and gives the IOTLB back to the window; the space is of no use afterwards. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.clear();
    this.#table[Symbol.dispose]();
  }

  /** Window offset of a range that is mapped, permitted and contiguous in the window; undefined otherwise. */
  translate(iova: bigint, lengthBytes: number, access: Access): WindowOffset | undefined {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0) return undefined;
    let offset: number | undefined;
    let next = iova;
    const end = iova + BigInt(lengthBytes);
    while (next < end) {
      const region = this.#regions.atOrBefore(next);
      if (region?.offset === undefined || !covers(region, next) || !permits(region, access)) return undefined;
      const here = region.offset + Number(next - region.iova);
      offset ??= here;
      if (here !== offset + Number(next - iova)) return undefined;
      next = region.end;
    }
    return offset;
  }

  /**
   * Copies guest memory out: at once where the range is mapped, by message where it is remote. Throws ERR_DMA_FAULT (EFAULT),
   * before anything is copied, where a byte is not mapped or not readable by the device.
   */
  read(iova: bigint, into: Uint8Array): void | Promise<void> {
    return this.#access(iova, into, 'read');
  }

  /** As `read`, the other way. */
  write(iova: bigint, from: Uint8Array): void | Promise<void> {
    return this.#access(iova, from, 'write');
  }

  /** See `GuestMemory.markDirty` of @emudev/pci. */
  markDirty(iova: bigint, lengthBytes: number): void {
    this.dirtyLog.mark(iova, lengthBytes);
  }

  #access(iova: bigint, bytes: Uint8Array, access: Access): void | Promise<void> {
    const end = iova + BigInt(bytes.byteLength);
    let remote = false;
    for (let next = iova; next < end; ) {
      const region = this.#reachable(next, access, iova, bytes.byteLength);
      remote ||= region.offset === undefined;
      next = region.end;
    }
    if (remote) return this.#accessRemote(iova, bytes, access);
    for (let done = 0; done < bytes.byteLength; ) done += this.#copy(this.#find(iova + BigInt(done))!, iova, bytes, done, access);
  }

  /** Each piece is looked up again when its turn comes: the table may have changed while a message was on its way. */
  async #accessRemote(iova: bigint, bytes: Uint8Array, access: Access): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const next = iova + BigInt(done);
      const region = this.#reachable(next, access, iova, bytes.byteLength);
      if (region.offset !== undefined) {
        done += this.#copy(region, iova, bytes, done, access);
        continue;
      }
      const piece = bytes.subarray(done, Math.min(bytes.byteLength, done + Number(region.end - next)));
      try {
        await region.remote![access](next, piece);
      } finally {
        // One that fails may have written something.
        if (access === 'write') this.dirtyLog.mark(next, piece.byteLength);
      }
      done += piece.byteLength;
    }
  }

  /** Copies what of `bytes` from `done` on lies in `region`; returns how much that was. */
  #copy(region: Region, iova: bigint, bytes: Uint8Array, done: number, access: Access): number {
    const next = iova + BigInt(done);
    const offset = region.offset! + Number(next - region.iova);
    const length = Math.min(bytes.byteLength - done, Number(region.end - next));
    const { u8 } = this.#window;
    // GUEST: the bytes may change while they are copied; whoever asked uses the copy only.
    if (access === 'read') bytes.set(u8.subarray(offset, offset + length), done);
    else {
      u8.set(bytes.subarray(done, done + length), offset);
      this.dirtyLog.mark(next, length);
    }
    return length;
  }

  #reachable(at: bigint, access: Access, iova: bigint, lengthBytes: number): Region {
    const region = this.#find(at);
    const why = region === undefined ? 'not mapped' : !permits(region, access) ? `not permitted to ${access}` : region.offset === undefined && region.remote === undefined ? 'no way to reach it' : '';
    if (why !== '') throw new DmaError('ERR_DMA_FAULT', `${access} of ${range(iova, lengthBytes)}: 0x${at.toString(16)} ${why}`);
    return region!;
  }

  #find(iova: bigint): Region | undefined {
    const region = this.#regions.atOrBefore(iova);
    return region !== undefined && covers(region, iova) ? region : undefined;
  }

  #exactly(iova: bigint, sizeBytes: number | bigint): Region {
    const region = this.#regions.atOrBefore(iova);
    if (region?.iova !== iova || BigInt(region.sizeBytes) !== BigInt(sizeBytes)) {
      throw new DmaError('ERR_DMA_NOT_MAPPED', `${range(iova, sizeBytes)} is not a mapped region`);
    }
    return region;
  }

  #isSame(region: Region, { fd, remote }: DmaMapRequest, fdOffset: number): boolean {
    if (fd === undefined) return region.file === undefined && (region.remote === remote || (remote !== undefined && region.remote?.isSame?.(remote) === true));
    if (region.file === undefined) return false;
    const status = this.#window.sys.fstat(fd);
    return status.dev === region.file.dev && status.ino === region.file.ino && fdOffset === region.file.fdOffset;
  }

  #remove(region: Region): void {
    this.#regions.remove(region);
    this.#release(region);
  }

  #release(region: Region): void {
    this.dirtyLog.forget(region.iova, region.end);
    if (region.offset === undefined) {
      this.#table.touch();
      return;
    }
    this.#table.remove(mappedRange(region));
    region.mapping![Symbol.dispose]();
  }
}

/** CLIENT: every number of a map request comes from the consumer. */
function checkRequest(request: DmaMapRequest): { iova: bigint; end: bigint; sizeBytes: number; fdOffset: number } {
  const { iova } = request;
  const size = BigInt(request.sizeBytes);
  const end = iova + size;
  if (iova < 0n || size <= 0n || end > ADDRESS_SPACE_END || iova % BigInt(PAGE_BYTES) !== 0n || size % BigInt(PAGE_BYTES) !== 0n) {
    throw new DmaError('ERR_DMA_INVALID', `${range(iova, size)}: expected a non-empty range of whole 4 KiB pages below 2^64`);
  }
  const sizeBytes = Number(size);
  const fdOffset = Number(request.fdOffset ?? 0);
  if (!Number.isSafeInteger(sizeBytes)) throw new DmaError('ERR_DMA_LIMIT', `${range(iova, size)} is larger than 2^53 bytes`);
  if (request.fd !== undefined && (!isPageMultiple(fdOffset) || !Number.isSafeInteger(fdOffset + sizeBytes))) {
    throw new DmaError('ERR_DMA_INVALID', `file offset ${request.fdOffset}: expected a multiple of ${PAGE_BYTES}`);
  }
  return { iova, end, sizeBytes, fdOffset };
}

function mappedRange(region: Region): MappedRange {
  return { iova: region.iova, sizeBytes: region.sizeBytes, offset: region.offset!, flags: (region.readable ? IOTLB_READ : 0) | (region.writable ? IOTLB_WRITE : 0) };
}

function covers(region: Region, iova: bigint): boolean {
  return region.iova <= iova && iova < region.end;
}

function permits(region: Region, access: Access): boolean {
  return access === 'read' ? region.readable : region.writable;
}

function range(iova: bigint, sizeBytes: number | bigint): string {
  return `[0x${iova.toString(16)}, +0x${sizeBytes.toString(16)})`;
}
