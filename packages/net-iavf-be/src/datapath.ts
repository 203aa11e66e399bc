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

/** A number for every turn, of all lcores: who clears the lock after a thread that has died must not take another's turn for the dead one's. */
let turn = Math.floor(Math.random() * 2 ** 32) | 0;

/** A class, though there is but one of it: closures would be an object for each method of each card, and with many cards none of them is near. */
class IavfDatapath implements PortDatapath {
  readonly #kernels: Kernels;
  readonly #device: number;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #interrupts: RingInterrupts;
  readonly #misses: RingMisses | undefined;
  readonly #room: RxRoom;
  /** Several lcores send to the guest. */
  readonly #shared: boolean;
  /** The last burst to the guest found another lcore at it. */
  #busy = false;
  /** The frames of the burst in hand are lent. */
  #lent = false;

  constructor(context: LcoreContext, init: IavfDatapathInit, kernels: Kernels, interrupts: RingInterrupts) {
    this.#kernels = kernels;
    this.#device = init.device;
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#interrupts = interrupts;
    this.#misses = init.misses === undefined ? undefined : new RingMisses(context, kernels, init.device, init.misses);
    this.#room = new RxRoom(context, init.device);
    this.#shared = init.shared ?? false;
  }

  prefetch(queue: number, sends: boolean): boolean {
    return this.#kernels.prefetch(this.#device, queue, sends && !this.#shared ? 1 : 0) !== 0;
  }

  /** A miss ends the burst; its answer is there in some later loop, and other queues have their turn meanwhile. */
  rxBurst(queue: number, burst: Burst, max: number): number {
    const misses = this.#misses;
    if (misses !== undefined && misses.mustWait(queue)) return 0;
    const limit = max < burst.capacity ? max : burst.capacity;
    const result = this.#kernels.rxBurst(this.#device, queue, burst.records, limit, burst.arena, burst.arenaBytes);
    // First: whatever fails below, it has to be taken back.
    this.#lent = (result & LENT) !== 0;
    misses?.heeded(queue);
    if ((result & RAISE) !== 0) this.#putOff(queue);
    if ((result & MISS) !== 0) misses!.askForTx(queue);
    return result & COUNT_MASK;
  }

  takeBack(queue: number, burst: Burst, count: number): void {
    if (!this.#lent) return;
    this.#lent = false;
    if (this.#kernels.takeBack(this.#device, queue, burst.records, count) !== 0) this.#putOff(queue);
  }

  #putOff(queue: number): void {
    this.#interrupts.putOff(this.#u32[(this.#device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES);
  }

  /**
   * Every frame is taken, whatever `queue` says: the guest's queue follows from RSS, and what it cannot take is its discard. Only
   * where a buffer has to be brought in, and that takes longer than a moment, the rest is not; nor is anything while another lcore
   * fills the guest's rings.
   */
  txBurst(_queue: number, burst: Burst, count: number): number {
    if (!this.#shared) return this.#fill(burst, count);
    this.#busy = !this.#tryLock();
    if (this.#busy) return 0;
    const mine = turn;
    try {
      return this.#fill(burst, count);
    } finally {
      // Guest memory that has gone ends the stream with an error, not the lcore.
      Atomics.compareExchange(this.#i32, (this.#device + DEV_TX_LOCK) >>> 2, mine, 0);
    }
  }

  #tryLock(): boolean {
    turn = (turn + 1) | 0;
    if (turn === 0) turn = 1;
    for (let tries = 0; tries < TX_LOCK_SPINS; tries++) {
      if (Atomics.compareExchange(this.#i32, (this.#device + DEV_TX_LOCK) >>> 2, 0, turn) === 0) return true;
    }
    return false;
  }

  /** Whoever calls this is the only one. */
  #fill(burst: Burst, count: number): number {
    const misses = this.#misses;
    let taken = 0;
    let missedAt = 0;
    for (;;) {
      if (misses !== undefined && misses.mustWaitToSend()) return taken;
      const result = this.#kernels.txBurst(this.#device, burst.records + taken * FRAME_RECORD_BYTES, count - taken);
      misses?.heededToSend();
      taken += result & COUNT_MASK;
      this.#raiseRx();
      if ((result & MISS) === 0) return taken;
      misses!.askForRx();
      const now = performance.now();
      if (missedAt === 0) missedAt = now;
      if (!misses!.waitToSend(missedAt + MISS_PATIENCE_MS - now)) return taken;
    }
  }

  #raiseRx(): void {
    const u32 = this.#u32;
    const device = this.#device;
    const kick = u32[(device + DEV_RX_KICK) >>> 2]!;
    if (kick === 0) return;
    const pairs = u32[(device + DEV_QUEUE_PAIRS) >>> 2]!;
    const blocks = u32[(device + DEV_RX_BLOCKS) >>> 2]!;
    for (let queue = 0; queue < pairs; queue++) {
      const block = blocks + queue * Q_BYTES;
      if ((kick & (1 << queue)) !== 0 && u32[(block + Q_BOUNCED) >>> 2] === 0) this.#interrupts.raise(block);
    }
  }

  holding(): boolean {
    return this.#busy || this.#u32[(this.#device + DEV_PAUSED) >>> 2] === PAUSED_FOR_NOW || (this.#misses !== undefined && this.#misses.sendPending) || this.#room.isAwaited();
  }

  tick(): number {
    return this.#interrupts.tick();
  }

  close(): void {
    this.#interrupts.close();
  }
}

/** `signal` writes an eventfd, `clock` tells microseconds; they are arguments so that tests can do without. */
export function createDatapath(context: LcoreContext, init: IavfDatapathInit, signal: (fd: number) => boolean = signalEventfd, clock?: () => number): PortDatapath {
  const kernels = init.kernels === 'ts' ? createTwins(new TwinMemory(context.view, context.i32)) : kernelsOf(context.memory, init.misses !== undefined);
  kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);
  const { wakeUps = { count: 0 } } = context;
  const interrupts = new RingInterrupts(context, init.device, (fd) => {
    wakeUps.count++;
    return signal(fd);
  }, clock);
  return new IavfDatapath(context, init, kernels, interrupts);
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
