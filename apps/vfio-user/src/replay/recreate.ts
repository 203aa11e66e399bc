/** Descriptors for a replay: of the kind and size that the recording says, with nothing in them. */
import type { Sys } from '@emudev/linux';
import { MAX_REPLAYED_FILES } from '../limits.ts';
import { descriptorText, type DescriptorInfo } from '../trace/descriptors.ts';

/** A recording that asks for what cannot be had. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError';
  readonly code = 'ERR_REPLAY';
}

export class Recreated implements Disposable {
  readonly #sys: Sys;
  /** By the recording's number of the file. */
  readonly #files = new Map<number, { readonly fd: number; sizeBytes: number }>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** The caller closes it. @throws ReplayError for a kind that cannot be made */
  open(info: DescriptorInfo): number {
    if (info.kind === 'eventfd') return this.#sys.eventfd();
    if (info.kind !== 'memfd' && info.kind !== 'file') throw new ReplayError(`a descriptor of kind "${info.kind}" cannot be made again; memory files, files and eventfds can`);
    if (info.file === 0) return this.#memory(info);
    let known = this.#files.get(info.file);
    if (known === undefined) {
      if (this.#files.size >= MAX_REPLAYED_FILES) throw new ReplayError(`more than ${MAX_REPLAYED_FILES} memory files`);
      this.#files.set(info.file, (known = { fd: this.#memory(info), sizeBytes: info.sizeBytes }));
    } else if (info.sizeBytes > known.sizeBytes) {
      this.#resize(known.fd, info);
      known.sizeBytes = info.sizeBytes;
    }
    return this.#sys.dup(known.fd);
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#files.values()) this.#sys.close(fd);
    this.#files.clear();
  }

  #memory(info: DescriptorInfo): number {
    const fd = this.#sys.memfdCreate('replay', { allowSealing: true });
    try {
      this.#resize(fd, info);
    } catch (error) {
      this.#sys.close(fd);
      throw error;
    }
    return fd;
  }

  #resize(fd: number, info: DescriptorInfo): void {
    try {
      this.#sys.ftruncate(fd, info.sizeBytes);
    } catch (error) {
      throw new ReplayError(`a ${descriptorText(info)} cannot be made: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
