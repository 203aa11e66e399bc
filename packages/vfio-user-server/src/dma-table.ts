/**
 * The DMA table as the wire has it: an `IovaSpace` plus what each way of mapping needs to stay alive.
 *
 * | DMA_MAP               | how the device reaches the memory                                   | who logs dirty pages |
 * | --------------------- | ------------------------------------------------------------------- | -------------------- |
 * | fd (flag MMAP or not) | mapped into the window                                              | we                   |
 * | fd and FILE_IO        | pread and pwrite on the file, whose descriptor is kept              | we                   |
 * | no fd                 | DMA_READ and DMA_WRITE messages, if the client serves them          | the client           |
 */
import type { Sys } from '@emudev/linux';
import { IovaSpace, type RemoteMemory, type Truncation, type Window } from '@emudev/dma';
import {
  badRequest, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_USER_F_DMA_REGION_FILE_IO, type DmaMap, type DmaUnmap,
} from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';
import { FileMemories } from './file-memory.ts';
import { MAX_DMA_REGION_BYTES, type ServerLimits } from './limits.ts';

const ENOSPC = 28;

export class DmaTable implements Disposable {
  /** What the device gets as `host.memory`. */
  readonly memory: IovaSpace;
  readonly #maxMaps: number;
  readonly #files: FileMemories;

  constructor(sys: Sys, window: Window, limits: Pick<ServerLimits, 'maxDmaMaps' | 'maxFileIoMaps'>, truncation: Truncation | undefined) {
    this.#maxMaps = limits.maxDmaMaps;
    this.#files = new FileMemories(sys, limits.maxFileIoMaps);
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
    if (before >= this.#maxMaps && !this.memory.has(map.address)) throw new VfioUserServerError('ERR_SERVER_DMA_MAPS', ENOSPC, `DMA_MAP: ${this.#maxMaps} regions are mapped already, which is what was announced`);
    if (fd !== undefined && (map.flags & VFIO_USER_F_DMA_REGION_FILE_IO) !== 0) {
      this.#files.add(map, fds, (remote) => {
        this.memory.map({ ...request, remote });
        return this.size > before;
      });
    } else if (fd !== undefined) {
      this.memory.map({ ...request, fd, fdOffset: map.fdOffset });
    } else {
      this.memory.map(messages === undefined ? request : { ...request, remote: messages });
    }
  }

  /**
   * Only while the device is quiescent. The bitmap if the request asks for one; where there can be none (nothing is logged, a
   * page size that does not fit) the region stays mapped.
   */
  unmap(unmap: DmaUnmap): Uint8Array | undefined {
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0) {
      this.clear();
      return undefined;
    }
    let dirty: Uint8Array | undefined;
    if (unmap.bitmap === undefined) this.memory.unmap(unmap.address, unmap.size);
    else dirty = this.memory.unmapReporting(unmap.address, unmap.size, unmap.bitmap.pageSize);
    this.#files.remove(unmap.address);
    return dirty;
  }

  clear(): void {
    this.memory.clear();
    this.#files.clear();
  }

  [Symbol.dispose](): void {
    this.clear();
    this.memory[Symbol.dispose]();
  }
}
