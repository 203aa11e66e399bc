/** An lcore's loop in this thread, over streams of ports that a test makes up. */
import { allocateBurst, readCounter, type Burst, type LcoreContext, type PortDatapath } from '@emudev/ethdev';
import { Window, attachWindow, type QuiescentReader } from '@emudev/dma';
import { createEngine } from '../src/engines/create.ts';
import { LcoreLoop, type LoopSys } from '../src/lcore-loop.ts';
import { LCORE_COMMAND, LCORE_CONTROL_BYTES, STREAM_COUNTERS_BYTES, type LcoreWorkerData } from '../src/lcore-protocol.ts';

const READER: Pick<QuiescentReader, 'online' | 'offline' | 'checkpoint'> = { online: () => {}, offline: () => {}, checkpoint: () => {} };
const SYS: LoopSys = { eventfdDrain: () => 0, pollIn: () => 0, yieldProcessor: () => {} };

export interface RigStream {
  readonly keeping: Burst;
  /** A counter by its offset (STREAM_*). */
  counter(offset: number): bigint;
}

export interface LoopRig {
  readonly window: Window;
  readonly context: LcoreContext;
  readonly loop: LcoreLoop;
  /** Of all streams. */
  readonly burst: Burst;
  /** Streams are numbered from 7 on; without `tx`, back to itself. */
  add(rx: PortDatapath, tx?: PortDatapath): RigStream;
  /** Ends `run` before its next loop; `resume` before the next `run`. */
  stop(): void;
  resume(): void;
}

/** Its memory lives as long as the stack. `burst`: other sizes than the usual ones. */
export function loopRig(resources: DisposableStack, given: { reader?: typeof READER; sys?: Partial<LoopSys>; burst?: Partial<Burst> | undefined } = {}): LoopRig {
  const window = resources.use(Window.open());
  const alloc = (bytes: number): number => resources.adopt(window.alloc(bytes, 64), (offset) => { window.free(offset); });
  const allocated = (): Burst => ({ ...resources.use(allocateBurst(window, 8)), ...given.burst });
  const context = { ...attachWindow(window.memory, window.base), lcore: 0 };
  const control = alloc(LCORE_CONTROL_BYTES);
  const command = (control >>> 2) + LCORE_COMMAND;
  const reader = (given.reader ?? READER) as QuiescentReader;
  const loop = new LcoreLoop(context, reader, { ...SYS, ...given.sys }, { control, idleSpins: 1, idleLatencyUs: 100, wakeFd: -1 } as LcoreWorkerData);
  const burst = allocated();
  let id = 7;
  return {
    window, context, loop, burst,
    add: (rx, tx = rx) => {
      const keeping = allocated();
      const counters = alloc(STREAM_COUNTERS_BYTES);
      loop.add({ id: id++, rx, rxQueue: 0, tx, txQueue: 0, engine: createEngine(context, { name: 'io' }), announced: false, burst, keeping, counters });
      return { keeping, counter: (offset) => readCounter(context.u32, (counters + offset) >>> 2) };
    },
    stop: () => { Atomics.store(context.i32, command, 1); },
    resume: () => { Atomics.store(context.i32, command, 0); },
  };
}
