/**
 * Interrupts of some vectors as calls.
 *
 * | state  | eventfd readable                      | callback throws    | device ends            | dispose              |
 * | ------ | ------------------------------------- | ------------------ | ---------------------- | -------------------- |
 * | open   | adds up, calls back (one at a time)   | onError → closed   | calls, onError → closed | disconnects → closed |
 * | closed | -                                     | nothing            | nothing                | nothing              |
 */
import { OwnedFd } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import type { BusError } from './errors.ts';

/** A vector that was raised. */
export interface BusInterrupt {
  readonly vector: number;
  /** How often since the last call; at least 1. */
  readonly count: number;
}

/** For `BusInterrupts.onInterrupt`. */
export interface InterruptOptions {
  /** What has ended the listener: the callback's exception, or a BusError: the device has gone, or refuses to unmask. */
  readonly onError?: (error: unknown) => void;
  /** false: listening does not keep the process alive. */
  readonly ref?: boolean;
}

/** What a listener needs of its device. */
export interface ListenerEnd {
  /** undefined: vectors stay unmasked by themselves. */
  readonly unmask: ((vector: number) => Promise<void>) | undefined;
  disconnect(eventfds: ReadonlyMap<number, number>): Promise<void>;
  closed(): void;
}

interface Vector {
  readonly vector: number;
  readonly eventfd: OwnedFd;
  readonly watch: Disposable;
  pending: number;
  busy: boolean;
}

/** From `BusInterrupts.onInterrupt`. Dispose of it to disconnect the vectors. */
export class InterruptListener implements AsyncDisposable {
  readonly #sys: Sys;
  readonly #callback: (interrupt: BusInterrupt) => void | Promise<void>;
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly #device: ListenerEnd;
  readonly #vectors: Vector[] = [];
  #closed = false;

  /** For `BusInterrupts`. */
  constructor(sys: Sys, vectors: readonly number[], callback: (interrupt: BusInterrupt) => void | Promise<void>, { onError, ref = true }: InterruptOptions, device: ListenerEnd) {
    this.#sys = sys;
    this.#callback = callback;
    this.#onError = onError;
    this.#device = device;
    try {
      for (const vector of vectors) this.#vectors.push(this.#listen(vector, ref));
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  /** Descriptor by vector. */
  get eventfds(): ReadonlyMap<number, number> {
    return new Map(this.#vectors.map(({ vector, eventfd }) => [vector, eventfd.fd]));
  }

  /** Disconnects the vectors and closes the eventfds. Never rejects: a device that refuses or has gone changes nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    const { eventfds } = this;
    this.#closed = true;
    for (const { watch } of this.#vectors) watch[Symbol.dispose]();
    await this.#device.disconnect(eventfds).catch(() => {});
    this.#close();
  }

  /** Without a word to the device. What it has signalled before is called back for first; then `error` is told. */
  end(error?: BusError): void {
    if (this.#closed) return;
    if (error === undefined) return this.#close();
    const last = this.#vectors.map((vector) => this.#arrived(vector));
    void Promise.all(last).then(() => { this.#fail(error); });
  }

  #listen(vector: number, ref: boolean): Vector {
    const eventfd = new OwnedFd(this.#sys.eventfd(), this.#sys);
    try {
      const watch = this.#sys.watch(eventfd.fd, { readable: true }, () => { void this.#arrived(state); }, { ref });
      const state: Vector = { vector, eventfd, watch, pending: 0, busy: false };
      return state;
    } catch (error) {
      eventfd.close();
      throw error;
    }
  }

  async #arrived(state: Vector): Promise<void> {
    if (this.#closed) return;
    state.pending += this.#sys.eventfdDrain(state.eventfd.fd);
    if (state.busy) return;
    state.busy = true;
    try {
      while (state.pending > 0 && !this.#closed) {
        const count = state.pending;
        state.pending = 0;
        await this.#callback({ vector: state.vector, count });
        if (!this.#closed) await this.#device.unmask?.(state.vector);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      state.busy = false;
    }
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    void this[Symbol.asyncDispose]().then(() => this.#onError?.(error));
  }

  #close(): void {
    this.#closed = true;
    for (const { watch, eventfd } of this.#vectors.splice(0)) {
      watch[Symbol.dispose]();
      eventfd.close();
    }
    this.#device.closed();
  }
}
