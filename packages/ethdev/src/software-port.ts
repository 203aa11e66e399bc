import { Window } from '@emudev/dma';
import { EthdevError } from './errors.ts';
import { PortCounters } from './port-counters.ts';
import type { DatapathSpec, LinkStatus, Port, PortConfig, PortInfo, PortStats } from './port.ts';

/**
 * The control half that ports without hardware of their own have in common: state, counters, link observers. A driver adds
 * `datapath()` and overrides what else it needs.
 *
 * | state      | configure    | start      | stop          | close                |
 * | ---------- | ------------ | ---------- | ------------- | -------------------- |
 * | new        | → configured | forbidden: nothing says how many queues | no-op | → closed |
 * | configured | → configured | → started  | no-op         | → closed             |
 * | started    | forbidden: lcores may poll it | no-op | → configured | stops, → closed |
 * | closed     | forbidden: its memory is gone | forbidden | no-op | no-op            |
 */
export abstract class SoftwarePort implements Port {
  readonly name: string;
  readonly info: PortInfo;
  /** The port's own reference; given back by `close`. */
  protected readonly window: Window;
  protected readonly counters: PortCounters;
  protected config: PortConfig | undefined;
  readonly #speedMbps: number;
  readonly #memory: number[] = [];
  readonly #observers = new Set<(link: LinkStatus) => void>();
  #state: 'new' | 'configured' | 'started' | 'closed' = 'new';
  #up = false;
  #closing: Promise<void> | undefined;

  /** `speedMbps` is what the link claims while it is up. */
  protected constructor(info: PortInfo, speedMbps: number) {
    this.name = info.name;
    this.info = info;
    this.#speedMbps = speedMbps;
    this.window = Window.open();
    this.counters = new PortCounters(this.window, info.maxRxQueues, info.maxTxQueues);
  }

  /** The module that lcores load, and what it is started with. Asked for after `configure`. */
  abstract datapath(): DatapathSpec;

  /** Hook of the driver, run inside the state change; a throw leaves the state as it was. */
  protected onConfigure(_config: PortConfig): void | Promise<void> {}
  /** Hook of the driver, run before the link goes up; a throw leaves the port configured. */
  protected onStart(): void | Promise<void> {}
  /** Hook of the driver, run after the link went down. */
  protected onStop(): void | Promise<void> {}
  /** Hook of the driver, run once, after `onStop`; the port's window memory is given back afterwards whatever it throws. */
  protected onClose(): void | Promise<void> {}

  /** Between `start` and `stop`. */
  get started(): boolean {
    return this.#state === 'started';
  }

  async configure(config: PortConfig): Promise<void> {
    if (this.#state === 'started' || this.#state === 'closed') this.#refuse('configure');
    const inRange = (queues: number, max: number): boolean => Number.isInteger(queues) && queues >= 1 && queues <= max;
    if (!inRange(config.rxQueues, this.info.maxRxQueues) || !inRange(config.txQueues, this.info.maxTxQueues)) {
      throw new EthdevError(
        'ERR_ETHDEV_CONFIG',
        `${this.name}: ${String(config.rxQueues)} Rx and ${String(config.txQueues)} Tx queues: want 1 to ${String(this.info.maxRxQueues)} and 1 to ${String(this.info.maxTxQueues)}`,
      );
    }
    await this.onConfigure(config);
    this.config = config;
    this.#state = 'configured';
  }

  async start(): Promise<void> {
    if (this.#state === 'started') return;
    if (this.#state !== 'configured') this.#refuse('start');
    await this.onStart();
    this.#state = 'started';
    this.setLink(this.linkWhenStarted());
  }

  async stop(): Promise<void> {
    if (this.#state !== 'started') return;
    this.setLink(false);
    this.#state = 'configured';
    await this.onStop();
  }

  /** No lcore uses the port any more. */
  close(): Promise<void> {
    // Whoever asks while it closes waits for the same end.
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.stop();
    this.#state = 'closed';
    this.#observers.clear();
    try {
      await this.onClose();
    } finally {
      this.release();
    }
  }

  /** Window memory that goes when the port is closed; returns its offset. */
  protected own(offset: number): number {
    this.#memory.push(offset);
    return offset;
  }

  /** Gives all memory back. For the constructor of a driver that fails after `super`; `close` does it otherwise. */
  protected release(): void {
    for (const offset of this.#memory.splice(0)) this.window.free(offset);
    this.counters[Symbol.dispose]();
    this.window[Symbol.dispose]();
  }

  /** What the link is right after `start`. */
  protected linkWhenStarted(): boolean {
    return true;
  }

  /** Tells observers if it is news. A stopped port stays down. */
  protected setLink(up: boolean): void {
    const now = up && this.#state === 'started';
    if (now === this.#up) return;
    this.#up = now;
    for (const observer of this.#observers) observer(this.link());
  }

  link(): LinkStatus {
    return { up: this.#up, speedMbps: this.#up ? this.#speedMbps : 0 };
  }

  onLink(observer: (link: LinkStatus) => void): Disposable {
    this.#observers.add(observer);
    return { [Symbol.dispose]: () => void this.#observers.delete(observer) };
  }

  stats(): PortStats {
    return this.counters.stats();
  }

  resetStats(): void {
    this.counters.reset();
  }

  xstats(): ReadonlyMap<string, bigint> {
    return this.counters.xstats();
  }

  #refuse(what: string): never {
    throw new EthdevError('ERR_ETHDEV_STATE', `${this.name}: ${what} is not allowed while the port is ${this.#state}`);
  }
}
