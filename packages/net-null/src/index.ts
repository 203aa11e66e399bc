/**
 * The null port: swallows what it is sent; what it receives is frames of one size, of zeroes, as many as asked for. For
 * measuring everything else, as DPDK's net_null.
 *
 * @packageDocumentation
 */
import { integerArg, onOffArg, type VdevDriver } from '@emudev/emudev';
import { FRAME_TX_MASK, SoftwarePort, type DatapathSpec } from '@emudev/ethdev';
import type { NullInit } from './datapath.ts';
import { MAX_FRAME_BYTES, MAX_QUEUES, MIN_FRAME_BYTES, SINK_BYTES } from './limits.ts';

/** Arguments of `net_null`, as its `driver` describes them; `size` in bytes. */
export interface NullArgs {
  readonly size?: number;
  readonly copy?: boolean;
  readonly 'no-rx'?: boolean;
  readonly queues?: number;
}

const NULL_SPEED_MBPS = 10_000;

/** The port: `queues` receive and as many transmit queues, and nothing between them. */
export class NullPort extends SoftwarePort {
  readonly #args: NullArgs;
  readonly #frames: number;

  constructor(name: string, args: NullArgs = {}) {
    const queues = args.queues ?? 1;
    super(
      {
        name,
        driver: driver.name,
        maxRxQueues: queues,
        maxTxQueues: queues,
        // What is thrown away may be unfinished.
        txCapabilities: FRAME_TX_MASK,
        maxFrameBytes: MAX_FRAME_BYTES,
      },
      NULL_SPEED_MBPS,
    );
    this.#args = args;
    try {
      this.#frames = this.own(this.window.alloc(SINK_BYTES * (1 + queues)));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    const init: NullInit = {
      frameBytes: this.#args.size ?? 64,
      copy: this.#args.copy ?? false,
      receive: !(this.#args['no-rx'] ?? false),
      source: this.#frames,
      sinks: this.#frames + SINK_BYTES,
      sinkBytes: SINK_BYTES,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
    };
    return { module: new URL('./datapath.js', import.meta.url).href, init, arrivals: init.receive ? 'any' : 'none' };
  }
}

/** `net_null` for the vdev bus. */
export const driver: VdevDriver<NullArgs, NullPort> = {
  name: 'net_null',
  class: 'port',
  summary: 'swallows what it is sent, produces frames of zeroes',
  args: {
    size: integerArg({ help: 'bytes of the frames received', min: MIN_FRAME_BYTES, max: MAX_FRAME_BYTES, default: 64 }),
    copy: onOffArg({ help: 'copy every frame, as a real port would', default: false }),
    'no-rx': onOffArg({ help: 'receive nothing', default: false }),
    queues: integerArg({ help: 'Rx and Tx queues', min: 1, max: MAX_QUEUES, default: 1 }),
  },
  probe: (name, args) => Promise.resolve(new NullPort(name, args)),
};
