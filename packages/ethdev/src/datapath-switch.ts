/** One lcore's side of a learning switch: what its streams have received goes out of other ports. `queue` is the port it came from. */
import { loadKernels } from '@emudev/dma';
import type { Burst } from './burst.ts';
import { addCounter, COUNTER_BYTES } from './counter.ts';
import { EthdevError } from './errors.ts';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import type { LcoreContext, PortDatapath } from './port.ts';
import { SIDE_COUNTS, SIDE_RECORDS, SIDE_SET, SWC_CELLS, SWITCH_COUNTED, SWITCH_MIXED } from './switch-layout.ts';
import { createSwitchTwin, type SwitchKernels } from './switch-twin.ts';

/** Counters of a port on one side: the SWC_* cells (frames that came from it), then these. */
export const SWC_TAKEN: number = SWC_CELLS;
/** Frames that the port was given, and took. */
export const SWC_DELIVERED: number = SWC_CELLS + 1;
/** Frames that the port was given, and did not take. */
export const SWC_DROPPED: number = SWC_CELLS + 2;
export const SWITCH_PORT_COUNTERS_BYTES: number = 12 * COUNTER_BYTES;

export interface SwitchInit {
  /** Window offsets: of the switch, of this side's own block, of its counters. */
  readonly sw: number;
  readonly side: number;
  readonly counters: number;
  /** Frames of the longest burst. */
  readonly burst: number;
  /** By port, in the order of `sendsTo`: the Tx queue that is this side's. */
  readonly txQueues: readonly number[];
  readonly kernels: 'wasm' | 'ts';
}

class SwitchDatapath implements PortDatapath {
  readonly #u32: Uint32Array;
  readonly #init: SwitchInit;
  readonly #kernels: SwitchKernels;
  readonly #ports: readonly PortDatapath[];
  readonly #txQueues: readonly number[];
  readonly #gathered: Burst;

  constructor(context: LcoreContext, init: SwitchInit) {
    this.#u32 = context.u32;
    this.#init = init;
    this.#kernels = init.kernels === 'ts' ? createSwitchTwin(context.memory.buffer) : loadKernels<SwitchKernels>(KERNELS_WASM_BASE64, context.memory);
    this.#ports = context.sendsTo ?? [];
    this.#txQueues = init.txQueues;
    this.#gathered = { records: init.side + SIDE_RECORDS, capacity: init.burst, arena: 0, arenaBytes: 0 };
  }

  /** Nothing comes out of a switch but through its ports. */
  rxBurst(_queue: number, _burst: Burst, _max: number): number {
    return 0;
  }

  /** Takes every frame: what becomes of it is counted. */
  txBurst(source: number, burst: Burst, count: number): number {
    const u32 = this.#u32;
    const { sw, side } = this.#init;
    addCounter(u32, this.#counter(source, SWC_TAKEN), count);
    const result = this.#kernels.switchClassify(sw, side, source, burst.records, count);
    if ((result & SWITCH_COUNTED) !== 0) this.#count(source);
    const only = result & ~SWITCH_COUNTED;
    if (only !== SWITCH_MIXED) {
      this.#send(only, burst, count);
      return count;
    }
    for (let half = 0; half < 2; half++) {
      let set = u32[(side + SIDE_SET >>> 2) + half]!;
      while (set !== 0) {
        const port = half * 32 + 31 - Math.clz32(set & -set);
        set &= set - 1;
        this.#send(port, this.#gathered, this.#kernels.switchGather(side, source, burst.records, count, port));
      }
    }
    return count;
  }

  #send(port: number, burst: Burst, count: number): void {
    const sent = this.#ports[port]!.txBurst(this.#txQueues[port]!, burst, count);
    if (sent === count) {
      addCounter(this.#u32, this.#counter(port, SWC_DELIVERED), count);
      return;
    }
    if (!(sent >= 0 && sent < count)) throw new EthdevError('ERR_ETHDEV_STREAM', `txBurst of a switch's port ${String(port)} returned ${String(sent)}: want 0 to ${String(count)}`);
    addCounter(this.#u32, this.#counter(port, SWC_DELIVERED), sent);
    addCounter(this.#u32, this.#counter(port, SWC_DROPPED), count - sent);
  }

  #counter(port: number, cell: number): number {
    return (this.#init.counters + port * SWITCH_PORT_COUNTERS_BYTES + cell * COUNTER_BYTES) >>> 2;
  }

  #count(source: number): void {
    const u32 = this.#u32;
    const cells = (this.#init.side + SIDE_COUNTS) >>> 2;
    for (let cell = 0; cell < SWC_CELLS; cell++) {
      const n = u32[cells + cell]!;
      if (n !== 0) addCounter(u32, this.#counter(source, cell), n);
    }
  }
}

export function createDatapath(context: LcoreContext, init: SwitchInit): PortDatapath {
  return new SwitchDatapath(context, init);
}
