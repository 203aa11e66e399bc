/** Frame buffers: a port's own, or a pool that several ports share. */
import { Window } from '@emudev/dma';
import { linux, type Sys } from '@emudev/linux';
import { DmaMemory, POOL_BASE } from './dma-memory.ts';
import { IavfError } from './errors.ts';
import { BUFFER_STRIDE_BYTES, DEFAULT_POOL_QUEUE_PAIRS, DEFAULT_RING_LENGTH, MAX_POOL_QUEUE_PAIRS } from './limits.ts';
import type { IavfMemory } from './transport.ts';

/** So many slots do the rings of a queue pair have, if they are of the default length, and each slot has a buffer. */
export const PAIR_BUFFERS: number = 2 * DEFAULT_RING_LENGTH;

/** Where buffers are, and which of them are somebody's to begin with. */
export interface Buffers {
  /** Window offset of the pool. */
  readonly offset: number;
  /** Of the same, as the device sees it. */
  readonly iova: bigint;
  readonly bytes: number;
  /** Where in the pool each buffer begins. */
  readonly starts: readonly number[];
}

/** How large a pool is, and for tests what stands for the kernel. */
export interface BufferPoolOptions {
  /** Queue pairs of all its ports together, 1 to 128; default 16 (33 MiB, of which vfio-user cards take only what is used). With rings of 512 descriptors; of shorter ones there may be more. */
  readonly queuePairs?: number;
  readonly sys?: Sys;
}

/**
 * Buffers for several ports of this process, mapped for each of their devices: a frame that comes in by one and leaves by another stays where it
 * is. So each of these devices can read and write the frames of all; rings and mailboxes stay each port's own.
 *
 * | a buffer is      | and then                                                                          |
 * | ---------------- | --------------------------------------------------------------------------------- |
 * | free             | a port that opens takes it: it is a slot's                                        |
 * | a slot's         | exchanged for another slot's, of any ring of the pool; stays through stops and resets |
 * |                  | its slot's port closes: free if the device had let go of it, else set aside       |
 * | set aside        | nobody gets it: a device that went without a word may still write to it           |
 *
 * Its memory lives until it has been disposed of and its last port has closed.
 */
export class BufferPool implements Disposable {
  readonly #window: Window;
  readonly #memory: DmaMemory;
  readonly #offset: number;
  #free: number[];
  #setAside = 0;
  /** Whoever opened it, its ports, and those who are about to give it to one. */
  #holders = 1;
  #disposed = false;

  /** Throws ERR_IAVF_CONFIG for a size out of range, DmaError where the window is full. */
  static open(options: BufferPoolOptions = {}): BufferPool {
    const { queuePairs = DEFAULT_POOL_QUEUE_PAIRS, sys = linux } = options;
    if (!Number.isInteger(queuePairs) || queuePairs < 1 || queuePairs > MAX_POOL_QUEUE_PAIRS) {
      throw new IavfError('ERR_IAVF_CONFIG', `a pool for ${queuePairs} queue pairs: want 1 to ${MAX_POOL_QUEUE_PAIRS}`);
    }
    const window = Window.open({ sys });
    try {
      return new BufferPool(window, sys, queuePairs * PAIR_BUFFERS);
    } catch (error) {
      window[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(window: Window, sys: Sys, buffers: number) {
    this.#window = window;
    this.#memory = new DmaMemory(window, sys, buffers * BUFFER_STRIDE_BYTES, POOL_BASE);
    this.#offset = this.#memory.carve(buffers * BUFFER_STRIDE_BYTES).offset;
    // Taken from the end.
    this.#free = Array.from({ length: buffers }, (_, i) => (buffers - 1 - i) * BUFFER_STRIDE_BYTES);
  }

  /** For every device of the pool. */
  get memory(): IavfMemory {
    return { iova: POOL_BASE, sizeBytes: this.#memory.bytes, fd: this.#memory.fd, address: this.#memory.address };
  }

  /** Buffers that a port could take. */
  get free(): number {
    return this.#free.length;
  }

  /** Buffers that nobody gets any more. */
  get setAside(): number {
    return this.#setAside;
  }

  /** False when its memory has been given back. */
  get isOpen(): boolean {
    return this.#holders > 0;
  }

  /** For one port; undefined where there are not so many, or it is not open. */
  take(count: number): BufferLease | undefined {
    if (!this.isOpen || count > this.#free.length) return undefined;
    this.#holders++;
    const starts = this.#free.splice(-count).reverse();
    let given = false;
    return {
      offset: this.#offset, iova: POOL_BASE, bytes: this.#memory.bytes, starts,
      give: (owned, unused) => {
        if (given) return;
        given = true;
        if (unused) this.#free.push(...owned);
        else this.#setAside += owned.length;
        this.#release();
      },
    };
  }

  /** Keeps it open until it is disposed of. */
  hold(): Disposable {
    if (!this.isOpen) throw new IavfError('ERR_IAVF_STATE', 'the pool is not open');
    this.#holders++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#release();
        held = false;
      },
    };
  }

  #release(): void {
    if (--this.#holders > 0) return;
    this.#memory[Symbol.dispose]();
    this.#window[Symbol.dispose]();
  }

  /** Its ports keep it open, and others may join them. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#release();
  }
}

/** What a port has of a pool. */
export interface BufferLease extends Buffers {
  /**
   * Once, when no lcore and no slot of the port uses them. `owned`: the buffers its slots have by now, as many as it took. `unused`: nor
   * does its device.
   */
  give(owned: readonly number[], unused: boolean): void;
}
