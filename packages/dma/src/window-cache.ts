/**
 * The window as a cache of guest memory. A region of a file is mapped whole while there is room, so that a small guest never
 * misses. Else parts of it, extents, come when they are asked for, and go when the window is full.
 *
 * Everything here happens on the control thread. Readers (lcores) find extents through IOTLBs and ask for what they miss through a
 * `MissCell`. An extent's life:
 *
 * | state    | in the IOTLBs | in the window | asked for                     | pressure                  | region unmapped      |
 * | -------- | ------------- | ------------- | ----------------------------- | ------------------------- | -------------------- |
 * | absent   | no            | no            | → resident, or pressure first | –                         | –                    |
 * | resident | yes           | yes           | –                             | → leaving, if not pinned  | → absent (quiescent) |
 * | leaving  | no            | yes           | → resident, in another place  | –                         | as it is             |
 *
 * `leaving` ends, → absent, when every reader that was online has been quiescent: one that translated an address before uses it
 * until the end of its burst. Readers are waited for once for a whole batch. Nobody waits for the control thread with an address
 * in hand, and the control thread waits for readers without holding anything they need, so neither can hang the other.
 */
import type { FileStatus } from '@emudev/linux';
import type { ChunkTable } from './chunk-table.ts';
import { DmaError } from './errors.ts';
import { FileView, type Account, type Extent, type ViewUser } from './file-view.ts';
import { CHUNK_BYTES, PAGE_BYTES } from './iotlb.ts';
import { KeptFiles, type KeptFile } from './kept-files.ts';
import {
  EVICT_AT_LEAST, FUTILE_EVICTION_MS, MAX_KEPT_FILES, MAX_VIEW_USERS, MAX_WINDOW_MAPPINGS, PRIVATE_BYTES, RESERVE_BYTES, RESERVE_MAPPINGS,
  RESERVE_PAGE_TABLES, WINDOW_BYTES,
} from './limits.ts';
import { Quiescence, QuiescenceTimeoutError } from './quiescence.ts';
import { failingAsFile, usableBlock, type Window } from './window.ts';

/** A region of a file that has been looked at (`checkFile`). */
export interface FileRegion {
  readonly iova: bigint;
  readonly sizeBytes: number;
  /** Borrowed. */
  readonly fd: number;
  readonly fdOffset: number;
  /** The device may write: then the file must be mappable for writing. */
  readonly writable: boolean;
}

const EACCES = 13;
const EPERM = 1;
const ENOMEM = 12;
const MAPPABLE_BYTES = WINDOW_BYTES - PRIVATE_BYTES;

const ofWindow = new WeakMap<Window, { readonly epoch: number; readonly cache: WindowCache }>();

/** What of the guests' memory is in a window; control thread only. */
export class WindowCache {
  /** The one of this window. */
  static of(window: Window): WindowCache {
    const known = ofWindow.get(window);
    if (known?.epoch === window.epoch) return known.cache;
    const cache = new WindowCache(window);
    ofWindow.set(window, { epoch: window.epoch, cache });
    return cache;
  }

  readonly #window: Window;
  readonly #epoch: number;
  readonly #files: KeptFiles;
  readonly #views = new Map<string, FileView>();
  readonly #accounts = new Set<Account>();
  /** What may have to leave, in the order the clock's hand passes it: it stands at the first, and what it passes goes to the end. */
  readonly #clock = new Set<Extent>();
  /** Something had to leave: small extents, until the window is half empty. */
  #isPressed = false;
  /** The last one that is under way or waits. */
  #eviction: { readonly account: Account | undefined; readonly done: Promise<void> } | undefined;
  #evictions = 0;
  /** An eviction that found nothing is not repeated for every miss: it has looked at everything. */
  #futileUntil = 0;

