/**
 * The data path of an iavf back end, as an lcore loads it: kernels (or their twins) over the state blocks of layout.ts, and the
 * interrupts that their completions call for.
 */
import { loadKernels } from '@emudev/dma';
import { raiseVector } from '@emudev/emudev';
import type { Burst, LcoreContext, PortDatapath } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import {
  DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_RX_KICK, DEV_TX_BLOCKS, Q_BYTES, Q_STATS, Q_VECTOR, QS_INTERRUPTS,
} from './layout.ts';
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

/** `signal` writes an eventfd; it is an argument so that tests can see it without one. */
export function createDatapath(context: LcoreContext, init: IavfDatapathInit, signal: (fd: number) => boolean = signalEventfd): PortDatapath {
  const { i32, u32 } = context;
  const { device } = init;
  const kernels = init.kernels === 'ts' ? createTwins(new TwinMemory(context.view, i32)) : loadKernels<Kernels>(KERNELS_WASM_BASE64, context.memory);

  const raise = (block: number): void => {
    const cells = u32[(block + Q_VECTOR) >>> 2]!;
    if (cells === 0) return;
    const counter = (block + Q_STATS + 8 * QS_INTERRUPTS) >>> 2;
    u32[counter] = u32[counter]! + 1;
    if (u32[counter] === 0) u32[counter + 1] = u32[counter + 1]! + 1;
    raiseVector(i32, cells, signal);
  };

  return {
    rxBurst(queue: number, burst: Burst, max: number): number {
      const limit = max < burst.capacity ? max : burst.capacity;
      const result = kernels.rxBurst(device, queue, burst.records, limit, burst.arena, burst.arenaBytes);
      if ((result & RAISE) !== 0) raise(u32[(device + DEV_TX_BLOCKS) >>> 2]! + queue * Q_BYTES);
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
        if ((kick & (1 << queue)) !== 0) raise(blocks + queue * Q_BYTES);
      }
      return taken;
    },
  };
}

function signalEventfd(fd: number): boolean {
  return linux.eventfdSignal(fd);
}
