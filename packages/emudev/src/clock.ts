import { EmudevError } from './errors.ts';

/** Time as deadlines need it; a test hands in one that it turns by hand. */
export interface EmudevClock {
  /** Calls `callback` once, `delayMs` from now, unless disposed before. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): Disposable;
}

/** The timers of this process. */
export const systemClock: EmudevClock = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => { clearTimeout(timer); } };
  },
};

/** The deadlines of one registry's devices, in milliseconds. */
export interface Deadlines {
  readonly lockDeadlineMs: number;
  readonly hookDeadlineMs: number;
  readonly clock: EmudevClock;
}

/** Settles as `work` does, or rejects with EMUDEV_TIMEOUT after `deadlineMs`; `work` goes on, and nobody hears how it ends. */
export async function within<T>(clock: EmudevClock, deadlineMs: number, what: string, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  using _timer = clock.after(deadlineMs, () => { reject(new EmudevError('EMUDEV_TIMEOUT', `${what} within ${deadlineMs} ms`)); });
  return await Promise.race([work, promise]);
}