  private constructor(window: Window) {
    this.#window = window;
    this.#epoch = window.epoch;
    this.#files = new KeptFiles(window.sys);
    window.onEmptied(() => { this.#files.closeAll(); });
  }

  /** Extents that had to leave for others so far. */
  get evictions(): number {
    return this.#evictions;
  }

  /* ---- views ------------------------------------------------------------------------------------------------------------- */

  /**
   * A region begins: all of it is in the window at once if that pushes nobody out. Throws ERR_DMA_FILE with the errno of mmap;
   * ERR_WINDOW_FULL where it does not fit and cannot come in parts, as no descriptor can be kept.
   */
  open(region: FileRegion, status: FileStatus, user: ViewUser): FileView {
    const residue = Number(region.iova & BigInt(CHUNK_BYTES - 1));
    // Ranges that agree in everything are one view: the cards of one guest map the same memory, which need not take its room twice.
    const key = [status.dev, status.ino, region.fdOffset, region.sizeBytes, region.writable, residue].join(':');
    const known = this.#views.get(key);
    if (known !== undefined && known.users.length < MAX_VIEW_USERS) {
      this.#checkRights(region, status, region.writable);
      this.#join(known, user);
      return known;
    }
    const view = this.#newView(key, region, status, residue, user);
    this.#views.set(key, view);
    return view;
  }

  #join(view: FileView, user: ViewUser): void {
    const added: Extent[] = [];
    try {
      for (const extent of view.extents) {
        user.table.add(view.rangeOf(user, extent));
        added.push(extent);
      }
    } catch (error) {
      for (const extent of added) user.table.remove(view.rangeOf(user, extent));
      throw error;
    }
    view.users.push(user);
    this.#enter(user.account);
  }

  /**
   * Mapped for writing even where the device may only read, so that a stray store harms the guest and not us, and for reading only
   * where the descriptor does not permit more. Who stores must check the WRITE permission first in either case.
   */
  #newView(key: string, region: FileRegion, status: FileStatus, residue: number, user: ViewUser): FileView {
    try {
      return this.#filledView(key, region, status, residue, user, true);
    } catch (error) {
      if (region.writable || !(error instanceof DmaError) || (error.errno !== EACCES && error.errno !== EPERM)) throw error;
      return this.#filledView(key, region, status, residue, user, false);
    }
  }

