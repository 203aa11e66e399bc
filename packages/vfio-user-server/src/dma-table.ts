/**
 * The DMA table as the wire has it: an `IovaSpace` plus what each way of mapping needs to stay alive.
 *
 * | DMA_MAP               | how the device reaches the memory                                   |
 * | --------------------- | ------------------------------------------------------------------- |
 * | fd (flag MMAP or not) | mapped into the window                                              |
 * | fd and FILE_IO        | pread and pwrite on the file, whose descriptor is kept              |
 * | no fd                 | DMA_READ and DMA_WRITE messages, if the client serves them          |
 */
import { OwnedFd, S_IFMT, S_IFREG, type Sys } from '@emudev/linux';
import { IovaSpace, type RemoteMemory, type Truncation, type Window } from '@emudev/dma';
import {
  badRequest, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, VFIO_USER_F_DMA_REGION_FILE_IO, type DmaMap, type DmaUnmap,
} from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';
import { MAX_DMA_REGION_BYTES, type ServerLimits } from './limits.ts';

const EFAULT = 14;
const EINVAL = 22;
const ENOSPC = 28;

class FileMemory implements RemoteMemory {
  readonly #sys: Sys;
  readonly #fd: OwnedFd;
  readonly #iova: bigint;
  readonly #fdOffset: bigint;

  constructor(sys: Sys, fd: OwnedFd, map: DmaMap) {
    this.#sys = sys;
    this.#fd = fd;
    this.#iova = map.address;
    this.#fdOffset = map.fdOffset;
  }

  read(iova: bigint, into: Uint8Array): Promise<void> {
    return this.#transfer(iova, into, this.#sys.pread);
  }

  write(iova: bigint, from: Uint8Array): Promise<void> {
    return this.#transfer(iova, from, this.#sys.pwrite);
  }

  async #transfer(iova: bigint, bytes: Uint8Array, io: Sys['pread']): Promise<void> {
    const offset = Number(this.#fdOffset + (iova - this.#iova));
    for (let done = 0; done < bytes.length;) {
      const n = io(this.#fd.fd, bytes.subarray(done), offset + done);
      // CLIENT: a file that is shorter than it was said to be is an error here, where a mapping would be a fatal signal.
      if (n <= 0) throw new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EFAULT, `the client's file ends before offset ${offset + done}`);
      done += n;
    }
    return Promise.resolve();
  }
}

export class DmaTable implements Disposable {
  /** What the device gets as `host.memory`. */
  readonly memory: IovaSpace;
  readonly #sys: Sys;
  readonly #maxMaps: number;
  readonly #maxFiles: number;
  /** Descriptors behind FILE_IO regions, by IOVA. */
  readonly #files = new Map<bigint, OwnedFd>();

  constructor(sys: Sys, window: Window, limits: Pick<ServerLimits, 'maxDmaMaps' | 'maxFileIoMaps'>, truncation: Truncation | undefined) {
    this.#sys = sys;
    this.#maxMaps = limits.maxDmaMaps;
    this.#maxFiles = limits.maxFileIoMaps;
    this.memory = new IovaSpace(window, truncation === undefined ? {} : { truncation });
  }

  get size(): number {
    return this.memory.size;
  }

  /** Refuses what needs no look at the table, so that a hostile map does not stop the device. */
  check(map: DmaMap): void {
    if (map.size > MAX_DMA_REGION_BYTES) throw badRequest('ERR_VFU_RANGE', `DMA_MAP: 0x${map.size.toString(16)} bytes, at most 0x${MAX_DMA_REGION_BYTES.toString(16)}`, ENOSPC);
  }

  /** Only while the device is quiescent. `fds[0]` stays the caller's unless it is taken out of the list. */
  map(map: DmaMap, fds: number[], messages: RemoteMemory | undefined): void {
    const fd = fds[0];
    const request = {
      iova: map.address, sizeBytes: map.size, readable: (map.flags & VFIO_DMA_MAP_FLAG_READ) !== 0, writable: (map.flags & VFIO_DMA_MAP_FLAG_WRITE) !== 0,
    };
    const before = this.size;
    if (before >= this.#maxMaps && !this.#has(map)) throw new VfioUserServerError('ERR_SERVER_DMA_MAPS', ENOSPC, `DMA_MAP: ${this.#maxMaps} regions are mapped already, which is what was announced`);
    if (fd !== undefined && (map.flags & VFIO_USER_F_DMA_REGION_FILE_IO) !== 0) {
      // CLIENT: reading a pipe, a terminal or a socket could block for ever; a regular file cannot be waited for.
      if ((this.#sys.fstat(fd).mode & S_IFMT) !== S_IFREG) throw new VfioUserServerError('ERR_SERVER_DMA_FILE', EINVAL, 'DMA_MAP: FILE_IO needs a regular file');
      if (this.#files.size >= this.#maxFiles && !this.#has(map)) throw new VfioUserServerError('ERR_SERVER_DMA_MAPS', ENOSPC, `DMA_MAP: ${this.#maxFiles} FILE_IO regions keep a descriptor already`);
      const kept = new OwnedFd(fd, this.#sys);
      this.memory.map({ ...request, remote: new FileMemory(this.#sys, kept, map) });
      // Mapped once more, identically: the first descriptor serves both.
      if (this.size === before) return void kept.take();
      fds.shift();
      this.#files.set(map.address, kept);
    } else if (fd !== undefined) {
      this.memory.map({ ...request, fd, fdOffset: map.fdOffset });
    } else {
      this.memory.map(messages === undefined ? request : { ...request, remote: messages });
    }
  }

  /** Only while the device is quiescent. */
  unmap(unmap: DmaUnmap): void {
    // No dirty pages are tracked: a bitmap can only be refused, and the region stays mapped.
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0) throw badRequest('ERR_VFU_FLAGS', 'DMA_UNMAP: dirty pages are not being logged');
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0) return this.clear();
    this.memory.unmap(unmap.address, unmap.size);
    this.#closeFile(unmap.address);
  }

  clear(): void {
    this.memory.clear();
    for (const iova of [...this.#files.keys()]) this.#closeFile(iova);
  }

  [Symbol.dispose](): void {
    this.clear();
    this.memory[Symbol.dispose]();
  }

  #has(map: DmaMap): boolean {
    for (const entry of this.memory.entries()) if (entry.iova === map.address) return true;
    return false;
  }

  #closeFile(iova: bigint): void {
    this.#files.get(iova)?.close();
    this.#files.delete(iova);
  }
}
