/**
 * One attached back end: its hooks, each with a deadline, and whether it is locked.
 *
 * | state   | acquire                             | release       | lock() resolves                        | lock() rejects       | deadline                     |
 * | ------- | ----------------------------------- | ------------- | -------------------------------------- | -------------------- | ---------------------------- |
 * | open    | calls lock() → locking              | nothing       | –                                      | –                    | –                            |
 * | locking | joins: a deadline of its own        | nothing       | → locked; not wanted: unlock() → open  | → open; all reject   | that one rejects; none left: → late |
 * | late    | joins: no second lock(); → locking  | nothing       | as above                               | → open; reported     | –                            |
 * | locked  | at once                             | unlock() → open | –                                    | –                    | –                            |
 * | left    | –                                   | nothing       | nothing: it stays locked               | nothing              | –                            |
 *
 * So there is at most one lock() outstanding, unlock() follows only a lock() that has resolved and never while somebody wants the lock,
 * and a lock() that comes too late for everybody is undone when it comes. (`late` is `locking` with nobody waiting; it is not stored.)
 */
import { within, type Deadlines } from './clock.ts';
import type { BackEndHooks } from './device.ts';

/**
 * Calls a hook and waits for it; at its deadline it is given up with EMUDEV_TIMEOUT. `late`: it has resolved after that. Nothing
 * happens where no back end is attached.
 */
export type Ask = (name: string, call: (hooks: BackEndHooks) => void | Promise<void>, late?: () => void) => Promise<void>;

/** What a seat needs to know of its device. */
export interface SeatOptions {
  readonly device: string;
  readonly deadlines: Deadlines;
  /** Does anybody want it locked? */
  wanted(): boolean;
  report(error: unknown): void;
}

/** One attached back end. */
export class BackEndSeat {
  readonly hooks: BackEndHooks;
  readonly #options: SeatOptions;
  #locked = false;
  /** The one lock() that has not settled. */
  #locking: Promise<void> | undefined;
  /** How many wait for it. */
  #waiting = 0;
  #left = false;

  constructor(hooks: BackEndHooks, options: SeatOptions) {
    this.hooks = hooks;
    this.#options = options;
  }

  readonly ask: Ask = async (name, call, late) => {
    const { device, deadlines } = this.#options;
    const result = call(this.hooks);
    if (result === undefined) return;
    let overdue = false;
    const outcome = result.then(
      () => { if (overdue && !this.#left) late?.(); },
      (error: unknown) => {
        if (!overdue) throw error;
        // Nobody waits for it any more, but somebody may want to know.
        this.#options.report(error);
      },
    );
    try {
      await within(deadlines.clock, deadlines.hookDeadlineMs, `${device}: the back end's ${name} has not ended`, outcome);
    } catch (error) {
      overdue = true;
      throw error;
    }
  };

  /** Resolves when the back end is locked. EMUDEV_TIMEOUT at the deadline, or what its `lock` rejects with. */
  async acquire(reason: string): Promise<void> {
    if (this.#locked) return;
    const { device, deadlines } = this.#options;
    this.#locking ??= this.#begin(reason);
    this.#waiting++;
    try {
      await within(deadlines.clock, deadlines.lockDeadlineMs, `${device}: the back end has not locked (${reason})`, this.#locking);
    } finally {
      this.#waiting--;
    }
  }

  /** Nobody wants it locked any more. */
  release(): void {
    if (!this.#locked || this.#left) return;
    this.#locked = false;
    try {
      this.hooks.unlock();
    } catch (error) {
      this.#options.report(error);
    }
  }

  /** It hears nothing from now on, and a lock it holds it keeps. */
  leave(): void {
    this.#left = true;
  }

  async #begin(reason: string): Promise<void> {
    try {
      await this.hooks.lock(reason);
    } catch (error) {
      this.#locking = undefined;
      if (this.#waiting === 0 && !this.#left) {
        this.#options.report(error);
        return;
      }
      throw error;
    }
    this.#locking = undefined;
    this.#locked = true;
    if (!this.#options.wanted()) this.release();
  }
}