  #filledView(key: string, region: FileRegion, status: FileStatus, residue: number, user: ViewUser, write: boolean): FileView {
    const { fd, fdOffset, sizeBytes } = region;
    const { account } = user;
    const isOwn = !this.#files.has(status, write);
    const kept = this.#files.keep(fd, status, write);
    const file = kept === undefined || account.files.has(kept) || account.files.size < MAX_KEPT_FILES ? kept : (kept.release(), undefined);
    const view = new FileView({ key, account, file, fdOffset, sizeBytes, write, blockBytes: usableBlock(status.blockBytes), residue });
    if (file !== undefined) account.files.set(file, (account.files.get(file) ?? 0) + 1);
    view.users.push(user);
    this.#enter(account);
    try {
      this.#fill(view, fd);
      if (!isOwn || isEmpty(view)) this.#checkRights(region, status, write);
    } catch (error) {
      this.close(view, user);
      throw error;
    }
    return view;
  }

  /** CLIENT: what others have of the file, or will, goes by their descriptors; this one has to permit as much itself. Throws ERR_DMA_FILE. */
  #checkRights({ fd, fdOffset }: FileRegion, status: FileStatus, write: boolean): void {
    const { sys } = this.#window;
    const lengthBytes = usableBlock(status.blockBytes);
    const address = failingAsFile(() => sys.mmap({ address: 0n, lengthBytes, read: true, write, fd, fdOffset: fdOffset - (fdOffset % lengthBytes) }));
    sys.munmap(address, lengthBytes);
  }

  /** All of it where there is room, else the beginning: a file that cannot be mapped is refused now, not under a burst. */
  #fill(view: FileView, fd: number): void {
    try {
      if (this.#hasRoom(view.sizeBytes) && mayStay(view)) this.#map(view, fd, 0, view.sizeBytes);
      else if (view.file !== undefined) this.bring(view, 0);
      else throw full(`no room for a region of ${view.sizeBytes} bytes of a file whose descriptor cannot be kept`);
    } catch (error) {
      if (view.file === undefined || !isFull(error)) throw error;
    }
  }

  /** A region ends; no reader of the user's table is running. */
  close(view: FileView, user: ViewUser): void {
    for (const extent of view.extents) user.table.remove(view.rangeOf(user, extent));
    const pays = view.users[0] === user;
    view.users.splice(view.users.indexOf(user), 1);
    const heir = view.users[0];
    if (pays) {
      for (const extent of view.extents) {
        charge(user.account, extent, -1);
        if (heir !== undefined) charge(heir.account, extent, 1);
      }
    }
    if (--user.account.users === 0) this.#accounts.delete(user.account);
    if (heir === undefined) this.#end(view);
  }

  #end(view: FileView): void {
    if (this.#views.get(view.key) === view) this.#views.delete(view.key);
    const { file, account } = view;
    if (file !== undefined) {
      const left = account.files.get(file)! - 1;
      if (left > 0) account.files.set(file, left);
      else account.files.delete(file);
    }
    for (const extent of view.extents) {
      this.#clock.delete(extent);
      this.#release(extent, file);
    }
    file?.release();
  }

  /** The descriptor goes last: while it is there, taking out pages frees no memory, which is what takes long. */
  #release(extent: Extent, file: KeptFile | undefined): void {
    file?.retain();
    extent.mapping.release(() => file?.release());
  }

  /* ---- extents ----------------------------------------------------------------------------------------------------------- */

  /** The part of the view that has the byte at `at`, in the window now. Throws ERR_WINDOW_FULL and the like: after an eviction there may be room. */
  bring(view: FileView, at: number): Extent {
    const there = view.find(at);
    if (there !== undefined) return there;
    const fd = view.file!.fd;
    const large = view.place(at, view.largeBytes);
    if (this.#isPressed && this.#window.mappableBytes > MAPPABLE_BYTES / 2) this.#isPressed = false;
    const isLarge = view.largeBytes === view.smallBytes
      || (!this.#isPressed && this.#hasRoom(large.lengthBytes) && view.isAbsent(large.start, large.lengthBytes));
    const { start, lengthBytes } = isLarge ? large : view.place(at, view.smallBytes);
    try {
      return this.#map(view, fd, start, lengthBytes);
    } catch (error) {
      // Room there may be, but not in one piece.
      const small = view.place(at, view.smallBytes);
      if (!isFull(error) || small.lengthBytes >= lengthBytes) throw error;
      return this.#map(view, fd, small.start, small.lengthBytes);
    } finally {
      if ((!this.#hasRoom(0) || isShort(view)) && performance.now() >= this.#futileUntil) void this.evict();
    }
  }

  /** Whether so much more fits without touching what eviction keeps free. */
  #hasRoom(bytes: number): boolean {
    return this.#window.mappableBytes - bytes >= RESERVE_BYTES && this.#window.mappingCount < MAX_WINDOW_MAPPINGS - RESERVE_MAPPINGS;
  }

  #map(view: FileView, fd: number, start: number, lengthBytes: number): Extent {
    const payer = view.users[0]!;
    const mapping = this.#window.map({
      fd, fdOffset: view.fdOffset + start, lengthBytes, write: view.write, blockBytes: view.blockBytes,
      // Only what can hold a whole chunk gains from congruence; small ones are packed.
      ...(lengthBytes >= CHUNK_BYTES ? { congruentTo: BigInt(payer.page) * BigInt(PAGE_BYTES) + BigInt(start) } : {}),
    });
    const extent: Extent = { view, start, lengthBytes, mapping, pins: 0 };
    const added: ViewUser[] = [];
    try {
      for (const user of view.users) {
        user.table.add(view.rangeOf(user, extent));
        added.push(user);
      }
    } catch (error) {
      for (const user of added) user.table.evict(view.rangeOf(user, extent));
      if (added.length === 0) mapping[Symbol.dispose]();
      // Readers may have found it already.
      else void this.#leave([extent]);
      throw error;
    }
    view.add(extent);
    charge(payer.account, extent, 1);
    if (view.file !== undefined) this.#clock.add(extent);
    return extent;
  }

  /* ---- eviction ---------------------------------------------------------------------------------------------------------- */

  /** Resolves when there is room in the window, or if there is, in this device's IOTLB; or when nothing could be done about it. */
  makeRoom(account: Account): Promise<void> {
    return this.#hasRoom(0) && !this.#isShort() ? this.evict(account) : this.evict();
  }

  /** `account`: only what this device has in the window. */
  evict(account?: Account): Promise<void> {
    const last = this.#eviction;
    // One at a time; for another device it is one of its own.
    if (last !== undefined && last.account === account) return last.done;
    const done = (last === undefined ? this.#evict(account) : last.done.then(() => this.#evict(account))).finally(() => {
      if (this.#eviction === eviction) this.#eviction = undefined;
    });
    const eviction = { account, done };
    this.#eviction = eviction;
    return done;
  }

  async #evict(account: Account | undefined): Promise<void> {
    // What was brought in by this turn of the event loop is asked for by somebody who has not used it yet.
    await Promise.resolve();
    const victims = this.#victims(account);
    this.#isPressed ||= victims.length > 0;
    for (const extent of victims) {
      const { view } = extent;
      for (const user of view.users) user.table.evict(view.rangeOf(user, extent));
      view.delete(extent);
    }
    this.#evictions += victims.length;
    if (victims.length === 0) this.#futileUntil = performance.now() + FUTILE_EVICTION_MS;
    await this.#leave(victims);
  }

  /** Waits until nobody can have an address in the extents, which are in no IOTLB any more, and takes them out. */
  async #leave(extents: readonly Extent[]): Promise<void> {
    if (extents.length === 0) return;
    const files = extents.map(({ view }) => view.file);
    for (const file of files) file?.retain();
    const tables = new Set<ChunkTable>(extents.flatMap(({ view }) => view.users.map((user) => user.table)));
    // What is short may be held by the tables of others.
    const short = this.#isShort();
    if (short) for (const view of this.#views.values()) for (const { table } of view.users) tables.add(table);
    for (const table of tables) table.compact(short);
    const garbage = [...tables].map((table) => ({ table, pieces: table.garbage() }));
    // A reader that hangs may still use them: then they stay.
    while (!(await this.#quiescent())) if (this.#window.epoch !== this.#epoch) break;
    if (this.#window.epoch === this.#epoch) for (const { table, pieces } of garbage) table.collectGarbage(pieces);
    extents.forEach((extent, n) => { extent.mapping.release(() => files[n]?.release()); });
  }

  async #quiescent(): Promise<boolean> {
    try {
      await Quiescence.of(this.#window).synchronize();
      return true;
    } catch (error) {
      if (!(error instanceof QuiescenceTimeoutError)) throw error;
      return false;
    }
  }

  /**
   * A clock: what has been used since the hand came by last is passed over, twice at most. Devices keep what is within their share
   * of the window, so a guest that touches more and more pushes out its own extents, not its neighbours'.
   */
  #victims(account: Account | undefined): Extent[] {
    const victims: Extent[] = [];
    let bytes = 2 * RESERVE_BYTES - this.#window.mappableBytes;
    let count = this.#window.mappingCount - (MAX_WINDOW_MAPPINGS - 2 * RESERVE_MAPPINGS);
    if (account !== undefined) count = Math.max(count, EVICT_AT_LEAST);
    // Then what takes none may stay.
    const onlyParts = this.#isShort() && bytes <= 0 && count <= 0;
    if (onlyParts) count = RESERVE_PAGE_TABLES;
    const pass = this.#clock.size;
    let step = 0;
    for (const extent of this.#clock) {
      if (step >= 4 * pass || (bytes <= 0 && count <= 0)) break;
      const owner = extent.view.users[0]!.account;
      const keep = extent.pins > 0
        || (onlyParts && extent.lengthBytes >= CHUNK_BYTES)
        || (account !== undefined ? !extent.view.users.some((user) => user.account === account) : step < 3 * pass && !this.#isOverShare(owner))
        || (this.#takeUsed(extent) && step < 2 * pass);
      step++;
      this.#clock.delete(extent);
      if (keep) {
        this.#clock.add(extent);
        continue;
      }
      charge(owner, extent, -1);
      victims.push(extent);
      bytes -= extent.lengthBytes;
      count--;
    }
    return victims;
  }

  /** Page tables are what is short. */
  #isShort(): boolean {
    for (const view of this.#views.values()) return isShort(view);
    return false;
  }

  #isOverShare({ bytes, extents }: Account): boolean {
    const devices = this.#accounts.size;
    return bytes > (MAPPABLE_BYTES - 2 * RESERVE_BYTES) / devices || extents > (MAX_WINDOW_MAPPINGS - 2 * RESERVE_MAPPINGS) / devices;
  }

  #takeUsed(extent: Extent): boolean {
    let used = false;
    for (const user of extent.view.users) used = user.table.takeUsed(extent.view.rangeOf(user, extent)) || used;
    return used;
  }

  #enter(account: Account): void {
    account.users++;
    this.#accounts.add(account);
  }
}

