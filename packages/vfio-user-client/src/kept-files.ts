/**
 * Descriptors kept for a reconnect. Many maps lie in few files, so one duplicate stands for all maps of a file: the number of
 * open descriptors must not grow with the DMA table.
 */
import type { Sys } from '@emudev/linux';

/** A share in a kept descriptor; given back exactly once. */
export interface KeptFile {
  readonly fd: number;
  release(): void;
}

export class KeptFiles {
  readonly #sys: Sys;
  readonly #files = new Map<string, { readonly fd: number; shares: number }>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** `fd` is borrowed. A descriptor that is good for writing is not replaced by one that may be open for reading only. */
  keep(fd: number, writable: boolean): KeptFile {
    const { dev, ino } = this.#sys.fstat(fd);
    const key = `${dev}:${ino}:${writable}`;
    let file = this.#files.get(key);
    if (file === undefined) this.#files.set(key, (file = { fd: this.#sys.dup(fd), shares: 0 }));
    const shared = file;
    shared.shares++;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      if (--shared.shares > 0) return;
      this.#files.delete(key);
      this.#sys.close(shared.fd);
    };
    return { fd: shared.fd, release };
  }
}
