import type { Sys } from './sys.ts';
import { LinuxError } from './errors.ts';
import { EBADF } from './libc.ts';
import { linux } from './linux.ts';

/**
 * The one owner of a descriptor: closes it exactly once, when disposed, unless the number was taken away before.
 *
 * | state  | fd     | take          | close, dispose |
 * | ------ | ------ | ------------- | -------------- |
 * | owned  | number | number → gone | close → gone   |
 * | gone   | throws | throws        | nothing        |
 */
export class OwnedFd implements Disposable {
  readonly #sys: Pick<Sys, 'close'>;
  #fd: number;

  constructor(fd: number, sys: Pick<Sys, 'close'> = linux) {
    if (!Number.isInteger(fd) || fd < 0) throw new LinuxError(EBADF, 'OwnedFd', String(fd));
    this.#fd = fd;
    this.#sys = sys;
  }

  /** The number, to pass to `Sys`; EBADF once closed or taken. */
  get fd(): number {
    if (this.#fd < 0) throw new LinuxError(EBADF, 'OwnedFd', '', 'used after it was closed or taken');
    return this.#fd;
  }

  /** True once closed or taken: `fd` throws then. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Hands the number over to a new owner: this object will not close it. */
  take(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /** close(2); nothing where it was closed or taken before. Throws EBADF where somebody else has closed the number. */
  close(): void {
    const fd = this.#fd;
    if (fd < 0) return;
    // First, so that a failing close is not tried on a number that may be somebody else's by then.
    this.#fd = -1;
    this.#sys.close(fd);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
