/**
 * Waiting for the next message by looking again instead of sleeping, where that is worth it: being woken up costs tens of
 * microseconds, more than most replies take. A thread that spins for nobody costs a processor, so:
 *
 * | traffic | how messages come                                    | what happens                                              | becomes                                   |
 * | ------- | ---------------------------------------------------- | --------------------------------------------------------- | ----------------------------------------- |
 * | sparse  | now and then                                         | the event loop waits, nothing is looked at                | dense, after `denseMessages` close by     |
 * | dense   | each within twice `maxUs` of the last one's answer   | the thread looks again for at most `maxUs`                | sparse, after a longer pause, or after    |
 * |         |                                                      |                                                           | three vain spins in a row (then twice as  |
 * |         |                                                      |                                                           | many close messages are wanted next time) |
 *
 * All who spin in one thread do so together, in turns of `SPIN_TURN_US`; between two turns the event loop runs once, so timers and
 * other sockets never wait longer than that, and as soon as one of them waits for a promise.
 */
import { cpus } from 'node:os';
import { SPIN_MAX_BACKOFF, SPIN_TURN_US, SPIN_VAIN_LIMIT } from './limits.ts';

/** How long and when a socket is looked at instead of slept on. */
export interface SpinOptions {
  /** Longest time to look for a message that may not come, microseconds. 100 by default, 0 on a machine with one processor: whoever is to send needs it. */
  readonly maxUs?: number;
  /** Messages in close succession before the first spin. 8 by default. */
  readonly denseMessages?: number;
}

let usualMaxUs: number | undefined;

/** When looking again is worth it. Knows no clock: `now` is in milliseconds and never goes back. */
export class SpinPolicy {
  readonly #maxMs: number;
  readonly #denseMessages: number;
  #wanted: number;
  #dense = false;
  #close = 0;
  #hits = 0;
  #vain = 0;
  #drySince: number | undefined;
  #gaveUp = false;

  constructor({ maxUs = (usualMaxUs ??= cpus().length > 1 ? 100 : 0), denseMessages = 8 }: SpinOptions = {}) {
    this.#maxMs = maxUs / 1000;
    this.#denseMessages = denseMessages;
    this.#wanted = denseMessages;
  }

  /** A message (or several at once) has come. */
  arrived(now: number): void {
    const pause = this.#drySince === undefined ? 0 : now - this.#drySince;
    this.#drySince = undefined;
    if (pause > 2 * this.#maxMs) {
      this.#dense = false;
      this.#close = 0;
    } else if (!this.#dense) {
      this.#dense = ++this.#close >= this.#wanted;
      this.#hits = 0;
      this.#vain = 0;
    } else if (!this.#gaveUp) {
      this.#vain = 0;
      if (++this.#hits >= this.#wanted) this.#wanted = this.#denseMessages;
    }
    this.#gaveUp = false;
  }

  /** Nothing is there. True: look again; false: sleep until something is. */
  again(now: number): boolean {
    this.#drySince ??= now;
    if (!this.#dense || this.#gaveUp) return false;
    if (now - this.#drySince < this.#maxMs) return true;
    this.#gaveUp = true;
    if (++this.#vain >= SPIN_VAIN_LIMIT) {
      this.#dense = false;
      this.#close = 0;
      this.#wanted = Math.min(this.#wanted * 2, this.#denseMessages * SPIN_MAX_BACKOFF);
    }
    return false;
  }
}

/** Those that spin in this thread now. */
const spinning = new Set<AdaptiveSpin>();
let running = false;
let scheduled = false;

function turn(): void {
  if (running) return;
  running = true;
  try {
    const until = performance.now() + SPIN_TURN_US / 1000;
    for (let awaiting = false; !awaiting && spinning.size > 0 && performance.now() < until;) {
      for (const spin of spinning) awaiting = spin.lookAgain() || awaiting;
    }
  } finally {
    running = false;
    if (spinning.size > 0) schedule();
  }
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(() => {
    scheduled = false;
    turn();
  });
}

/** What spins: one socket, usually. */
export interface Spinner {
  /** One non-blocking receive, dealt with at once. True if something had come. Must not throw. */
  look(): boolean;
  /**
   * True while something waits for a promise, which settles only if the thread returns to its event loop: a server's answer, or
   * at a client whoever is to get the answer that the last receive brought.
   */
  readonly awaiting: boolean;
}

/** One socket's part in the spinning of its thread. Its owner tells it of every receive of its own; those of `look` it sees itself. */
export class AdaptiveSpin implements Disposable {
  readonly #policy: SpinPolicy;
  readonly #spinner: Spinner;

  constructor(spinner: Spinner, options?: SpinOptions) {
    this.#spinner = spinner;
    this.#policy = new SpinPolicy(options);
  }

  /** A receive brought something. */
  arrived(): void {
    this.#policy.arrived(performance.now());
  }

  /** A receive brought nothing: spins on the spot while that is worth it (unless something awaits), and from the event loop after that. */
  dry(): void {
    if (spinning.has(this) || !this.#policy.again(performance.now())) return;
    spinning.add(this);
    if (this.#spinner.awaiting) schedule();
    else turn();
  }

  /** For the thread's loop. True: the event loop has to run. */
  lookAgain(): boolean {
    if (this.#spinner.look()) this.#policy.arrived(performance.now());
    else if (!this.#policy.again(performance.now())) spinning.delete(this);
    return this.#spinner.awaiting;
  }

  /** Stops spinning; the owner has nothing to look at any more. */
  [Symbol.dispose](): void {
    spinning.delete(this);
  }
}
