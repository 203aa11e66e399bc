import type { Window } from '@emudev/dma';
import type { DoorbellInfo } from '@emudev/emudev';
import { linux, OwnedFd } from '@emudev/linux';

/** The ways in which a guest's store can reach a back end. */
export type DoorbellKind = DoorbellInfo['kind'];

/** One doorbell of any kind, with the guest's finger on it. */
export class FakeDoorbell implements Disposable {
  readonly kind: DoorbellKind;
  /** What a back end is told of it. */
  readonly info: DoorbellInfo;
  readonly #window: Window;
  readonly #subscribers = new Set<(value: number) => void>();
  #word: number | undefined;
  #fd: OwnedFd | undefined;

  /** `trapped`: of a doorbell in memory, whether its provider hears of stores too. */
  constructor(window: Window, id: number, kind: DoorbellKind = 'mem', trapped = false) {
    this.#window = window;
    this.kind = kind;
    if (kind === 'mem') {
      this.#word = window.alloc(4);
      this.info = { kind, id, offset: this.#word, trapped };
    } else if (kind === 'fd') {
      this.#fd = new OwnedFd(linux.eventfd());
      this.info = { kind, id, fd: this.#fd.fd };
    } else {
      this.info = { kind, id, subscribe: (callback) => this.#subscribe(callback) };
    }
  }

  /** How many listen to a trapped one. */
  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** The word of one in memory, as the guest left it or the back end cleared it; 0 for other kinds. */
  get word(): number {
    return this.#word === undefined ? 0 : Atomics.load(this.#window.u32, this.#word >>> 2);
  }

  /** The guest stores `value`. */
  ring(value: number): void {
    if (this.#word !== undefined) Atomics.store(this.#window.u32, this.#word >>> 2, value);
    if (this.#fd !== undefined) linux.eventfdSignal(this.#fd.fd);
    for (const callback of [...this.#subscribers]) callback(value);
  }

  /** Gives its word or eventfd back, and forgets its subscribers. Harmless a second time. */
  [Symbol.dispose](): void {
    if (this.#word !== undefined) this.#window.free(this.#word);
    this.#word = undefined;
    this.#fd?.close();
    this.#fd = undefined;
    this.#subscribers.clear();
  }

  #subscribe(callback: (value: number) => void): Disposable {
    const entry = (value: number): void => { callback(value); };
    this.#subscribers.add(entry);
    return { [Symbol.dispose]: () => { this.#subscribers.delete(entry); } };
  }
}
