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
