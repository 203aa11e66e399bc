import { LinuxError, type Sys } from '@emudev/linux';
import { READ_BYTES, STALLED_RETRY_MS } from './limits.ts';

export interface FdStreamOptions {
  readonly sys: Sys;
  /** May be the same. The stream closes neither. */
  readonly input: number;
  readonly output: number;
  data(bytes: Uint8Array): void;
  writable(): void;
  /** Nothing more comes: the end (undefined), or what reading or writing has failed with. */
  end(error: unknown, of: 'input' | 'output'): void;
}

const isErrno = (error: unknown, code: string): boolean => error instanceof LinuxError && error.code === code;

/** Bytes to and from non-blocking descriptors: partial writes, EAGAIN, descriptors that can not be watched (plain files). */
export class FdStream implements Disposable {
  readonly #options: FdStreamOptions;
  readonly #buffer = new Uint8Array(READ_BYTES);
  readonly #watches = new Map<number, { readonly readable: boolean; readonly writable: boolean; readonly stop: () => void }>();
  #reading = false;
  #blocked = false;
  /** The callback of a descriptor that said it was writable is running. */
  #retrying = false;
  #retry: NodeJS.Timeout | undefined;
  #disposed = false;

  constructor(options: FdStreamOptions) {
    this.#options = options;
  }

  setReading(on: boolean): void {
    if (this.#disposed || on === this.#reading) return;
    this.#reading = on;
    this.#arm();
  }

  write(bytes: Uint8Array): number {
    if (this.#disposed || this.#blocked || bytes.length === 0) return 0;
    let written: number;
    try {
      written = this.#options.sys.write(this.#options.output, bytes) ?? 0;
    } catch (error) {
      this.#options.end(error, 'output');
      return 0;
    }
    if (written === bytes.length || this.#disposed) return written;
    this.#blocked = true;
    if (this.#retrying && written === 0) {
      // A hung-up terminal is always "writable": asked at once it would be asked for ever.
      this.#retry = setTimeout(() => { this.#unblock(); }, STALLED_RETRY_MS);
    } else {
      this.#arm();
    }
    return written;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#retry);
    for (const { stop } of this.#watches.values()) stop();
    this.#watches.clear();
  }

  #arm(): void {
    if (this.#disposed) return;
    const { input, output } = this.#options;
    const writable = this.#blocked && this.#retry === undefined;
    if (input === output) {
      this.#watch(input, this.#reading, writable);
    } else {
      this.#watch(input, this.#reading, false);
      this.#watch(output, false, writable);
    }
  }

  #watch(fd: number, readable: boolean, writable: boolean): void {
    const current = this.#watches.get(fd);
    if (current?.readable === readable && current.writable === writable) return;
    current?.stop();
    this.#watches.delete(fd);
    if (!readable && !writable) return;
    const ready = (seen: { readable: boolean; writable: boolean; error: boolean }): void => {
      if (readable && (seen.readable || seen.error)) this.#read();
      if (writable && (seen.writable || seen.error) && !this.#disposed) this.#unblock();
    };
    let stop: () => void;
    try {
      const watch = this.#options.sys.watch(fd, { readable, writable }, ready);
      stop = () => { watch[Symbol.dispose](); };
    } catch (error) {
      // epoll refuses what is always ready: plain files, /dev/null.
      if (!isErrno(error, 'EPERM')) {
        this.#options.end(error, readable ? 'input' : 'output');
        return;
      }
      let turn: NodeJS.Immediate;
      const again = (): void => {
        turn = setImmediate(again);
        ready({ readable, writable, error: false });
      };
      turn = setImmediate(again);
      stop = () => { clearImmediate(turn); };
    }
    this.#watches.set(fd, { readable, writable, stop });
  }

  #read(): void {
    if (this.#disposed || !this.#reading) return;
    let count: number | undefined;
    try {
      count = this.#options.sys.read(this.#options.input, this.#buffer);
    } catch (error) {
      this.#endOfInput(error);
      return;
    }
    if (count === undefined) return;
    if (count === 0) this.#endOfInput(undefined);
    else this.#options.data(this.#buffer.subarray(0, count));
  }

  #endOfInput(error: unknown): void {
    this.#reading = false;
    this.#arm();
    this.#options.end(error, 'input');
  }

  #unblock(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#blocked = false;
    this.#retrying = true;
    this.#options.writable();
    this.#retrying = false;
    this.#arm();
  }
}
