/**
 * The ring port: a frame sent on queue q is received on queue q, unchanged and in order. A wire plugged into itself.
 *
 * @packageDocumentation
 */
import { integerArg, sizeArg, type VdevDriver } from '@emudev/emudev';
import { SoftwarePort, allocateFrameRing, type DatapathSpec, type FrameRingCells } from '@emudev/ethdev';
import type { RingInit } from './datapath.ts';
import { DEFAULT_RING_BYTES, MAX_FRAME_BYTES, MAX_QUEUES, MAX_RING_BYTES, MIN_RING_BYTES } from './limits.ts';

/** Arguments of `net_ring`, as its `driver` describes them. */
export interface RingArgs {
  readonly queues?: number;
  /** Bytes of each queue's ring, rounded up to a power of two; a frame may be half as long, up to 9728 bytes. */
  readonly size?: number;
}

const RING_SPEED_MBPS = 10_000;

/** The port: one ring per queue; a full one takes nothing more until frames are received from it. */
export class RingPort extends SoftwarePort {
  readonly #rings: readonly FrameRingCells[];

  constructor(name: string, args: RingArgs = {}) {
    const queues = args.queues ?? 1;
    const size = args.size ?? DEFAULT_RING_BYTES;
    super(
      {
        name,
        driver: driver.name,
        maxRxQueues: queues,
        maxTxQueues: queues,
        // Whoever receives a frame gets it as it was sent: it has to be complete.
        txCapabilities: 0,
        maxFrameBytes: Math.min(MAX_FRAME_BYTES, size / 2 - 8),
      },
      RING_SPEED_MBPS,
    );
    try {
      this.#rings = Array.from({ length: queues }, () => {
        const ring = allocateFrameRing(this.window, size);
        this.own(ring.offset);
        return ring;
      });
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    const init: RingInit = {
      rings: this.#rings,
      maxFrameBytes: this.info.maxFrameBytes,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
    };
    return { module: new URL('./datapath.js', import.meta.url).href, init };
  }
}

/** `net_ring` for the vdev bus. */
export const driver: VdevDriver<RingArgs, RingPort> = {
  name: 'net_ring',
  class: 'port',
  summary: 'what is sent on a queue is received on it',
  args: {
    queues: integerArg({ help: 'Rx and Tx queues', min: 1, max: MAX_QUEUES, default: 1 }),
    size: sizeArg({ help: "bytes of each queue's ring", min: MIN_RING_BYTES, max: MAX_RING_BYTES, default: DEFAULT_RING_BYTES }),
  },
  probe: (name, args) => Promise.resolve(new RingPort(name, args)),
};
