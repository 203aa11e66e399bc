/** Eventfds of the client that mask or unmask a vector when it signals them; for INTx the latter is the "resample" descriptor. */
import type { Sys } from '@emudev/linux';
import { VfioUserServerError } from './errors.ts';
import { MAX_MASK_EVENTFDS } from './limits.ts';

export type MaskAction = 'mask' | 'unmask';

interface Watched {
  readonly fd: number;
  watch: Disposable | undefined;
}

const ENOSPC = 28;

export class MaskEventfds {
  readonly #sys: Sys;
  readonly #onSignal: (action: MaskAction, index: number, vector: number) => Promise<void> | undefined;
  readonly #onFault: (error: unknown) => void;
  readonly #watched = new Map<string, Watched>();

  /** `onSignal` returns a promise where it cannot act at once: until it settles the descriptor is not looked at. It never rejects. */
  constructor(sys: Sys, onSignal: (action: MaskAction, index: number, vector: number) => Promise<void> | undefined, onFault: (error: unknown) => void) {
    this.#sys = sys;
    this.#onSignal = onSignal;
    this.#onFault = onFault;
  }

  /** Takes over `fds[0]`, `fds[1]`, … for the vectors from `start` (and out of the list); replaces those that were there. @throws VfioUserServerError, LinuxError */
  assign(action: MaskAction, index: number, start: number, fds: number[]): void {
    // CLIENT: each is watched, and any number of vectors may come with two.
    if (this.#watched.size + fds.length > MAX_MASK_EVENTFDS) throw new VfioUserServerError('ERR_SERVER_MASK_EVENTFDS', ENOSPC, `at most ${MAX_MASK_EVENTFDS} eventfds mask or unmask vectors`);
    for (let vector = start; fds.length > 0; vector++) {
      const key = `${action} ${index} ${vector}`;
      const watched: Watched = { fd: fds[0]!, watch: undefined };
      watched.watch = this.#watch(watched, action, index, vector);
      this.#close(key);
      this.#watched.set(key, watched);
      fds.shift();
    }
  }

  remove(action: MaskAction, index: number, start: number, count: number): void {
    // By what is there: `count` may be thousands.
    for (const key of [...this.#watched.keys()]) {
      const [of, at, vector] = key.split(' ');
      if (of === action && Number(at) === index && Number(vector) >= start && Number(vector) < start + count) this.#close(key);
    }
  }

  close(): void {
    for (const key of [...this.#watched.keys()]) this.#close(key);
  }

  /** CLIENT: it may signal for ever: one look each turn of the event loop, and others have theirs. */
  #watch(watched: Watched, action: MaskAction, index: number, vector: number): Disposable {
    return this.#sys.watch(watched.fd, { readable: true }, () => {
      if (watched.watch === undefined || this.#sys.eventfdDrain(watched.fd) === 0) return;
      const pending = this.#onSignal(action, index, vector);
      if (pending === undefined) return;
      watched.watch[Symbol.dispose]();
      watched.watch = undefined;
      void pending.then(() => {
        if (this.#watched.get(`${action} ${index} ${vector}`) !== watched) return;
        try {
          watched.watch = this.#watch(watched, action, index, vector);
        } catch (error) {
          this.#onFault(error);
        }
      });
    });
  }

  #close(key: string): void {
    const watched = this.#watched.get(key);
    if (watched === undefined) return;
    this.#watched.delete(key);
    watched.watch?.[Symbol.dispose]();
    watched.watch = undefined;
    this.#sys.close(watched.fd);
  }
}
