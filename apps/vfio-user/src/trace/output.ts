/** Where text and captures go, in batches. A full disk is no reason for the traffic to stop; a reader that takes nothing stops it, and us. */
import { closeSync, openSync, writeSync } from 'node:fs';

/** Takes bytes until it fails once; then says so and drops the rest. */
export interface SpanSink {
  write(bytes: Uint8Array | string): void;
  /** Hands over what has gathered. */
  flush(): void;
}

const EAGAIN_PAUSE_MS = 5;
const pause = new Int32Array(new SharedArrayBuffer(4));

export class FileSink implements SpanSink, Disposable {
  readonly #fd: number;
  readonly #name: string;
  readonly #onError: (message: string) => void;
  #parts: Uint8Array[] = [];
  #failed = false;

  /** '-' is standard output. @throws the file system's errors where it cannot be made */
  constructor(path: string, onError: (message: string) => void) {
    this.#name = path === '-' ? 'standard output' : path;
    this.#fd = path === '-' ? 1 : openSync(path, 'w', 0o600);
    this.#onError = onError;
  }

  get failed(): boolean {
    return this.#failed;
  }

  write(bytes: Uint8Array | string): void {
    if (!this.#failed) this.#parts.push(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  }

  flush(): void {
    if (this.#parts.length === 0) return;
    const all = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    for (let at = 0; at < all.length && !this.#failed;) {
      try {
        at += writeSync(this.#fd, all, at);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        // A pipe that somebody made non-blocking, and whose reader is slow.
        if (code === 'EAGAIN') Atomics.wait(pause, 0, 0, EAGAIN_PAUSE_MS);
        else {
          this.#failed = true;
          if (code !== 'EPIPE') this.#onError(`nothing more is written to ${this.#name}: ${message}`);
        }
      }
    }
  }

  [Symbol.dispose](): void {
    this.flush();
    if (this.#fd !== 1) closeSync(this.#fd);
  }
}
