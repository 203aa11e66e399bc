/**
 * Quiescent-state based reclamation between the control thread and the lcores (the field's name is QSBR).
 *
 * An lcore passes a checkpoint once per loop, between bursts, where it holds no address of guest memory. The control thread
 * first makes a change visible that keeps new bursts away (a port's `paused` word), then awaits `synchronize()`: when it
 * resolves, every lcore that was online has passed a checkpoint since, so nobody uses the old mapping.
 *
 * Cells per reader, in the window (Int32, one cache line each):
 * ```
 * 0  state: 0 offline (asleep: counts as quiescent), 1 online
 * 1  seen:  the last request number this reader has acknowledged
 * 2  events: counts changes of the two above, so that the control side can sleep on one cell without missing either
 * ```
 * and one shared cell: the request number. The reader's cost per loop is one plain load when nothing was asked.
 *
 * Why nothing is missed: going online stores `state` and then loads the request; a request is stored and then `state` is
 * loaded, all sequentially consistent. So either the control side sees the reader online and waits for it, or the reader
 * sees the request, and with it the change that was made visible before.
 *
 * | reader state | checkpoint                     | goes offline        | goes online                        |
 * | ------------ | ------------------------------ | ------------------- | ---------------------------------- |
 * | online       | seen = request; notify if new  | state = 0; notify   | forbidden: it is online            |
 * | offline      | forbidden: it may hold nothing | forbidden           | state = 1, then seen = request     |
 */
import { QUIESCENCE_DEADLINE_MS } from './limits.ts';
import type { Window } from './window.ts';

const READER_BYTES = 64;
const STATE = 0;
const SEEN = 1;
const EVENTS = 2;
const OFFLINE = 0;
const ONLINE = 1;

/** Where a reader's cells are: Int32 indices into the window, plain numbers that go into a worker's `workerData`. */
export interface ReaderCells {
  readonly reader: number;
  readonly request: number;
}

/** A reader was online and passed no checkpoint in time: it hangs, or its burst is unbounded. Nothing may be unmapped. */
export class QuiescenceTimeoutError extends Error {
  override readonly name = 'QuiescenceTimeoutError';
  readonly code = 'ERR_QUIESCENCE_TIMEOUT';
  readonly errno = 110; // ETIMEDOUT
  readonly reader: string;
  constructor(reader: string, deadlineMs: number) {
    super(`${reader} passed no checkpoint within ${deadlineMs} ms`);
    this.reader = reader;
  }
}

const ofWindow = new WeakMap<Window, { readonly epoch: number; readonly quiescence: Quiescence }>();

/** The control side. */
export class Quiescence implements Disposable {
  /**
   * The one of this window, which an application's lcores register with and everybody who changes what they use waits on.
   * Lives until the window is emptied; not to be disposed of.
   */
  static of(window: Window): Quiescence {
    const known = ofWindow.get(window);
    if (known?.epoch === window.epoch) return known.quiescence;
    const quiescence = new Quiescence(window);
    ofWindow.set(window, { epoch: window.epoch, quiescence });
    return quiescence;
  }

  readonly #window: Window;
  /** Byte offset of the shared request cell. */
  readonly #request: number;
  readonly #readers = new Map<number, { readonly name: string }>();
  #added = 0;

  constructor(window: Window) {
    this.#window = window;
    this.#request = window.alloc(READER_BYTES);
  }

  /** Cells of a new reader, offline. Post them to the worker, which makes a `QuiescentReader` of them. */
  addReader(name?: string): ReaderCells {
    const number = this.#added++;
    const reader = this.#window.alloc(READER_BYTES) >>> 2;
    this.#readers.set(reader, { name: name ?? `reader ${number}` });
    return { reader, request: this.#request >>> 2 };
  }

  /** The reader's thread has ended, or will never use its cells again. Whoever waits for it stops waiting. */
  removeReader(cells: ReaderCells): void {
    if (!this.#readers.delete(cells.reader)) return;
    const { i32 } = this.#window;
    Atomics.add(i32, cells.reader + EVENTS, 1);
    Atomics.notify(i32, cells.reader + EVENTS);
    this.#window.free(cells.reader * 4);
  }

  /**
   * Resolves when every reader that was online has passed a checkpoint, or gone offline, since the call. Make the change that
   * keeps readers away visible before. Rejects with QuiescenceTimeoutError.
   */
  async synchronize(deadlineMs: number = QUIESCENCE_DEADLINE_MS): Promise<void> {
    const request = (Atomics.add(this.#window.i32, this.#request >>> 2, 1) + 1) | 0;
    const deadline = performance.now() + deadlineMs;
    // A pending waitAsync alone does not keep the process alive.
    const alive = setTimeout(() => {}, deadlineMs);
    try {
      for (const [cell, reader] of [...this.#readers]) await this.#awaitReader(cell, reader, request, deadline, deadlineMs);
    } finally {
      clearTimeout(alive);
    }
  }

  async #awaitReader(cell: number, reader: { readonly name: string }, request: number, deadline: number, deadlineMs: number): Promise<void> {
    const { i32 } = this.#window;
    while (this.#readers.get(cell) === reader) {
      const events = Atomics.load(i32, cell + EVENTS);
      if (Atomics.load(i32, cell + STATE) === OFFLINE) return;
      // A wrapping difference: numbers that other calls requested later count too.
      if (((Atomics.load(i32, cell + SEEN) - request) | 0) >= 0) return;
      const left = deadline - performance.now();
      if (left <= 0) throw new QuiescenceTimeoutError(reader.name, deadlineMs);
      await Atomics.waitAsync(i32, cell + EVENTS, events, left).value;
    }
  }

  /** Frees the cells; who waits in `synchronize` stops waiting. Every reader's thread must have ended. Not for the one `Quiescence.of` returns. */
  [Symbol.dispose](): void {
    for (const reader of [...this.#readers.keys()]) this.removeReader({ reader, request: this.#request >>> 2 });
    this.#window.free(this.#request);
  }
}

/** The lcore side; begins offline. */
export class QuiescentReader {
  readonly #i32: Int32Array;
  readonly #reader: number;
  readonly #request: number;
  #seen = 0;

  constructor(i32: Int32Array, cells: ReaderCells) {
    this.#i32 = i32;
    this.#reader = cells.reader;
    this.#request = cells.request;
  }

  /** Once per loop, between bursts, holding nothing of guest memory. */
  checkpoint(): void {
    if (this.#i32[this.#request] !== this.#seen) this.#acknowledge();
  }

  /** Before sleeping. A sleeper delays nobody. */
  offline(): void {
    Atomics.store(this.#i32, this.#reader + STATE, OFFLINE);
    this.#notify();
  }

  /** After sleeping, before the first look at anything that a change may have touched. */
  online(): void {
    Atomics.store(this.#i32, this.#reader + STATE, ONLINE);
    this.#acknowledge();
  }

  #acknowledge(): void {
    this.#seen = Atomics.load(this.#i32, this.#request);
    Atomics.store(this.#i32, this.#reader + SEEN, this.#seen);
    this.#notify();
  }

  #notify(): void {
    Atomics.add(this.#i32, this.#reader + EVENTS, 1);
    Atomics.notify(this.#i32, this.#reader + EVENTS);
  }
}
