/** What the device was told about its interrupts and would forget with the connection; kept for a reconnect only. */
import { OwnedFd } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import type { IrqAction, SetIrqs } from '@emudev/vfio-user-protocol';

interface VectorState {
  /** Eventfds: the one the device signals, and those that mask and unmask when signalled. */
  readonly fds: Partial<Record<IrqAction, OwnedFd>>;
  masked: boolean;
}

/** A SET_IRQS on its way. Exactly one of the two is called. */
export interface IrqChange {
  /** Duplicates of the caller's: open until `drop`, or until the vectors change again. */
  readonly fds: readonly number[];
  apply(): void;
  drop(): void;
}

export class IrqState {
  readonly #sys: Sys;
  /** By index, then by vector. */
  readonly #indexes = new Map<number, Map<number, VectorState>>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  prepare(request: SetIrqs, fds: readonly number[]): IrqChange {
    const kept: OwnedFd[] = [];
    const drop = (): void => { for (const fd of kept) fd.close(); };
    try {
      for (const fd of fds) kept.push(new OwnedFd(this.#sys.dup(fd), this.#sys));
    } catch (error) {
      drop();
      throw error;
    }
    return { fds: kept.map(({ fd }) => fd), drop, apply: () => { this.#apply(request, kept); } };
  }

  /** Messages that bring a device that knows nothing to this state, with at most `maxFds` descriptors each. */
  *requests(maxFds: number): Generator<{ readonly request: SetIrqs; readonly fds: readonly number[] }, void, undefined> {
    for (const [index, vectors] of this.#indexes) {
      const numbers = [...vectors.keys()].sort((a, b) => a - b);
      // Masks first: nothing may be delivered to an eventfd that was masked.
      for (const [start, count] of runs(numbers.filter((vector) => vectors.get(vector)!.masked), Infinity)) {
        yield { request: { action: 'mask', index, start, count, data: 'none' }, fds: [] };
      }
      for (const action of ['mask', 'unmask', 'trigger'] as const) {
        const connected = numbers.filter((vector) => vectors.get(vector)!.fds[action] !== undefined);
        for (const [start, count] of runs(connected, maxFds)) {
          const fds = Array.from({ length: count }, (_, i) => vectors.get(start + i)!.fds[action]!.fd);
          yield { request: { action, index, start, count, data: 'eventfd' }, fds };
        }
      }
    }
  }

  close(): void {
    for (const index of [...this.#indexes.keys()]) this.#disable(index);
  }

  #apply({ action, index, start, count, data }: SetIrqs, kept: readonly OwnedFd[]): void {
    if (action === 'trigger' && data === 'none' && count === 0) return this.#disable(index);
    // Firing changes nothing that lasts.
    if (action === 'trigger' && data !== 'eventfd') return;
    for (let i = 0; i < count; i++) {
      const state = this.#vector(index, start + i);
      if (data === 'eventfd') {
        state.fds[action]?.close();
        const fd = kept[i];
        if (fd === undefined) Reflect.deleteProperty(state.fds, action);
        else state.fds[action] = fd;
      } else if (data === 'none' || data[i] !== 0) {
        state.masked = action === 'mask';
      }
    }
  }

  #disable(index: number): void {
    for (const state of this.#indexes.get(index)?.values() ?? []) for (const fd of Object.values(state.fds)) fd.close();
    this.#indexes.delete(index);
  }

  #vector(index: number, vector: number): VectorState {
    let vectors = this.#indexes.get(index);
    if (vectors === undefined) this.#indexes.set(index, (vectors = new Map<number, VectorState>()));
    let state = vectors.get(vector);
    if (state === undefined) vectors.set(vector, (state = { fds: {}, masked: false }));
    return state;
  }
}

/** [first, count] of neighbouring numbers, sorted ascending, at most `most` in a run. */
export function* runs(numbers: readonly number[], most: number): Generator<readonly [number, number], void, undefined> {
  for (let at = 0; at < numbers.length;) {
    let count = 1;
    while (count < most && numbers[at + count] === numbers[at]! + count) count++;
    yield [numbers[at]!, count];
    at += count;
  }
}
