/**
 * Interrupts as an async iterable. Like an eventfd it has no queue: interrupts that come while nobody asks add up per vector, so a
 * slow reader costs the same as a fast one and loses nothing but their number of arrivals in time.
 *
 * | state  | eventfd readable      | next()                                | dispose, return()          | connection ends      |
 * | ------ | --------------------- | ------------------------------------- | -------------------------- | -------------------- |
 * | open   | added up, wakes next  | what is pending, or waits             | disconnects → closed       | → ended              |
 * | ended  | - (they are closed)   | what is pending, then rejects         | → closed                   | -                    |
 * | closed | -                     | done                                  | nothing                    | nothing              |
 */
import { OwnedFd } from '@emudev/linux';
import { badArgument, ClientError } from './errors.ts';
import type { Interrupts } from './interrupts.ts';
import { runs } from './irq-state.ts';
import type { Link } from './link.ts';
import type { CallOptions } from './requests.ts';

/** A vector that was raised. */
export interface Interrupt {
  readonly vector: number;
  /** How often it was raised since it was last reported; at least 1. */
  readonly count: number;
}

export interface SubscribeOptions extends CallOptions {
  /** Called from the event loop instead of iterating. What it throws ends the subscription and goes to `onError`. */
  readonly onInterrupt?: (interrupt: Interrupt) => void;
  /** What ended a subscription with `onInterrupt`: its own exception, or the end of the connection. */
  readonly onError?: (error: unknown) => void;
  /**
   * For level-triggered INTx, which the device masks as it signals: also connects an eventfd that unmasks, so that `unmask` costs
   * no message.
   */
  readonly resample?: boolean;
}

interface Vector {
  readonly vector: number;
  readonly eventfd: OwnedFd;
  readonly resample: OwnedFd | undefined;
}

/**
 * Interrupts of some vectors of one index, from `Interrupts.subscribe`: iterate, or take them in `onInterrupt`. Nothing is lost while
 * nobody asks: a vector's interrupts add up.
 */
export class InterruptSubscription implements AsyncIterableIterator<Interrupt, undefined>, AsyncDisposable {
  readonly #link: Link;
  readonly #irqs: Interrupts;
  readonly #index: number;
  readonly #options: SubscribeOptions;
  readonly #vectors = new Map<number, Vector>();
  readonly #watches: Disposable[] = [];
  /** Vector to count, in the order of the first arrival. */
  readonly #pending = new Map<number, number>();
  readonly #waiting: { readonly resolve: (result: IteratorResult<Interrupt, undefined>) => void; readonly reject: (error: unknown) => void }[] = [];
  #connected = false;
  #closed = false;
  #end: unknown;

