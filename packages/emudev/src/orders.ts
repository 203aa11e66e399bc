/**
 * What a guest's stores have ordered a device to do by itself: begun in order, one at a time, behind the store, and only while the
 * device may.
 *
 * | running | held | an order that is given   | an order that has begun          |
 * | ------- | ---- | ------------------------ | -------------------------------- |
 * | yes     | no   | begins in its turn       | goes on                          |
 * | no      | –    | waits for `start`        | `stop` waits for its end         |
 * | –       | yes  | waits for `release`      | `hold` waits for its end         |
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** One piece of work. */
export type Order = () => void | Promise<void>;

export class Orders {
  readonly #report: (error: unknown) => void;
  readonly #waiting: Order[] = [];
  #working: Promise<void> | undefined;
  #running = false;
  /** Who holds them; each lets go of its own. */
  #holders = 0;

  /** `report`: what an order has thrown. */
  constructor(report: (error: unknown) => void) {
    this.#report = report;
  }

  give(order: Order): void {
    this.#waiting.push(order);
    this.#next();
  }

  start(): void {
    this.#running = true;
    this.#next();
  }

  stop(): Promise<void> {
    this.#running = false;
    return this.#ended();
  }

  hold(): Promise<void> {
    this.#holders++;
    return this.#ended();
  }

  release(): void {
    if (this.#holders > 0) this.#holders--;
    this.#next();
  }

  /** Forgets those that have not begun. */
  clear(): void {
    this.#waiting.length = 0;
  }

  async #ended(): Promise<void> {
    await this.#working;
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
