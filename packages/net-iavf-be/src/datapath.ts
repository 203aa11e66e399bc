/**
 * The data path of an iavf back end, as an lcore loads it: kernels (or their twins) over the state blocks of layout.ts, and the
 * interrupts that their completions call for.
 */
import { loadKernels, type MissCells } from '@emudev/dma';
import { FRAME_RECORD_BYTES, type Burst, type LcoreContext, type PortDatapath } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import {
  DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_RX_KICK, DEV_TX_BLOCKS, DEV_TX_LOCK, PAUSED_FOR_NOW, Q_BOUNCED, Q_BYTES,
} from './layout.ts';
import { MISS_PATIENCE_MS, TX_LOCK_SPINS } from './limits.ts';
import { RingMisses } from './ring-misses.ts';
import { RingInterrupts } from './ring-interrupts.ts';
import { RxRoom } from './rx-room.ts';
import { createTwins, TwinMemory, type Kernels } from './twins/index.ts';

/** `init` of the DatapathSpec. */
export interface IavfDatapathInit {
  /** Window offset of the device block. */
  readonly device: number;
  /** How to ask for memory that is not in the window: a cell for each Tx ring, then one for what is sent to the guest. Without, such memory is a fault. */
  readonly misses?: MissCells;
  /** Several lcores send to the guest. */
  readonly shared?: boolean;
  /** `ts`: the TypeScript twins, for where WebAssembly over mapped memory does not work. Default `wasm`. */
  readonly kernels?: 'wasm' | 'ts';
}

const COUNT_MASK = 0xffff;
const RAISE = 1 << 16;
const MISS = 1 << 17;
const LENT = 1 << 18;

/** `signal` writes an eventfd, `clock` tells microseconds; they are arguments so that tests can do without. */
export function createDatapath(context: LcoreContext, init: IavfDatapathInit, signal: (fd: number) => boolean = signalEventfd, clock?: () => number): PortDatapath {
  const { i32, u32 } = context;
  const { device } = init;
  const kernels = init.kernels === 'ts' ? createTwins(new TwinMemory(context.view, i32)) : kernelsOf(context.memory, init.misses !== undefined);
  kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);

  const { wakeUps = { count: 0 } } = context;
  const interrupts = new RingInterrupts(context, device, (fd) => {
    wakeUps.count++;
    return signal(fd);
  }, clock);

  const raiseRx = (): void => {
    const kick = u32[(device + DEV_RX_KICK) >>> 2]!;
    if (kick === 0) return;
    const pairs = u32[(device + DEV_QUEUE_PAIRS) >>> 2]!;
    const blocks = u32[(device + DEV_RX_BLOCKS) >>> 2]!;
    for (let queue = 0; queue < pairs; queue++) {
      const block = blocks + queue * Q_BYTES;
      if ((kick & (1 << queue)) !== 0 && u32[(block + Q_BOUNCED) >>> 2] === 0) interrupts.raise(block);
    }
  };

  const room = new RxRoom(context, device);

  const lock = (device + DEV_TX_LOCK) >>> 2;
  const shared = init.shared ?? false;
  /** The last burst to the guest found another lcore at it. */
  let busy = false;

  const misses = init.misses === undefined ? undefined : new RingMisses(context, kernels, device, init.misses);

  /** A number for every turn, of all lcores: who clears the lock after a thread that has died must not take another's turn for the dead one's. */
  let turn = Math.floor(Math.random() * 2 ** 32) | 0;
  const tryLock = (): boolean => {
    turn = (turn + 1) | 0;
    if (turn === 0) turn = 1;
    for (let tries = 0; tries < TX_LOCK_SPINS; tries++) {
      if (Atomics.compareExchange(i32, lock, 0, turn) === 0) return true;
    }
    return false;
  };

  /** The frames of the burst in hand are lent. */
  let lent = false;

  /** Whoever calls this is the only one. */
  const fill = (burst: Burst, count: number): number => {
    let taken = 0;
    let missedAt = 0;
    for (;;) {
      if (misses !== undefined && misses.mustWaitToSend()) return taken;
      const result = kernels.txBurst(device, burst.records + taken * FRAME_RECORD_BYTES, count - taken);
      misses?.heededToSend();
      taken += result & COUNT_MASK;
      raiseRx();
      if ((result & MISS) === 0) return taken;
      misses!.askForRx();
      const now = performance.now();
      if (missedAt === 0) missedAt = now;
      if (!misses!.waitToSend(missedAt + MISS_PATIENCE_MS - now)) return taken;
    }
  };

  return {
    prefetch: (queue: number): boolean => kernels.prefetch(device, queue) !== 0,
    /** A miss ends the burst; its answer is there in some later loop, and other queues have their turn meanwhile. */
    rxBurst(queue: number, burst: Burst, max: number): number {
      if (misses !== undefined && misses.mustWait(queue)) return 0;
      const limit = max < burst.capacity ? max : burst.capacity;
      const result = kernels.rxBurst(device, queue, burst.records, limit, burst.arena, burst.arenaBytes);
      // First: whatever fails below, it has to be taken back.
      lent = (result & LENT) !== 0;
      misses?.heeded(queue);
      if ((result & RAISE) !== 0) interrupts.putOff(u32[(device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES);
      if ((result & MISS) !== 0) misses!.askForTx(queue);
      return result & COUNT_MASK;
    },
    takeBack(queue: number, burst: Burst, count: number): void {
      if (!lent) return;
      lent = false;
      if (kernels.takeBack(device, queue, burst.records, count) !== 0) interrupts.putOff(u32[(device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES);
    },
    /**
     * Every frame is taken, whatever `queue` says: the guest's queue follows from RSS, and what it cannot take is its discard. Only
     * where a buffer has to be brought in, and that takes longer than a moment, the rest is not; nor is anything while another lcore
     * fills the guest's rings.
     */
    txBurst(_queue: number, burst: Burst, count: number): number {
      if (!shared) return fill(burst, count);
      busy = !tryLock();
      if (busy) return 0;
      try {
        return fill(burst, count);
      } finally {
        // Guest memory that has gone ends the stream with an error, not the lcore.
        Atomics.compareExchange(i32, lock, turn, 0);
      }
    },
    holding: () => busy || u32[(device + DEV_PAUSED) >>> 2] === PAUSED_FOR_NOW || (misses !== undefined && misses.sendPending) || room.isAwaited(),
    tick: () => interrupts.tick(),
    close: () => { interrupts.close(); },
  };
}

/** One instance for all cards of an lcore: calls of a function that is always the same are five times as cheap, and so is the memory. */
function kernelsOf(memory: WebAssembly.Memory, asking: boolean): Kernels {
  const known = asking ? askingKernels : plainKernels;
  let kernels = known.get(memory);
  if (kernels === undefined) {
    kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, memory);
    known.set(memory, kernels);
  }
  return kernels;
}
const askingKernels = new WeakMap<WebAssembly.Memory, Kernels>();
const plainKernels = new WeakMap<WebAssembly.Memory, Kernels>();

function signalEventfd(fd: number): boolean {
  return linux.eventfdSignal(fd);
}
