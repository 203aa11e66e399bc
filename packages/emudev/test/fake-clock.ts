import type { EmudevClock } from '../src/clock.ts';

/** Time that stands still until a test lets it pass. */
export class FakeClock implements EmudevClock {
  readonly #timers = new Set<{ at: number; callback: () => void }>();
  #now = 0;

  get running(): number {
    return this.#timers.size;
  }

  after(delayMs: number, callback: () => void): Disposable {
    const timer = { at: this.#now + delayMs, callback };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => { this.#timers.delete(timer); } };
  }

  pass(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers].sort((a, b) => a.at - b.at)) {
      if (timer.at > this.#now || !this.#timers.delete(timer)) continue;
      timer.callback();
    }
  }
}
