/** One device's DMA table. */
import { BounceAreas, type BounceArea } from './bounce-areas.ts';
import { checkFile } from './check-file.ts';
import type { Truncation } from './check-file.ts';
import { ChunkTable } from './chunk-table.ts';
import { DirtyLog } from './dirty-log.ts';
import type { LoggedRegion } from './dirty-log.ts';
import { DmaError } from './errors.ts';
import { offsetIn } from './file-view.ts';
import type { Account, Extent, FileView, ViewUser } from './file-view.ts';
import { IOTLB_READ, IOTLB_WRITE, PAGE_BYTES } from './iotlb.ts';
import { MAX_DMA_MAPS, MAX_PINS } from './limits.ts';
import { checkRequest, rangeText } from './map-request.ts';
import type { DmaMapRequest, RemoteMemory } from './map-request.ts';
import { MissDesk } from './misses.ts';
import type { Brought } from './misses.ts';
import { RegionIndex } from './region-index.ts';
import type { Window, WindowOffset } from './window.ts';
import { WindowCache } from './window-cache.ts';

/** A region of an `IovaSpace`. */
export interface DmaEntry {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Where the region lies in the window; undefined if not all of it does at present, or if it is reached by message. */
  readonly offset: WindowOffset | undefined;
}

/** A range that stays where it is in the window until it is given back or unmapped. */
export interface PinnedRange extends Disposable {
  readonly offset: WindowOffset;
}

interface FileBehind {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly fdOffset: number;
  readonly view: FileView;
  readonly user: ViewUser;
}

interface Region extends Omit<DmaEntry, 'offset'>, LoggedRegion {
  readonly file: FileBehind | undefined;
  readonly remote: RemoteMemory | undefined;
  readonly pins: Set<Disposable>;
}