/** Whether an error means that there is no room now. */
function isFull(error: unknown): boolean {
  return error instanceof DmaError && (error.code === 'ERR_WINDOW_FULL' || error.code === 'ERR_DMA_LIMIT' || (error.code === 'ERR_DMA_FILE' && error.errno === ENOMEM));
}

function isShort(view: FileView): boolean {
  return view.users[0]!.table.pageTablesLeft < RESERVE_PAGE_TABLES;
}

/** CLIENT: what no eviction takes out is at most half of the window for one device, or others would have nothing. */
function mayStay({ file, account, sizeBytes }: FileView): boolean {
  return file !== undefined || (account.fixed.bytes + sizeBytes <= MAPPABLE_BYTES / 2 && account.fixed.extents < MAX_WINDOW_MAPPINGS / 2);
}

function isEmpty(view: FileView): boolean {
  for (const _ of view.extents) return false;
  return true;
}

function full(message: string): DmaError {
  return new DmaError('ERR_WINDOW_FULL', message);
}

function charge(account: Account, extent: Extent, sign: 1 | -1): void {
  account.bytes += sign * extent.lengthBytes;
  account.extents += sign;
  if (extent.view.file !== undefined) return;
  account.fixed.bytes += sign * extent.lengthBytes;
  account.fixed.extents += sign;
}
