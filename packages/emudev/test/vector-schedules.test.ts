import { afterEach, describe, expect, it } from 'vitest';
import { evaluateVector, raiseVector, VECTOR_ARMED, VECTOR_FD } from '../src/vector.ts';

/**
 * Every interleaving of two lcores and a guest, atomic operation by atomic operation, with the real code: an actor is advanced
 * by one operation by running it again from its start, with the results of its earlier operations replayed, until it has
 * performed a new one. What workers hit once in a million tries is visited here every time.
 */
const OPERATIONS = ['load', 'store', 'add', 'compareExchange'] as const;
const real = Object.fromEntries(OPERATIONS.map((name) => [name, Atomics[name]]));
afterEach(() => { Object.assign(Atomics, real); });

type Actor = 'lcore A' | 'lcore B' | 'guest';
const ACTORS: readonly Actor[] = ['lcore A', 'lcore B', 'guest'];
interface State {
  readonly cells: readonly number[];
  readonly published: number;
  readonly seen: number;
  readonly signals: number;
  readonly handled: number;
  /** Results of the operations an actor has performed; undefined = it has come to its end. */
  readonly done: Readonly<Record<Actor, readonly number[] | undefined>>;
}
const START: State = {
  cells: Object.assign([0, 0, 0, 0, 0, 0, 0], { [VECTOR_ARMED]: 1, [VECTOR_FD]: 3 }),
  published: 0, seen: 0, signals: 0, handled: 0,
  done: { 'lcore A': [], 'lcore B': [], guest: [] },
};

const noTime = (): number => 0;

class Paused extends Error {}

function advance(state: State, actor: Actor): State {
  const i32 = Int32Array.from(state.cells);
  const world = { published: state.published, seen: state.seen, signals: state.signals, handled: state.handled };
  const log = [...state.done[actor]!];
  const replayed = log.length;
  let at = 0;
  const operation = (perform: () => number): number => {
    if (at < replayed) return log[at++]!;
    if (log.length > replayed) throw new Paused();
    log.push(perform());
    at++;
    return log.at(-1)!;
  };
  for (const name of OPERATIONS) {
    Object.assign(Atomics, { [name]: (...args: unknown[]) => operation(() => (real[name] as (...a: unknown[]) => number)(...args)) });
  }
  const signal = (): boolean => operation(() => ++world.signals) > 0;
  let ended = false;
  try {
    if (actor === 'guest') {
      // The interrupt handler: it reads what is there, then re-arms.
      operation(() => (world.handled = world.signals));
      operation(() => (world.seen = world.published));
      Atomics.store(i32, VECTOR_ARMED, 1);
      evaluateVector(i32, 0, signal, noTime);
    } else {
      operation(() => ++world.published);
      raiseVector(i32, 0, signal, 0, noTime);
    }
    ended = true;
  } catch (error) {
    if (!(error instanceof Paused)) throw error;
  } finally {
    Object.assign(Atomics, real);
  }
  // An lcore raises once; the guest waits for the next signal.
  const after = ended ? (actor === 'guest' ? [] : undefined) : log;
  return { cells: [...i32], ...world, done: { ...state.done, [actor]: after } };
}

const runnable = (state: State, actor: Actor): boolean =>
  actor === 'guest' ? state.done.guest!.length > 0 || state.signals !== state.handled : state.done[actor] !== undefined;

describe('vector cells under every schedule', () => {
  it('whatever the order, the guest has seen every event when nothing moves any more', () => {
    const visited = new Set<string>([JSON.stringify(START)]);
    const open = [START];
    const ends: State[] = [];
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      const here = state;
      const actors = ACTORS.filter((actor) => runnable(here, actor));
      if (actors.length === 0) ends.push(here);
      for (const actor of actors) {
        const next = advance(here, actor);
        const key = JSON.stringify(next);
        if (visited.has(key)) continue;
        visited.add(key);
        open.push(next);
      }
    }
    expect(ends.filter((state) => state.seen !== 2 || state.published !== 2)).toEqual([]);
    expect(visited.size).toBeGreaterThan(500);
    expect(ends.length).toBeGreaterThan(0);
  });
});
