/**
 * Lcores that raise and a guest that arms by plain stores into VFINT_DYN_CTLN1: two lcores and a handler, and one lcore, a handler and a
 * second processor of the guest's that writes there, too.
 */
import { VECTOR_CONTROL, VECTOR_FD } from '@emudev/emudev';
import { describe, expect, it } from 'vitest';
import { advance, explore, watched } from '../../emudev/test/schedules.ts';
import { DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, Q_BYTES, Q_ITR, Q_STATS, Q_VECTOR, QS_INTERRUPTS } from '../src/layout.ts';
import { LOOK_ROUND_LOOPS } from '../src/limits.ts';
import { RingInterrupts } from '../src/ring-interrupts.ts';

const DEVICE = 64;
const TX_BLOCK = 512;
const RX_BLOCK = TX_BLOCK + Q_BYTES;
const CELLS = 1024 / 4;
/** VFINT_ITRN1 of index 0 lies 4 KiB below VFINT_DYN_CTLN1. */
const ITR = 2048;
const CONTROL = (ITR + 0x1000) / 4;
const WORDS = CONTROL + 1;

const LINUX_ARM = 0x19;
const DPDK_ARM = 0x1b;
const ARM_AND_NO_INTERVAL = 0x01;
const SWINT = 0x0100_001d;
const WB_ON_ITR = 0x4000_0018;
const DISARM = 0;

type Actor = 'lcore A' | 'lcore B' | 'handler' | 'other processor';
const ACTORS: readonly Actor[] = ['lcore A', 'lcore B', 'handler', 'other processor'];
interface State {
  /** Words that are not as in the beginning. */
  readonly changed: Readonly<Record<number, number>>;
  readonly published: number;
  readonly seen: number;
  readonly signals: number;
  readonly handled: number;
  /** How often the guest has armed: its first word, and every store with INTENA. */
  readonly armings: number;
  /** Results of the operations an actor has performed; undefined = it has come to its end. */
  readonly done: Readonly<Record<Actor, readonly number[] | undefined>>;
}

const FRESH = new Int32Array(WORDS);
for (const block of [TX_BLOCK, RX_BLOCK]) {
  FRESH[(block + Q_VECTOR) >>> 2] = CELLS;
  FRESH[(block + Q_ITR) >>> 2] = ITR;
}
FRESH[(DEVICE + DEV_QUEUE_PAIRS) >>> 2] = 1;
FRESH[(DEVICE + DEV_TX_BLOCKS) >>> 2] = TX_BLOCK;
FRESH[(DEVICE + DEV_RX_BLOCKS) >>> 2] = RX_BLOCK;
FRESH[CELLS + VECTOR_CONTROL] = CONTROL;
FRESH[CELLS + VECTOR_FD] = 3;
FRESH[CONTROL] = LINUX_ARM;

const noTime = (): number => 0;

interface Guest {
  /** What its handler writes last. */
  readonly rearm: number;
  /** What another processor of it writes at any time. */
  readonly other: readonly number[];
}

function memoryOf(state: State): { i32: Int32Array; u32: Uint32Array } {
  const i32 = Int32Array.from(FRESH);
  for (const [word, value] of Object.entries(state.changed)) i32[Number(word)] = value;
  return { i32, u32: new Uint32Array(i32.buffer) };
}

function changes(i32: Int32Array): Record<number, number> {
  const changed: Record<number, number> = {};
  // Statistics are counted again by every replay.
  for (const block of [TX_BLOCK, RX_BLOCK]) i32[(block + Q_STATS + 8 * QS_INTERRUPTS) >>> 2] = 0;
  i32.forEach((value, word) => { if (value !== FRESH[word]) changed[word] = value; });
  return changed;
}

function step(state: State, actor: Actor, guest: Guest): State {
  const memory = memoryOf(state);
  const world = { published: state.published, seen: state.seen, signals: state.signals, handled: state.handled, armings: state.armings };
  const log = advance(state.done[actor]!, (operation) => {
    const signal = (): boolean => operation(() => ++world.signals) > 0;
    const write = (word: number): void => {
      operation(() => {
        world.armings += word & 1;
        return (memory.i32[CONTROL] = word);
      });
    };
    if (actor === 'handler') {
      operation(() => (world.handled = world.signals));
      operation(() => (world.seen = world.published));
      write(guest.rearm);
    } else if (actor === 'other processor') {
      for (const word of guest.other) write(word);
    } else {
      const interrupts = new RingInterrupts({ i32: watched(memory.i32, operation), u32: memory.u32 }, DEVICE, signal, noTime);
      operation(() => ++world.published);
      interrupts.raise(actor === 'lcore A' ? TX_BLOCK : RX_BLOCK);
    }
  });
  return { changed: changes(memory.i32), ...world, done: { ...state.done, [actor]: log ?? (actor === 'handler' ? [] : undefined) } };
}

const runnable = (state: State, actor: Actor): boolean =>
  actor === 'handler' ? state.done.handler!.length > 0 || state.signals !== state.handled : state.done[actor] !== undefined;

/** What an lcore that goes on looping does with it, and the guest: has the guest seen everything in the end? */
function seenInTheEnd(state: State, rearm: number): boolean {
  const memory = memoryOf(state);
  let signals = 0;
  let { seen } = state;
  const lcore = new RingInterrupts(memory, DEVICE, () => ++signals > 0, noTime);
  for (let loop = 0; loop < 2 * LOOK_ROUND_LOOPS; loop++) {
    lcore.tick();
    if (signals === 0) continue;
    signals = 0;
    seen = state.published;
    memory.i32[CONTROL] = rearm;
  }
  return seen === state.published;
}

describe('VFINT_DYN_CTLN1 in mapped memory, under every schedule', () => {
  it.each([
    ['a handler that arms', { rearm: LINUX_ARM, other: [] }],
    ['one that arms and clears the pending bit', { rearm: DPDK_ARM, other: [] }],
    ['one that arms and sets an interval', { rearm: ARM_AND_NO_INTERVAL, other: [] }],
    ['a processor that disarms and arms meanwhile', { rearm: LINUX_ARM, other: [DISARM, LINUX_ARM] }],
    ['one that asks for write-back and then arms', { rearm: ARM_AND_NO_INTERVAL, other: [WB_ON_ITR, DPDK_ARM] }],
    ['one that triggers an interrupt', { rearm: LINUX_ARM, other: [SWINT] }],
  ] satisfies [string, Guest][])('%s: the guest has seen every event in the end', (_, guest) => {
    const alone = guest.other.length > 0;
    const start: State = {
      changed: {}, published: 0, seen: 0, signals: 0, handled: 0, armings: 1,
      // All four would be hundreds of thousands of states.
      done: { 'lcore A': [], 'lcore B': alone ? undefined : [], handler: [], 'other processor': alone ? [] : undefined },
    };
    const { visited, ends } = explore(start, (state) => ACTORS.filter((actor) => runnable(state, actor)).map((actor) => {
      const next = step(state, actor, guest);
      // Not twice for one arming.
      if (next.signals > next.armings) throw new Error(`interrupted unasked: ${JSON.stringify(next)}`);
      return next;
    }));
    expect(ends.filter((state) => state.published !== (alone ? 1 : 2) || !seenInTheEnd(state, guest.rearm))).toEqual([]);
    expect(visited).toBeGreaterThan(100);
  });
});
