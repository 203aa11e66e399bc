/** FILE_IO regions: the client's memory in a file that is read and written, not mapped. Regions of one file share one descriptor. */
import { OwnedFd, S_IFMT, S_IFREG, type Sys } from '@emudev/linux';
import type { RemoteMemory } from '@emudev/dma';
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, type DmaMap } from '@emudev/vfio-user-protocol';
import { VfioUserServerError } from './errors.ts';

const EFAULT = 14;
const EINVAL = 22;
const ENOSPC = 28;

interface SharedFile {
  readonly key: string;
  readonly fd: OwnedFd;
  regions: number;
}

export class FileMemory implements RemoteMemory {
  /** The client sees nothing of these writes: dirty pages are logged here. */
  readonly direct = true;
  readonly file: SharedFile;
  readonly #sys: Sys;
  readonly #map: DmaMap;

  constructor(sys: Sys, file: SharedFile, map: DmaMap) {
    this.#sys = sys;
    this.file = file;
    this.#map = map;
  }

  isSame(other: RemoteMemory): boolean {
    return other instanceof FileMemory && other.file.key === this.file.key && other.#map.fdOffset === this.#map.fdOffset;
  }

  read(iova: bigint, into: Uint8Array): Promise<void> {
    return this.#transfer(iova, into, this.#sys.pread);
  }

  write(iova: bigint, from: Uint8Array): Promise<void> {
    return this.#transfer(iova, from, this.#sys.pwrite);
  }

  async #transfer(iova: bigint, bytes: Uint8Array, io: Sys['pread']): Promise<void> {
    const offset = Number(this.#map.fdOffset + (iova - this.#map.address));
    for (let done = 0; done < bytes.length;) {
      const n = io(this.file.fd.fd, bytes.subarray(done), offset + done);
      // CLIENT: a file that is shorter than it was said to be is an error here, where a mapping would be a fatal signal.
      if (n <= 0) throw new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EFAULT, `the client's file ends before offset ${offset + done}`);
      done += n;
    }
    return Promise.resolve();
  }
}

export class FileMemories {
  readonly #sys: Sys;
  readonly #maxFiles: number;
  readonly #files = new Map<string, SharedFile>();
  readonly #byIova = new Map<bigint, SharedFile>();

  constructor(sys: Sys, maxFiles: number) {
    this.#sys = sys;
    this.#maxFiles = maxFiles;
  }

  /**
   * Calls `enter` with the memory behind the region; true from it: the region is new. `fds[0]` is taken out of the list where it
   * has to be kept, and stays the caller's where another of the same file is kept already, or something throws.
   */
  add(map: DmaMap, fds: number[], enter: (memory: FileMemory) => boolean): void {
    const fd = fds[0]!;
    const { mode, dev, ino, sizeBytes } = this.#sys.fstat(fd);
    // CLIENT: reading a pipe, a terminal or a socket could block for ever; a regular file cannot be waited for.
    if ((mode & S_IFMT) !== S_IFREG) throw new VfioUserServerError('ERR_SERVER_DMA_FILE', EINVAL, 'DMA_MAP: FILE_IO needs a regular file');
    // CLIENT: files of /proc and the like say they are regular and may block all the same, but they have no size to speak of.
    if (map.fdOffset + map.size > BigInt(sizeBytes)) throw new VfioUserServerError('ERR_SERVER_DMA_FILE', EINVAL, `DMA_MAP: the file has ${sizeBytes} bytes, the region wants [${map.fdOffset}, ${map.fdOffset + map.size})`);
    // By permissions, too: a descriptor that came for reading is not written through.
    const key = `${dev}:${ino}:${map.flags & (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)}`;
    const known = this.#files.get(key);
    if (known === undefined && this.#files.size >= this.#maxFiles) throw new VfioUserServerError('ERR_SERVER_DMA_MAPS', ENOSPC, `DMA_MAP: FILE_IO regions keep ${this.#maxFiles} descriptors already`);
    const file = known ?? { key, fd: new OwnedFd(fd, this.#sys), regions: 0 };
    let isNew = false;
    try {
      isNew = enter(new FileMemory(this.#sys, file, map));
    } finally {
      if (!isNew && known === undefined) file.fd.take();
    }
    if (!isNew) return;
    if (known === undefined) fds.shift();
    file.regions++;
    this.#files.set(key, file);
    this.#byIova.set(map.address, file);
  }

  /** Nothing happens where no such region is. */
  remove(iova: bigint): void {
    const file = this.#byIova.get(iova);
    if (file === undefined) return;
    this.#byIova.delete(iova);
    if (--file.regions > 0) return;
    this.#files.delete(file.key);
    file.fd.close();
  }

  clear(): void {
    for (const iova of [...this.#byIova.keys()]) this.remove(iova);
  }
}
