/**
 * What a guest's stores have ordered a device to do by itself: begun in order, one at a time, behind the store, and only while the
 * device may.
 *
 * | running | held | an order that is given   | an order that has begun          |
 * | ------- | ---- | ------------------------ | -------------------------------- |
 * | yes     | no   | begins in its turn       | goes on                          |
 * | no      | –    | waits for `start`        | `stop` waits for its end         |
 * | –       | yes  | waits for `release`      | `hold` waits for its end         |
 *
 * An order that does not end is given up: whoever waits for it hears EMUDEV_TIMEOUT. No other begins before it has ended after all.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock, within, type EmudevClock } from './clock.ts';
import { EmudevError } from './errors.ts';
import { MAX_WAITING_ORDERS, ORDER_DEADLINE_MS } from './limits.ts';

/** One piece of work. */
export type Order = () => void | Promise<void>;

/** The orders of one device. Not running at first. */
export class Orders {
  readonly #report: (error: unknown) => void;
  readonly #clock: EmudevClock;
  readonly #waiting: Order[] = [];
  #working: Promise<void> | undefined;
  #running = false;
  /** Who holds them; each lets go of its own. */
  #holders = 0;

  /** `report`: what an order has thrown. */
  constructor(report: (error: unknown) => void, clock: EmudevClock = systemClock) {
    this.#report = report;
    this.#clock = clock;
  }

  /** EMUDEV_RANGE: `MAX_WAITING_ORDERS` wait already; this one is not taken. */
  give(order: Order): void {
    if (this.#waiting.length >= MAX_WAITING_ORDERS) throw new EmudevError('EMUDEV_RANGE', `${MAX_WAITING_ORDERS} orders wait already, which is the limit`);
    this.#waiting.push(order);
    this.#next();
  }

  /** Orders begin, those that wait first. */
  start(): void {
    this.#running = true;
    this.#next();
  }

  /** EMUDEV_TIMEOUT: what has begun has not ended; nothing else begins all the same. */
  stop(): Promise<void> {
    this.#running = false;
    return this.#ended();
  }

  /** EMUDEV_TIMEOUT: what has begun has not ended; then there is nothing to release. */
  async hold(): Promise<void> {
    this.#holders++;
    try {
      await this.#ended();
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Ends one `hold`; with the last one, orders begin again. */
  release(): void {
    if (this.#holders > 0) this.#holders--;
    this.#next();
  }

  /** Forgets those that have not begun. */
  clear(): void {
    this.#waiting.length = 0;
  }

  async #ended(): Promise<void> {
    if (this.#working !== undefined) await within(this.#clock, ORDER_DEADLINE_MS, 'what a guest ordered has not ended', this.#working);
  }

  #next(): void {
    if (!this.#running || this.#holders > 0 || this.#working !== undefined) return;
    const order = this.#waiting.shift();
    if (order === undefined) return;
    this.#working = nextTurn().then(order).catch(this.#report).finally(() => {
      this.#working = undefined;
      this.#next();
    });
  }
}
