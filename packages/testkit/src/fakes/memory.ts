/** Guest memory for tests: everything a device does to it is seen, and it may be as treacherous as a guest. */
import { fail } from 'node:assert/strict';
import { IovaSpace, Window, type PinnedRange } from '@emudev/dma';
import { linux } from '@emudev/linux';
import type { Access, GuestMemory } from '@emudev/pci';

/** How a region of guest memory is mapped. */
export interface TestMapOptions {
  /** What the device may do; both by default. */
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** Not mapped into the window: accesses are messages, so `read` and `write` return promises and `translate` finds nothing. */
  readonly byMessage?: boolean;
}

/** One access of the device, in order. */
export interface MemoryAccess {
  readonly access: Access;
  readonly iova: bigint;
  /** What was read or written. */
  readonly bytes: Uint8Array;
}

interface Region {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly fd: number;
}

/**
 * `GuestMemory` over the DMA window. Regions are memfds, so kernels and other threads reach them through `iotlb` and `translate`
 * as they would a guest's; what goes through `read` and `write` is noted besides. An access through `translate` is plain memory:
 * that the device asked is all that can be seen of it.
 */
export class TestMemory implements GuestMemory, Disposable {
  readonly #window: Window = Window.open();
  readonly #space: IovaSpace = new IovaSpace(this.#window);
  readonly #regions = new Map<bigint, Region>();
  readonly #fetches = new Map<bigint, number>();
  readonly #treacherous: { readonly from: bigint; readonly to: bigint; readonly change: (at: bigint, byte: number) => number }[] = [];
  #accesses: MemoryAccess[] = [];
  #translations = 0;
  #disposed = false;

  get generation(): number {
    return this.#space.generation;
  }
  get iotlb(): number {
    return this.#space.iotlb;
  }

  /** Reads and writes of the device, oldest first, since the last `forget`. */
  get accesses(): readonly MemoryAccess[] {
    return this.#accesses;
  }
  /** The writes among them. */
  get writes(): readonly MemoryAccess[] {
    return this.#accesses.filter(({ access }) => access === 'write');
  }
  /** How often `translate` or `pin` was asked since the last `forget`. */
  get translations(): number {
    return this.#translations;
  }
  /** Reads, writes and translations: 0 for a device that lets memory alone. */
  get touched(): number {
    return this.#accesses.length + this.#translations;
  }

  /** What the device did so far is forgotten: a byte may be fetched once more. */
  forget(): void {
    this.#accesses = [];
    this.#fetches.clear();
    this.#translations = 0;
  }

  /** Adds zero-filled memory; multiples of 4096. Only while the device is quiescent: `TestHost.map` sees to it. */
  map(iova: bigint, sizeBytes: number, options: TestMapOptions = {}): void {
    const { readable = true, writable = true, byMessage = false } = options;
    const fd = linux.memfdCreate('testkit-guest', { allowSealing: true });
    try {
      linux.ftruncate(fd, sizeBytes);
      const file = { iova, sizeBytes, fd };
      this.#space.map({ iova, sizeBytes, readable, writable, ...(byMessage ? { remote: this.#remote(file) } : { fd }) });
      this.#regions.set(iova, file);
    } catch (error) {
      linux.close(fd);
      throw error;
    }
  }

  /** Removes what was mapped at `iova`. */
  unmap(iova: bigint): void {
    const region = this.#regions.get(iova) ?? fail(`nothing was mapped at 0x${iova.toString(16)}`);
    this.#space.unmap(iova, region.sizeBytes);
    this.#regions.delete(iova);
    linux.close(region.fd);
  }

