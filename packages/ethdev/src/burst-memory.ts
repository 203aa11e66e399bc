import type { Window } from '@emudev/dma';
import { DEFAULT_ARENA_BYTES, DEFAULT_BURST, FRAME_RECORD_BYTES, type Burst } from './burst.ts';
import { EthdevError } from './errors.ts';
import { MAX_BURST } from './limits.ts';

/** A burst and the memory it lies in. */
export interface OwnedBurst extends Burst, Disposable {}

/** The bursts that the streams of an lcore take turns with: one of each size, as long as somebody uses it. */
export class SharedBursts {
  readonly #window: Window;
  readonly #bursts: { readonly burst: OwnedBurst; users: number }[] = [];

  constructor(window: Window) {
    this.#window = window;
  }

  /** As `allocateBurst`; disposing of it ends this use of it. */
  use(capacity: number = DEFAULT_BURST, arenaBytes: number = DEFAULT_ARENA_BYTES): OwnedBurst {
    let shared = this.#bursts.find(({ burst }) => burst.capacity === capacity && burst.arenaBytes === arenaBytes);
    if (shared === undefined) this.#bursts.push(shared = { burst: allocateBurst(this.#window, capacity, arenaBytes), users: 0 });
    const used = shared;
    used.users++;
    let given = false;
    return {
      ...used.burst,
      [Symbol.dispose]: () => {
        if (given) return;
        given = true;
        if (--used.users > 0) return;
        this.#bursts.splice(this.#bursts.indexOf(used), 1);
        used.burst[Symbol.dispose]();
      },
    };
  }
}

/** Allocates the records (cache-line aligned) and the arena of a burst in the window; disposing frees both. */
export function allocateBurst(window: Window, capacity: number = DEFAULT_BURST, arenaBytes: number = DEFAULT_ARENA_BYTES): OwnedBurst {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_BURST) {
    throw new EthdevError('ERR_ETHDEV_CONFIG', `burst of ${String(capacity)} frames: want 1 to ${String(MAX_BURST)}`);
  }
  const records = window.alloc(capacity * FRAME_RECORD_BYTES, 64);
  let arena: number;
  try {
    arena = window.alloc(arenaBytes, 4096);
  } catch (error) {
    window.free(records);
    throw error;
  }
  let freed = false;
  return {
    records,
    capacity,
    arena,
    arenaBytes,
    [Symbol.dispose](): void {
      if (freed) return;
      freed = true;
      window.free(records);
      window.free(arena);
    },
  };
}
