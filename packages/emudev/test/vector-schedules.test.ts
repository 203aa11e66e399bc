import { describe, expect, it } from 'vitest';
import { evaluateVector, raiseVector, VECTOR_ARMED, VECTOR_FD } from '../src/vector.ts';
import { advance, explore } from './schedules.ts';

/** Two lcores and a guest. */
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

function step(state: State, actor: Actor): State {
  const i32 = Int32Array.from(state.cells);
  const world = { published: state.published, seen: state.seen, signals: state.signals, handled: state.handled };
  const log = advance(state.done[actor]!, (operation) => {
    const signal = (): boolean => operation(() => ++world.signals) > 0;
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
  });
  // An lcore raises once; the guest waits for the next signal.
  return { cells: [...i32], ...world, done: { ...state.done, [actor]: log ?? (actor === 'guest' ? [] : undefined) } };
}

const runnable = (state: State, actor: Actor): boolean =>
  actor === 'guest' ? state.done.guest!.length > 0 || state.signals !== state.handled : state.done[actor] !== undefined;

describe('vector cells under every schedule', () => {
  it('whatever the order, the guest has seen every event when nothing moves any more', () => {
    const { visited, ends } = explore(START, (state) => ACTORS.filter((actor) => runnable(state, actor)).map((actor) => step(state, actor)));
    expect(ends.filter((state) => state.seen !== 2 || state.published !== 2)).toEqual([]);
    expect(visited).toBeGreaterThan(500);
    expect(ends.length).toBeGreaterThan(0);
  });
});
