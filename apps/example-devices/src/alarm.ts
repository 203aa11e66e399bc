/** A one-shot timer that can be stopped with the rest of its device and goes on where it was to go off. */

/** Longest wait that a timer of Node.js can hold, milliseconds; beyond it goes off at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class Alarm {
  readonly #expired: () => void;
  /** Milliseconds of the monotonic clock; undefined: disarmed. */
  #deadline: number | undefined;
  #paused = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(expired: () => void) {
    this.#expired = expired;
  }

  arm(seconds: bigint): void {
    // A consumer's number: beyond 2^53 milliseconds nobody is there any more to notice the rounding.
    this.#deadline = performance.now() + Number(seconds) * 1000;
    this.#start();
  }

  disarm(): void {
    this.#deadline = undefined;
    clearTimeout(this.#timer);
  }

  pause(): void {
    this.#paused = true;
    clearTimeout(this.#timer);
  }

  resume(): void {
    this.#paused = false;
    this.#start();
  }

  #start(): void {
    clearTimeout(this.#timer);
    if (this.#paused || this.#deadline === undefined) return;
    const left = Math.max(0, this.#deadline - performance.now());
    this.#timer = setTimeout(() => {
      if (left > MAX_TIMEOUT_MS) return this.#start();
      this.#deadline = undefined;
      this.#expired();
    }, Math.min(left, MAX_TIMEOUT_MS));
  }
}
