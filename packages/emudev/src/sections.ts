/**
 * First come, first served: at most one holder at a time. Hooks, resets and the transport's lock … unlock all pass through one
 * of these per device, which is what "never two at a time" rests on.
 */
export class Sections {
  #tail: Promise<void> = Promise.resolve();
  #busy = 0;

  get idle(): boolean {
    return this.#busy === 0;
  }

  /** Resolves to the release function of the section; calling that twice is harmless. */
  async enter(): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const before = this.#tail;
    this.#tail = before.then(() => promise);
    this.#busy++;
    if (this.#busy > 1) await before;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#busy--;
      resolve(undefined);
    };
  }

  async run<T>(body: () => T | Promise<T>): Promise<T> {
    const leave = await this.enter();
    try {
      return await body();
    } finally {
      leave();
    }
  }
}
