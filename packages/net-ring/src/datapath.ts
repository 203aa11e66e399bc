/** The data path of a ring port: one frame ring per queue; its writer is whoever sends, its reader whoever receives. */
import {
  FRAME_DATA,
  FRAME_LENGTH,
  FRAME_QUEUE,
  FRAME_RECORD_BYTES,
  FrameRingReader,
  FrameRingWriter,
  QUEUE_COUNTERS_BYTES,
  RXQ_BYTES,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_ERRORS,
  TXQ_PACKETS,
  addCounter,
  windowBytes,
  type Burst,
  type FrameRingCells,
  type LcoreContext,
  type PortDatapath,
  type WindowBytes,
} from '@emudev/ethdev';

export interface RingInit {
  readonly rings: readonly FrameRingCells[];
  readonly maxFrameBytes: number;
  readonly rxCounters: number;
  readonly txCounters: number;
}

class RingDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: RingInit;
  readonly #bytes: WindowBytes;
  readonly #readers: readonly FrameRingReader[];
  readonly #writers: readonly FrameRingWriter[];

  constructor(context: LcoreContext, init: RingInit) {
    this.#context = context;
    this.#init = init;
    this.#bytes = windowBytes(context);
    this.#readers = init.rings.map((ring) => new FrameRingReader(context, ring));
    this.#writers = init.rings.map((ring) => new FrameRingWriter(context, ring));
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const u32 = this.#context.u32;
    const count = this.#readers[queue]!.releaseAndPop(burst.records, max < burst.capacity ? max : burst.capacity);
    if (count === 0) return 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      bytes += u32[record + FRAME_LENGTH / 4]!;
      u32[record + FRAME_QUEUE / 4] = queue;
    }
    const counters = (this.#init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    addCounter(u32, counters + RXQ_PACKETS / 4, count);
    addCounter(u32, counters + RXQ_BYTES / 4, bytes);
    return count;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const u32 = this.#context.u32;
    const writer = this.#writers[queue]!;
    const counters = (this.#init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    let sent = 0;
    let frames = 0;
    let bytes = 0;
    writer.begin();
    for (; sent < count; sent++) {
      const record = (burst.records + sent * FRAME_RECORD_BYTES) >>> 2;
      const length = u32[record + FRAME_LENGTH / 4]!;
      if (length > this.#init.maxFrameBytes) {
        addCounter(u32, counters + TXQ_ERRORS / 4, 1);
        continue;
      }
      const place = writer.reserve(length);
      if (place === 0) break;
      this.#bytes.copy(place, u32[record + FRAME_DATA / 4]!, length);
      writer.commit(length);
      frames++;
      bytes += length;
    }
    writer.publish();
    addCounter(u32, counters + TXQ_PACKETS / 4, frames);
    addCounter(u32, counters + TXQ_BYTES / 4, bytes);
    return sent;
  }
}

export function createDatapath(context: LcoreContext, init: RingInit): PortDatapath {
  return new RingDatapath(context, init);
}
