/** The lcore's half of a net_iavf port: one kernel call per burst. */
import { loadKernels } from '@emudev/dma';
import type { Burst, LcoreContext, PortDatapath } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import type { DoorbellRelay } from './doorbells.ts';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import type { Kernels } from './kernels-face.ts';
import { Q_BUFFERS, Q_DOORBELL, RX_PATIENCE, TXQ_PARTNER } from './layout.ts';

export interface DatapathInit {
  /** Window offsets of the queue blocks, by queue number. */
  readonly rxBlocks: readonly number[];
  readonly txBlocks: readonly number[];
  /** Set where the device traps its doorbells. */
  readonly relay: DoorbellRelay | undefined;
}

/** How often this thread has polled, all its ports and queues; at the start a queue without a burst has been without one for long. */
let polls = RX_PATIENCE;
/** Block of the Rx queue that this thread's last burst came from, if it is still polled: what is sent next comes from there, if from any. 0: none. */
let source = 0;

class IavfDatapath implements PortDatapath {
  /** While an lcore sleeps the patience after a burst would last for RX_PATIENCE sleeps. */
  readonly pollsBeforeSleep: number = RX_PATIENCE + 1;
  readonly #kernels: Kernels;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #rxBlocks: Uint32Array;
  readonly #txBlocks: Uint32Array;
  readonly #relay: DoorbellRelay | undefined;

  constructor(context: LcoreContext, init: DatapathInit) {
    this.#kernels = kernelsOf(context.memory);
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#rxBlocks = Uint32Array.from(init.rxBlocks);
    this.#txBlocks = Uint32Array.from(init.txBlocks);
    this.#relay = init.relay;
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const block = this.#rxBlocks[queue]!;
    const before = this.#relay === undefined ? 0 : this.#tail(block);
    const count = this.#kernels.rxBurst(block, burst.records, max < burst.capacity ? max : burst.capacity, burst.arena, burst.arenaBytes, (polls = (polls + 1) | 0));
    if (this.#relay !== undefined && this.#tail(block) !== before) this.#tell(this.#relay);
    if (count !== 0) source = block;
    return count;
  }

  prefetch(queue: number): boolean {
    const rx = this.#rxBlocks[queue]!;
    if (this.#kernels.prefetch(rx, this.#txBlocks[queue] ?? rx) !== 0) return true;
    polls = (polls + 1) | 0;
    return false;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const block = this.#txBlocks[queue]!;
    const before = this.#relay === undefined ? 0 : this.#tail(block);
    // Of another pool: to be copied
    const partner = source !== 0 && this.#u32[(source + Q_BUFFERS) >>> 2] === this.#u32[(block + Q_BUFFERS) >>> 2] ? source : 0;
    this.#u32[(block + TXQ_PARTNER) >>> 2] = partner;
    const taken = this.#kernels.txBurst(block, burst.records, count);
    if (this.#relay !== undefined && this.#tail(block) !== before) this.#tell(this.#relay);
    return taken;
  }

  close(): void {
    if (this.#rxBlocks.includes(source)) source = 0;
  }

  /** The shadow doorbell of a queue. */
  #tail(block: number): number {
    return this.#u32[this.#u32[(block + Q_DOORBELL) >>> 2]! >>> 2]!;
  }

  #tell(relay: DoorbellRelay): void {
    if (Atomics.exchange(this.#i32, relay.dirty, 1) === 0) linux.eventfdSignal(relay.fd);
  }
}

/** One instance for all cards of an lcore: calls of a function that is always the same are cheaper, and so is the memory. */
function kernelsOf(memory: WebAssembly.Memory): Kernels {
  let kernels = allKernels.get(memory);
  if (kernels === undefined) {
    kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, memory);
    kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);
    allKernels.set(memory, kernels);
  }
  return kernels;
}
const allKernels = new WeakMap<WebAssembly.Memory, Kernels>();

export function createDatapath(context: LcoreContext, init: DatapathInit): PortDatapath {
  return new IavfDatapath(context, init);
}
