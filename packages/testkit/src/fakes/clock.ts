/** Time that stands still until a test moves it. */
import type { EmudevClock } from '@emudev/emudev';

interface Timer {
  readonly id: number;
  readonly callback: () => void;
  readonly everyMs: number | undefined;
  at: number;
}

/**
 * A clock in the hands of a test. `install` puts it in the place of setTimeout, setInterval and their opposites, `performance.now`
 * and `Date.now` until disposed; an `EmudevRegistry` takes one for its deadlines. Promises, setImmediate and timers taken before (node:timers/promises) go on in real time.
 */
export class FakeClock implements EmudevClock, Disposable {
  #now: number;
  #nextId = 1;
  readonly #timers = new Map<number, Timer>();
  #restore: (() => void) | undefined;

  /** Milliseconds at which it starts. */
  constructor(startMs = 0) {
    this.#now = startMs;
  }

  /** Milliseconds. */
  now(): number {
    return this.#now;
  }

  /** Timers that have not fired and were not cleared. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Calls back once, when the test has moved the clock on by `delayMs`; returns what `clear` takes. */
  setTimeout(callback: () => void, delayMs = 0): number {
    return this.#add(callback, delayMs, undefined);
  }

  /** Calls back every `everyMs` (1 at least) of the test's time; returns what `clear` takes. */
  setInterval(callback: () => void, everyMs = 0): number {
    return this.#add(callback, everyMs, Math.max(1, everyMs));
  }

  /** What deadlines of emulated devices are measured with. */
  after(delayMs: number, callback: () => void): Disposable {
    const id = this.setTimeout(callback, delayMs);
    return { [Symbol.dispose]: () => { this.clear(id); } };
  }

  /** For both kinds. Harmless for one that has fired, and for what is no timer of ours. */
  clear(id: unknown): void {
    this.#timers.delete(Number(id));
  }

  /** Moves on, and fires what falls due in the order of its time; after each, everything that it has queued runs. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (let due = this.#next(until); due !== undefined; due = this.#next(until)) {
      this.#now = Math.max(this.#now, due.at);
      if (due.everyMs === undefined) this.#timers.delete(due.id);
      else due.at += due.everyMs;
      due.callback();
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    this.#now = until;
  }

  /** The clock of the whole process until it is disposed of. */
  install(): this {
    if (this.#restore !== undefined) return this;
    const real = { setTimeout, clearTimeout, setInterval, clearInterval, dateNow: Date.now, performanceNow: performance.now };
    type Callback = (...args: unknown[]) => void;
    const bound = (callback: Callback, args: unknown[]): (() => void) => () => { callback(...args); };
    const handle = (id: number): object => ({
      [Symbol.toPrimitive]: () => id, ref() { return this; }, unref() { return this; }, hasRef: () => true,
      close: () => { this.clear(id); }, [Symbol.dispose]: () => { this.clear(id); },
    });
    Object.assign(globalThis, {
      setTimeout: (callback: Callback, ms?: number, ...args: unknown[]) => handle(this.setTimeout(bound(callback, args), ms)),
      setInterval: (callback: Callback, ms?: number, ...args: unknown[]) => handle(this.setInterval(bound(callback, args), ms)),
      clearTimeout: (id: unknown) => { this.clear(id); },
      clearInterval: (id: unknown) => { this.clear(id); },
    });
    Date.now = () => this.#now;
    performance.now = () => this.#now;
    this.#restore = () => {
      Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout, setInterval: real.setInterval, clearInterval: real.clearInterval });
      Date.now = real.dateNow;
      performance.now = real.performanceNow;
    };
    return this;
  }

  /** Gives the process its own clock back, and forgets all timers. */
  [Symbol.dispose](): void {
    this.#restore?.();
    this.#restore = undefined;
    this.#timers.clear();
  }

  #add(callback: () => void, delayMs: number, everyMs: number | undefined): number {
    const id = this.#nextId++;
    this.#timers.set(id, { id, callback, everyMs, at: this.#now + Math.max(0, delayMs) });
    return id;
  }

  /** The earliest that is due; of several, the one that was set first. */
  #next(until: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers.values()) if (timer.at <= until && (first === undefined || timer.at < first.at)) first = timer;
    return first;
  }
}