  /** Where and how much is mapped. */
  regions(): readonly { readonly iova: bigint; readonly sizeBytes: number }[] {
    return [...this.#regions.values()].map(({ iova, sizeBytes }) => ({ iova, sizeBytes }));
  }

  /** The guest's own look: not counted, no permissions. */
  peek(iova: bigint, lengthBytes: number): Uint8Array {
    const { fd, offset } = this.#place(iova, lengthBytes);
    const bytes = new Uint8Array(lengthBytes);
    linux.pread(fd, bytes, offset);
    return bytes;
  }

  /** The guest's own store: not counted, no permissions. */
  poke(iova: bigint, bytes: Uint8Array): void {
    const { fd, offset } = this.#place(iova, bytes.length);
    linux.pwrite(fd, bytes, offset);
  }

  /**
   * From now on each byte of the range changes right after the device has fetched it: what a hostile guest does to a device that
   * fetches twice. Inverted by default.
   */
  changeAfterFetch(iova: bigint, lengthBytes: number, change: (at: bigint, byte: number) => number = (_at, byte) => byte ^ 0xff): void {
    this.#treacherous.push({ from: iova, to: iova + BigInt(lengthBytes), change });
  }

  /** How often a byte was fetched through `read` since the last `forget`. */
  fetches(iova: bigint): number {
    return this.#fetches.get(iova) ?? 0;
  }

  /** Fails where a byte was fetched twice since the last `forget`: between the two a guest may have changed it. */
  assertNoDoubleFetch(): void {
    const twice = [...this.#fetches].find(([, count]) => count > 1);
    if (twice !== undefined) fail(`the byte at 0x${twice[0].toString(16)} was fetched ${twice[1]} times: fetch once, check the copy, use the copy`);
  }

  read(iova: bigint, into: Uint8Array): void | Promise<void> {
    const done = (): void => { this.#fetched(iova, into); };
    const pending = this.#space.read(iova, into);
    if (pending === undefined) done();
    else return pending.then(done);
  }

  write(iova: bigint, from: Uint8Array): void | Promise<void> {
    const bytes = from.slice();
    const done = (): void => { this.#accesses.push({ access: 'write', iova, bytes }); };
    const pending = this.#space.write(iova, from);
    if (pending === undefined) done();
    else return pending.then(done);
  }

  translate(iova: bigint, lengthBytes: number, access: Access): number | undefined {
    this.#translations++;
    return this.#space.translate(iova, lengthBytes, access);
  }

  pin(iova: bigint, lengthBytes: number, access: Access): PinnedRange | undefined {
    this.#translations++;
    return this.#space.pin(iova, lengthBytes, access);
  }

  markDirty(iova: bigint, lengthBytes: number): void {
    this.#space.markDirty(iova, lengthBytes);
  }

  /** Unmaps everything. */
  clear(): void {
    for (const iova of [...this.#regions.keys()]) this.unmap(iova);
  }

  /** Unmaps everything and closes the window. Harmless a second time. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.clear();
    this.#space[Symbol.dispose]();
    this.#window[Symbol.dispose]();
  }

  #fetched(iova: bigint, bytes: Uint8Array): void {
    this.#accesses.push({ access: 'read', iova, bytes: bytes.slice() });
    for (let i = 0; i < bytes.length; i++) {
      const at = iova + BigInt(i);
      this.#fetches.set(at, (this.#fetches.get(at) ?? 0) + 1);
      for (const { from, to, change } of this.#treacherous) if (at >= from && at < to) this.poke(at, Uint8Array.of(change(at, bytes[i]!)));
    }
  }

  #place(iova: bigint, lengthBytes: number): { fd: number; offset: number } {
    for (const region of this.#regions.values()) {
      if (iova >= region.iova && iova + BigInt(lengthBytes) <= region.iova + BigInt(region.sizeBytes)) return { fd: region.fd, offset: Number(iova - region.iova) };
    }
    return fail(`${lengthBytes} bytes at 0x${iova.toString(16)} do not lie in one mapped region`);
  }

  #remote({ iova, fd }: Region): { read(at: bigint, into: Uint8Array): Promise<void>; write(at: bigint, from: Uint8Array): Promise<void> } {
    const later = async (body: () => void): Promise<void> => {
      await new Promise((resolve) => { setImmediate(resolve); });
      body();
    };
    return {
      read: (at, into) => later(() => { linux.pread(fd, into, Number(at - iova)); }),
      write: (at, from) => later(() => { linux.pwrite(fd, from, Number(at - iova)); }),
    };
  }
}
