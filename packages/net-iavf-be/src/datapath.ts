/**
 * The data path of an iavf back end, as an lcore loads it: kernels (or their twins) over the state blocks of layout.ts, and the
 * interrupts that their completions call for.
 */
import { loadKernels } from '@emudev/dma';
import type { Burst, LcoreContext, PortDatapath } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import {
  DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_RX_KICK, DEV_TX_BLOCKS, PAUSED_FOR_NOW, Q_BYTES,
} from './layout.ts';
import { RingInterrupts } from './ring-interrupts.ts';
import { createTwins, TwinMemory, type Kernels } from './twins/index.ts';

/** `init` of the DatapathSpec. */
export interface IavfDatapathInit {
  /** Window offset of the device block. */
  readonly device: number;
  /** `ts`: the TypeScript twins, for where WebAssembly over mapped memory does not work. Default `wasm`. */
  readonly kernels?: 'wasm' | 'ts';
}

const COUNT_MASK = 0xffff;
const RAISE = 1 << 16;

/** `signal` writes an eventfd, `clock` tells microseconds; they are arguments so that tests can do without. */
export function createDatapath(context: LcoreContext, init: IavfDatapathInit, signal: (fd: number) => boolean = signalEventfd, clock?: () => number): PortDatapath {
  const { u32 } = context;
  const { device } = init;
  const kernels = init.kernels === 'ts' ? createTwins(new TwinMemory(context.view, context.i32)) : loadKernels<Kernels>(KERNELS_WASM_BASE64, context.memory);

  const interrupts = new RingInterrupts(context, device, signal, clock);

  return {
    rxBurst(queue: number, burst: Burst, max: number): number {
      const limit = max < burst.capacity ? max : burst.capacity;
      const result = kernels.rxBurst(device, queue, burst.records, limit, burst.arena, burst.arenaBytes);
      if ((result & RAISE) !== 0) interrupts.raise(u32[(device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES);
      return result & COUNT_MASK;
    },
    /** Every frame is taken, whatever `queue` says: the guest's queue follows from RSS, and what it cannot take is its discard. */
    txBurst(_queue: number, burst: Burst, count: number): number {
      const taken = kernels.txBurst(device, burst.records, count);
      const kick = u32[(device + DEV_RX_KICK) >>> 2]!;
      if (kick === 0) return taken;
      const pairs = u32[(device + DEV_QUEUE_PAIRS) >>> 2]!;
      const blocks = u32[(device + DEV_RX_BLOCKS) >>> 2]!;
      for (let queue = 0; queue < pairs; queue++) {
        if ((kick & (1 << queue)) !== 0) interrupts.raise(blocks + queue * Q_BYTES);
      }
      return taken;
    },
    holding: () => u32[(device + DEV_PAUSED) >>> 2] === PAUSED_FOR_NOW,
    tick: () => interrupts.tick(),
    close: () => { interrupts.close(); },
  };
}

function signalEventfd(fd: number): boolean {
  return linux.eventfdSignal(fd);
}