  /** `vectors` ascending. Rejects with what the server says; nothing stays open then. */
  static async open(link: Link, irqs: Interrupts, index: number, vectors: readonly number[], options: SubscribeOptions): Promise<InterruptSubscription> {
    const subscription = new InterruptSubscription(link, irqs, index, options);
    try {
      await subscription.#connect(vectors);
    } catch (error) {
      await subscription[Symbol.asyncDispose]();
      throw error;
    }
    void link.ended.then(() => { subscription.#ended(); });
    return subscription;
  }

  private constructor(link: Link, irqs: Interrupts, index: number, options: SubscribeOptions) {
    this.#link = link;
    this.#irqs = irqs;
    this.#index = index;
    this.#options = options;
  }

  /** The interrupt index (VFIO_PCI_*_IRQ_INDEX). */
  get index(): number {
    return this.#index;
  }

  /** The vectors subscribed to, ascending. */
  get vectors(): readonly number[] {
    return [...this.#vectors.keys()];
  }

  /** Unmasks after the interrupt has been dealt with: by the eventfd with `resample`, else by a message. */
  async unmask(vector: number = this.vectors[0] ?? -1): Promise<void> {
    const state = this.#vectors.get(vector);
    if (state === undefined || this.#closed) throw badArgument(`vector ${vector} is not subscribed to`);
    this.#link.checkOpen();
    if (state.resample === undefined) await this.#irqs.unmask(this.#index, vector);
    else this.#link.sys.eventfdSignal(state.resample.fd);
  }

  /**
   * What is pending, or the next interrupt; done once closed. Rejects with the ClientError that ended the connection, and with
   * ERR_VFU_CLIENT_ARGUMENT on a subscription with `onInterrupt`.
   */
  next(): Promise<IteratorResult<Interrupt, undefined>> {
    return new Promise((resolve, reject) => {
      if (this.#options.onInterrupt !== undefined) return reject(badArgument('a subscription with onInterrupt is not iterated'));
      this.#waiting.push({ resolve, reject });
      this.#serve();
    });
  }

  /** Leaving a `for await` loop closes the subscription. */
  async return(): Promise<IteratorResult<Interrupt, undefined>> {
    await this[Symbol.asyncDispose]();
    return { done: true, value: undefined };
  }

  /** The subscription itself: two loops over it share the interrupts. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Disconnects the vectors from the device and closes the eventfds. Never rejects: a device that refuses or has gone changes nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#pending.clear();
    this.#serve();
    this.#unwatch();
    if (this.#connected && this.#end === undefined) await this.#disconnect();
    this.#closeEventfds();
  }

  async #connect(vectors: readonly number[]): Promise<void> {
    const { sys, ref } = this.#link;
    const newEventfd = (): OwnedFd => new OwnedFd(sys.eventfd(), sys);
    for (const vector of vectors) {
      const eventfd = newEventfd();
      this.#vectors.set(vector, { vector, eventfd, resample: undefined });
      if (this.#options.resample === true) this.#vectors.set(vector, { vector, eventfd, resample: newEventfd() });
      this.#watches.push(sys.watch(eventfd.fd, { readable: true }, () => { this.#arrived(vector, eventfd); }, { ref }));
    }
    const fdsOf = (start: number, count: number, which: 'eventfd' | 'resample'): number[] => Array.from({ length: count }, (_, i) => this.#vectors.get(start + i)![which]!.fd);
    this.#connected = true;
    for (const [start, count] of runs(vectors, Infinity)) {
      // The way to unmask first: the level may be asserted already.
      if (this.#options.resample === true) await this.#irqs.setUnmaskEventfds(this.#index, start, fdsOf(start, count, 'resample'), this.#options);
      await this.#irqs.setEventfds(this.#index, start, fdsOf(start, count, 'eventfd'), this.#options);
    }
  }

  async #disconnect(): Promise<void> {
    for (const [start, count] of runs(this.vectors, Infinity)) {
      try {
        await this.#irqs.removeEventfds(this.#index, start, count);
        if (this.#options.resample === true) await this.#irqs.removeUnmaskEventfds(this.#index, start, count);
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
      }
    }
  }

  #arrived(vector: number, eventfd: OwnedFd): void {
    if (this.#closed) return;
    const count = this.#link.sys.eventfdDrain(eventfd.fd);
    if (count === 0) return;
    const { onInterrupt } = this.#options;
    if (onInterrupt === undefined) {
      this.#pending.set(vector, (this.#pending.get(vector) ?? 0) + count);
      return this.#serve();
    }
    try {
      onInterrupt({ vector, count });
    } catch (error) {
      void this[Symbol.asyncDispose]().then(() => this.#options.onError?.(error));
    }
  }

  /** Hands out what is pending, as long as somebody asks. */
  #serve(): void {
    for (let waiting = this.#waiting[0]; waiting !== undefined; waiting = this.#waiting[0]) {
      const [first] = this.#pending;
      if (first === undefined && !this.#closed && this.#end === undefined) return;
      this.#waiting.shift();
      if (first !== undefined) {
        this.#pending.delete(first[0]);
        waiting.resolve({ done: false, value: { vector: first[0], count: first[1] } });
      } else if (this.#closed) {
        waiting.resolve({ done: true, value: undefined });
      } else {
        waiting.reject(this.#end);
      }
    }
  }

  #ended(): void {
    if (this.#closed) return;
    // What the device signalled before it left is in the eventfds.
    for (const { vector, eventfd } of this.#vectors.values()) this.#arrived(vector, eventfd);
    try {
      this.#link.checkOpen();
    } catch (error) {
      this.#end = error;
    }
    this.#unwatch();
    // Nobody signals them any more, and who iterates may never come back.
    this.#closeEventfds();
    this.#serve();
    if (this.#options.onInterrupt !== undefined) void this[Symbol.asyncDispose]().then(() => this.#options.onError?.(this.#end));
  }

  #closeEventfds(): void {
    for (const { eventfd, resample } of this.#vectors.values()) {
      eventfd.close();
      resample?.close();
    }
  }

  #unwatch(): void {
    for (const watch of this.#watches.splice(0)) watch[Symbol.dispose]();
  }
}
