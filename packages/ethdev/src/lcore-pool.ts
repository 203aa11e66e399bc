import { EthdevError } from './errors.ts';
import { Lcore, type LcoreEvent, type LcoreOptions, type LcoreResources } from './lcore.ts';
import { MAX_LCORES } from './limits.ts';

/** For all lcores of a pool alike, but for where they run. */
export interface LcorePoolOptions extends Omit<LcoreOptions, 'cpu'> {
  /** The processor of lcore n; none: the scheduler chooses. */
  readonly cpus?: readonly (number | undefined)[];
}

/** The polling threads of a process. */
export class LcorePool {
  readonly lcores: readonly Lcore[];

  private constructor(lcores: readonly Lcore[]) {
    this.lcores = lcores;
  }

  /** Starts `count` threads; all of them, or none. */
  static async start(count: number, resources: LcoreResources, options: LcorePoolOptions = {}): Promise<LcorePool> {
    if (!Number.isInteger(count) || count < 1 || count > MAX_LCORES) {
      throw new EthdevError('ERR_ETHDEV_CONFIG', `${String(count)} lcores: want 1 to ${String(MAX_LCORES)}`);
    }
    const started = await Promise.allSettled(Array.from({ length: count }, (_, id) => {
      const cpu = options.cpus?.[id];
      return Lcore.start(id, resources, cpu === undefined ? options : { ...options, cpu });
    }));
    const lcores = started.filter((s) => s.status === 'fulfilled').map((s) => s.value);
    const failed = started.find((s) => s.status === 'rejected');
    if (failed !== undefined) {
      await Promise.all(lcores.map((lcore) => lcore.close()));
      throw failed.reason;
    }
    return new LcorePool(lcores);
  }

  /** Tells `observer` of every lcore's events, until what this returns is disposed of. */
  onEvent(observer: (event: LcoreEvent) => void): Disposable {
    const observations = this.lcores.map((lcore) => lcore.onEvent(observer));
    return {
      [Symbol.dispose]: () => {
        for (const observation of observations) observation[Symbol.dispose]();
      },
    };
  }

  /** Closes every lcore: streams end, then threads. */
  async close(): Promise<void> {
    await Promise.all(this.lcores.map((lcore) => lcore.close()));
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
