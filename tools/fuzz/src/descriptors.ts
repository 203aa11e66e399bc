/** Descriptors of every kind that a hostile peer could pass: the right ones, wrong ones, and right ones in a wrong state. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { F_SEAL_SHRINK, linux } from '@emudev/linux';
import type { Random } from './random.ts';

export const MEMORY_BYTES = 0x10_0000;

export class Descriptors implements Disposable {
  /** What DMA_MAP expects. */
  readonly memories: number[];
  /** What SET_IRQS expects. */
  readonly eventfds: number[];
  /** What nobody expects. */
  readonly foreign: number[];
  readonly all: readonly number[];
  readonly #directory: string;

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'emudev-fuzz-fds-'));
    const memory = (bytes: number, seals: number): number => {
      const fd = linux.memfdCreate('fuzz-memory', { allowSealing: true });
      linux.ftruncate(fd, bytes);
      if (seals !== 0) linux.addSeals(fd, seals);
      return fd;
    };
    this.memories = [memory(MEMORY_BYTES, F_SEAL_SHRINK), memory(MEMORY_BYTES, 0), memory(0x10_0000, 0), memory(4096, 0), memory(0, 0), memory(5000, 0)];
    const blocking = linux.eventfd();
    linux.setNonBlocking(blocking, false);
    const full = linux.eventfd();
    // One below the maximum: the next signal would block.
    linux.write(full, Uint8Array.from([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    const blockingAndFull = linux.eventfd();
    linux.setNonBlocking(blockingAndFull, false);
    linux.write(blockingAndFull, Uint8Array.from([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    this.eventfds = [linux.eventfd(), linux.eventfd(), linux.eventfd(), linux.eventfd(1), blocking, full, blockingAndFull];
    const file = join(this.#directory, 'file');
    writeFileSync(file, new Uint8Array(0x4000));
    const fifo = join(this.#directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    this.foreign = [
      openSync('/dev/null', 'r+'), openSync('/dev/zero', 'r+'), openSync(this.#directory, 'r'), openSync(file, 'r'), openSync(file, 'r+'), openSync(fifo, 'r+'),
      openSync('/proc/self/status', 'r'), ...linux.unixSocketPair(),
    ];
    this.all = [...this.memories, ...this.eventfds, ...this.foreign];
  }

  /** Memory mostly; sometimes anything. */
  memory(random: Random): number {
    return random.pick(random.oneIn(16) ? this.all : this.memories);
  }

  eventfd(random: Random): number {
    return random.pick(random.oneIn(16) ? this.all : this.eventfds);
  }

  any(random: Random): number {
    return random.pick(this.all);
  }

  [Symbol.dispose](): void {
    for (const fd of this.memories.concat(this.eventfds)) linux.close(fd);
    for (const fd of this.foreign) closeSync(fd);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
