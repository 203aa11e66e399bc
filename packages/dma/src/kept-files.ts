/** Descriptors of the files behind mapped regions: what a part that is not in the window is brought in from, or read and written through. */
import { close } from 'node:fs';
import { LinuxError } from '@emudev/linux';
import type { FileStatus, Sys } from '@emudev/linux';
import { BACKGROUND_CLOSE_BYTES } from './limits.ts';

/** One descriptor per file and way of mapping, however many regions of however many devices lie in it. */
export class KeptFile {
  readonly fd: number;
  readonly #sys: Sys;
  readonly #status: FileStatus;
  readonly #forget: () => void;
  #users = 1;

  constructor(sys: Sys, fd: number, status: FileStatus, forget: () => void) {
    this.fd = fd;
    this.#sys = sys;
    this.#status = status;
    this.#forget = forget;
  }

  retain(): void {
    this.#users++;
  }

  /** Whoever still has it does not need it any more. */
  close(): void {
    if (this.#users === 0) return;
    this.#users = 1;
    this.release();
  }

  /** The last one closes it. Of a guest that was killed we may be the last to hold the memory, and freeing gigabytes takes a second. */
  release(): void {
    if (this.#users === 0 || --this.#users > 0) return;
    this.#forget();
    if (this.#status.sizeBytes <= BACKGROUND_CLOSE_BYTES) this.#sys.close(this.fd);
    // Whatever close(2) says, the descriptor is released.
    else close(this.fd, () => {});
  }
}

export class KeptFiles {
  readonly #sys: Sys;
  readonly #files = new Map<string, KeptFile>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** Whether there is one already, which may have come from somebody with other rights. */
  has(status: FileStatus, write: boolean): boolean {
    return this.#files.has(keyOf(status, write));
  }

  /** A descriptor of the file that `fd` is one of, to be released; undefined where the process has none left. `write`: opened for writing, too. */
  keep(fd: number, status: FileStatus, write: boolean): KeptFile | undefined {
    const key = keyOf(status, write);
    const known = this.#files.get(key);
    if (known !== undefined) {
      known.retain();
      return known;
    }
    try {
      const file = new KeptFile(this.#sys, this.#sys.dup(fd), status, () => this.#files.delete(key));
      this.#files.set(key, file);
      return file;
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      return undefined;
    }
  }

  closeAll(): void {
    for (const file of [...this.#files.values()]) file.close();
  }
}

function keyOf({ dev, ino }: FileStatus, write: boolean): string {
  return `${dev}:${ino}:${write}`;
}