type Access = 'read' | 'write';
const PAGE = BigInt(PAGE_BYTES);

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
  readonly #cache: WindowCache;
  readonly #bounces: BounceAreas;
  readonly #account: Account = { bytes: 0, extents: 0, fixed: { bytes: 0, extents: 0 }, users: 0, files: new Map() };
  /** Mappings that pins have made for themselves. */
  #pinMappings = 0;
  #disposed = false;

  constructor(window: Window, options: { truncation?: Truncation } = {}) {
    this.#window = window;
    this.#truncation = options.truncation ?? 'seal';
    this.#table = new ChunkTable(window);
    this.#cache = WindowCache.of(window);
    this.dirtyLog = new DirtyLog(this.#regions);
    this.#bounces = new BounceAreas(window, this.#table, (iova, end) => (this.#regions.atOrBefore(end - 1n)?.end ?? 0n) <= iova);
    const table = this.#table;
    MissDesk.of(window).serve(table.offset, {
      get generation() { return table.generation; },
      bring: (iova, access) => this.bring(iova, access),
      makeRoom: () => this.makeRoom(),
    });
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
    for (const { iova, sizeBytes, readable, writable, file } of this.#regions) yield { iova, sizeBytes, readable, writable, offset: file?.view.whole?.mapping.offset };
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
      throw new DmaError('ERR_DMA_OVERLAP', `${rangeText(iova, sizeBytes)} overlaps a mapped region`);
    }
    if (this.#regions.size >= MAX_DMA_MAPS) throw new DmaError('ERR_DMA_LIMIT', `a device has at most ${MAX_DMA_MAPS} DMA regions`);
    this.#bounces.sweep();
    this.#bounces.avoid(iova, end);
    const common = { iova, end, sizeBytes, readable, writable, pins: new Set<Disposable>() };
    if (file === undefined) {
      const { remote } = request;
      this.#regions.insert({ ...common, file: undefined, remote, logged: remote?.direct === true });
    } else {
      const status = checkFile(this.#window.sys, file, this.#truncation);
      const user: ViewUser = { table: this.#table, page: Number(iova / PAGE), flags: (readable ? IOTLB_READ : 0) | (writable ? IOTLB_WRITE : 0), account: this.#account };
      const view = this.#cache.open(file, status, user);
      this.#regions.insert({ ...common, file: { dev: status.dev, ino: status.ino, fdOffset, view, user }, remote: undefined, logged: true });
    }
    this.#table.touch();
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
    this.#bounces.clear();
    for (const region of regions) this.#release(region);
  }

  /** Unmaps every region and gives the IOTLB back to the window; the space is of no use afterwards. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.clear();
    this.#bounces[Symbol.dispose]();
    MissDesk.of(this.#window).forget(this.#table.offset);
    this.#table[Symbol.dispose]();
  }

  /**
   * Window offset of a range that is mapped, permitted and contiguous in the window; undefined otherwise. What is not in the window
   * is brought in. Holds until the thread does something else: whoever keeps an offset longer pins it.
   */
  translate(iova: bigint, lengthBytes: number, access: Access): WindowOffset | undefined {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0) return undefined;
    let offset: number | undefined;
    let next = iova;
    const end = iova + BigInt(lengthBytes);
    while (next < end) {
      const region = this.#find(next);
      if (region?.file === undefined || !permits(region, access)) return undefined;
      const at = Number(next - region.iova);
      const extent = this.#tryBring(region.file.view, at);
      if (extent === undefined) return undefined;
      const here = offsetIn(extent, at);
      offset ??= here;
      if (here !== offset + Number(next - iova)) return undefined;
      next += BigInt(extent.start + extent.lengthBytes - at);
    }
    return offset;
  }

  /**
   * A range that lies in one region and may be accessed so, contiguous in the window, where it stays until it is given back or the
   * region is unmapped; for rings. undefined where there is no such range, no room, or where MAX_PINS are held already.
   */
  pin(iova: bigint, lengthBytes: number, access: Access): PinnedRange | undefined {
    const region = this.#find(iova);
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0 || region?.file === undefined) return undefined;
    if (iova + BigInt(lengthBytes) > region.end || !permits(region, access)) return undefined;
    const at = Number(iova - region.iova);
    const { view } = region.file;
    const extent = this.#tryBring(view, at);
    if (extent === undefined) return undefined;
    // A region that is in the window whole must be able to leave it without its rings.
    const isSmall = view.file === undefined || extent.lengthBytes <= view.largeBytes;
    const pin = isSmall && at + lengthBytes <= extent.start + extent.lengthBytes ? pinned(extent, at) : this.#mapPinned(view, at, lengthBytes);
    if (pin === undefined) return undefined;
    const range: PinnedRange = {
      offset: pin.offset,
      [Symbol.dispose]: () => { if (region.pins.delete(range)) pin.release(); },
    };
    region.pins.add(range);
    return range;
  }

  /** A mapping of its own. */
  #mapPinned(view: FileView, at: number, lengthBytes: number): { offset: WindowOffset; release: () => void } | undefined {
    if (this.#pinMappings >= MAX_PINS || view.file === undefined) return undefined;
    const within = at % PAGE_BYTES;
    try {
      const mapping = this.#window.map({
        fd: view.file.fd, fdOffset: view.fdOffset + at - within, lengthBytes: PAGE_BYTES * Math.ceil((within + lengthBytes) / PAGE_BYTES), write: view.write,
        blockBytes: view.blockBytes,
      });
      this.#pinMappings++;
      return { offset: mapping.offset + within, release: () => { this.#pinMappings--; mapping[Symbol.dispose](); } };
    } catch (error) {
      if (!(error instanceof DmaError)) throw error;
      return undefined;
    }
  }

  /** Sees to it that an address is in the window and in the IOTLB: what a data path that misses it asks for. */
  bring(iova: bigint, access: Access): Brought {
    const region = this.#find(iova);
    if (region === undefined || !permits(region, access)) return 'never';
    if (region.file === undefined) return region.remote === undefined ? 'never' : 'remote';
    return this.#tryBring(region.file.view, Number(iova - region.iova)) === undefined ? 'full' : 'here';
  }

  /**
   * How the device comes by a range, every byte of which it may access so: by the window alone, or also by messages (or through a
   * file). undefined: a byte is not mapped, not permitted or out of reach.
   */
  reach(iova: bigint, lengthBytes: number, access: Access): 'window' | 'messages' | undefined {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0) return undefined;
    let how: 'window' | 'messages' = 'window';
    const end = iova + BigInt(lengthBytes);
    for (let next = iova; next < end; ) {
      const region = this.#find(next);
      if (region === undefined || !permits(region, access)) return undefined;
      if (region.file === undefined) {
        if (region.remote === undefined) return undefined;
        how = 'messages';
      }
      next = region.end;
    }
    return how;
  }

  /** Memory in the window that this device, and no other, sees at an address of ours; undefined where there is no room. Until it is disposed of, or `clear`. */
  bounce(lengthBytes: number): BounceArea | undefined {
    try {
      return this.#bounces.open(lengthBytes);
    } catch (error) {
      if (!(error instanceof DmaError)) throw error;
      return undefined;
    }
  }

  /** After `bring` said `full`: resolves when something has left the window, or if nothing can. */
  makeRoom(): Promise<void> {
    return this.#cache.makeRoom(this.#account);
  }

  /** undefined: there is no room now, or the file cannot be mapped any more. */
  #tryBring(view: FileView, at: number): Extent | undefined {
    try {
      return view.find(at) ?? this.#cache.bring(view, at);
    } catch (error) {
      if (!(error instanceof DmaError)) throw error;
      return undefined;
    }
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
      remote ||= region.file === undefined;
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
      if (region.file !== undefined) {
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
    const { view } = region.file!;
    const first = Number(iova + BigInt(done) - region.iova);
    const length = Math.min(bytes.byteLength - done, region.sizeBytes - first);
    for (let at = first; at < first + length; ) {
      const extent = view.find(at);
      // Looking at every byte of a big guest once must not push out what its data path uses: what is absent stays so.
      const part = Math.min(first + length - at, extent === undefined ? view.untilExtent(at) : extent.start + extent.lengthBytes - at);
      const from = done + at - first;
      if (extent === undefined) this.#transfer(view, at, bytes.subarray(from, from + part), access);
      // GUEST: the bytes may change while they are copied; whoever asked uses the copy only.
      else if (access === 'read') bytes.set(this.#window.u8.subarray(offsetIn(extent, at), offsetIn(extent, at) + part), from);
      else this.#window.u8.set(bytes.subarray(from, from + part), offsetIn(extent, at));
      at += part;
    }
    if (access === 'write') this.dirtyLog.mark(iova + BigInt(done), length);
    return length;
  }

  /** Through the file, which shows the same memory. */
  #transfer(view: FileView, at: number, bytes: Uint8Array, access: Access): void {
    const { sys } = this.#window;
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.subarray(done);
      const n = access === 'read' ? sys.pread(view.file!.fd, rest, view.fdOffset + at + done) : sys.pwrite(view.file!.fd, rest, view.fdOffset + at + done);
      // CLIENT: the file has been truncated.
      if (n <= 0) throw new DmaError('ERR_DMA_FAULT', `${access}: the file ends at ${view.fdOffset + at + done}, in the middle of a region`);
      done += n;
    }
  }

  #reachable(at: bigint, access: Access, iova: bigint, lengthBytes: number): Region {
    const region = this.#find(at);
    const why = region === undefined ? 'not mapped' : !permits(region, access) ? `not permitted to ${access}` : region.file === undefined && region.remote === undefined ? 'no way to reach it' : '';
    if (why !== '') throw new DmaError('ERR_DMA_FAULT', `${access} of ${rangeText(iova, lengthBytes)}: 0x${at.toString(16)} ${why}`);
    return region!;
  }

  #find(iova: bigint): Region | undefined {
    const region = this.#regions.atOrBefore(iova);
    return region !== undefined && covers(region, iova) ? region : undefined;
  }

  #exactly(iova: bigint, sizeBytes: number | bigint): Region {
    const region = this.#regions.atOrBefore(iova);
    if (region?.iova !== iova || BigInt(region.sizeBytes) !== BigInt(sizeBytes)) {
      throw new DmaError('ERR_DMA_NOT_MAPPED', `${rangeText(iova, sizeBytes)} is not a mapped region`);
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
    this.#bounces.sweep();
    this.#regions.remove(region);
    this.#release(region);
  }

  #release(region: Region): void {
    this.dirtyLog.forget(region.iova, region.end);
    for (const pin of region.pins) pin[Symbol.dispose]();
    if (region.file !== undefined) this.#cache.close(region.file.view, region.file.user);
    this.#table.touch();
  }
}

/** The extent stays while it is pinned. */
function pinned(extent: Extent, at: number): { offset: WindowOffset; release: () => void } {
  extent.pins++;
  return { offset: offsetIn(extent, at), release: () => { extent.pins--; } };
}

function covers(region: Region, iova: bigint): boolean {
  return region.iova <= iova && iova < region.end;
}

function permits(region: Region, access: Access): boolean {
  return access === 'read' ? region.readable : region.writable;
}
