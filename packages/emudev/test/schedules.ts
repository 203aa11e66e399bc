/**
 * Every interleaving of several threads, atomic operation by atomic operation, with the real code. A thread is advanced by one operation by
 * running it again from its start, with the results of its earlier operations replayed, until it has performed a new one. What workers hit
 * once in a million tries is visited here every time.
 */
const OPERATIONS = ['load', 'store', 'add', 'compareExchange'] as const;
const real = Object.fromEntries(OPERATIONS.map((name) => [name, Atomics[name]]));

class Paused extends Error {}

/** What `watched` has made, and of what. */
const watchedArrays = new WeakMap<object, Int32Array>();

/** One step of a thread that others may come before or after; returns what `perform` does, or did. */
export type Operation = (perform: () => number) => number;

/**
 * Runs `thread` until it has performed one operation more than `log` has results of, or has come to its end; `Atomics.load`, `store`, `add` and
 * `compareExchange` are operations by themselves. Returns the log as it is then; undefined: the end.
 */
export function advance(log: readonly number[], thread: (operation: Operation) => void): readonly number[] | undefined {
  const results = [...log];
  let at = 0;
  const operation: Operation = (perform) => {
    if (at < log.length) return results[at++]!;
    if (results.length > log.length) throw new Paused();
    results.push(perform());
    at++;
    return results.at(-1)!;
  };
  for (const name of OPERATIONS) {
    Object.assign(Atomics, { [name]: (i32: Int32Array, ...args: unknown[]) => operation(() => (real[name] as (...a: unknown[]) => number)(watchedArrays.get(i32) ?? i32, ...args)) });
  }
  try {
    thread(operation);
    return undefined;
  } catch (error) {
    if (!(error instanceof Paused)) throw error;
    return results;
  } finally {
    Object.assign(Atomics, real);
  }
}

/** The same memory for a thread that reads some of it by plain loads, too: each is an operation. */
export function watched(i32: Int32Array, operation: Operation): Int32Array {
  const proxy = new Proxy(i32, {
    get: (target, key): unknown => {
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'number' && typeof key === 'string' && /^\d+$/.test(key) ? operation(() => target[Number(key)]!) : value;
    },
  });
  watchedArrays.set(proxy, i32);
  return proxy;
}

/** All states that `start` can come to by `next`, each once, and those where nothing moves any more. States are plain data. */
export function explore<State>(start: State, next: (state: State) => readonly State[]): { readonly visited: number; readonly ends: readonly State[] } {
  const visited = new Set<string>([JSON.stringify(start)]);
  const open = [start];
  const ends: State[] = [];
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    const following = next(state);
    if (following.length === 0) ends.push(state);
    for (const one of following) {
      const key = JSON.stringify(one);
      if (visited.has(key)) continue;
      visited.add(key);
      open.push(one);
    }
  }
  return { visited: visited.size, ends };
}
