/** The data path of a null port: frames from nowhere, frames to nowhere. */
import {
  FRAME_DATA,
  FRAME_LENGTH,
  FRAME_QUEUE,
  FRAME_RECORD_BYTES,
  QUEUE_COUNTERS_BYTES,
  RXQ_BYTES,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_PACKETS,
  addCounter,
  windowBytes,
  type Burst,
  type LcoreContext,
  type PortDatapath,
  type WindowBytes,
} from '@emudev/ethdev';

export interface NullInit {
  readonly frameBytes: number;
  readonly copy: boolean;
  readonly receive: boolean;
  /** Window offset of a frame to copy from, and of one to copy to. */
  readonly source: number;
  readonly sinks: number;
  readonly sinkBytes: number;
  readonly rxCounters: number;
  readonly txCounters: number;
}

class NullDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: NullInit;
  readonly #stride: number;
  readonly #bytes: WindowBytes;

  constructor(context: LcoreContext, init: NullInit) {
    this.#context = context;
    this.#init = init;
    this.#bytes = windowBytes(context);
    this.#stride = (init.frameBytes + 63) & ~63;
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const init = this.#init;
    if (!init.receive) return 0;
    const u32 = this.#context.u32;
    let count = Math.floor(burst.arenaBytes / this.#stride);
    if (count > max) count = max;
    if (count > burst.capacity) count = burst.capacity;
    // The burst held frames of other ports: they are nobody's here. What is copied needs no zeroes.
    if (!init.copy) u32.fill(0, burst.arena >>> 2, (burst.arena + count * this.#stride) >>> 2);
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      const data = burst.arena + i * this.#stride;
      for (let w = 0; w < FRAME_RECORD_BYTES / 4; w++) u32[record + w] = 0;
      u32[record + FRAME_DATA / 4] = data;
      u32[record + FRAME_LENGTH / 4] = init.frameBytes;
      u32[record + FRAME_QUEUE / 4] = queue;
      if (init.copy) this.#bytes.copy(data, init.source, init.frameBytes);
    }
    const counters = (init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    addCounter(u32, counters + RXQ_PACKETS / 4, count);
    addCounter(u32, counters + RXQ_BYTES / 4, count * init.frameBytes);
    return count;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const init = this.#init;
    const u32 = this.#context.u32;
    const sink = init.sinks + queue * init.sinkBytes;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      const length = u32[record + FRAME_LENGTH / 4]!;
      bytes += length;
      if (init.copy) this.#bytes.copy(sink, u32[record + FRAME_DATA / 4]!, length < init.sinkBytes ? length : init.sinkBytes);
    }
    const counters = (init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    addCounter(u32, counters + TXQ_PACKETS / 4, count);
    addCounter(u32, counters + TXQ_BYTES / 4, bytes);
    return count;
  }
}

export function createDatapath(context: LcoreContext, init: NullInit): PortDatapath {
  return new NullDatapath(context, init);
}
