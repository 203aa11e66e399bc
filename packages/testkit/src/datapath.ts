/** The data path of a scripted port: two frame rings whose other ends the test holds. */
import {
  FRAME_DATA, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES, FrameRingReader, FrameRingWriter, RXQ_BYTES, RXQ_PACKETS, TXQ_BYTES, TXQ_ERRORS, TXQ_PACKETS,
  addCounter, copyInWindow, type Burst, type FrameRingCells, type LcoreContext, type PortDatapath,
} from '@emudev/ethdev';

export interface ScriptedInit {
  readonly source: FrameRingCells;
  readonly sink: FrameRingCells;
  readonly maxFrameBytes: number;
  readonly rxCounters: number;
  readonly txCounters: number;
}

class ScriptedDatapath implements PortDatapath {
  readonly #context: LcoreContext;
  readonly #init: ScriptedInit;
  readonly #reader: FrameRingReader;
  readonly #writer: FrameRingWriter;

  constructor(context: LcoreContext, init: ScriptedInit) {
    this.#context = context;
    this.#init = init;
    this.#reader = new FrameRingReader(context, init.source);
    this.#writer = new FrameRingWriter(context, init.sink);
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const { u32 } = this.#context;
    const count = this.#reader.releaseAndPop(burst.records, max < burst.capacity ? max : burst.capacity);
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      bytes += u32[record + FRAME_LENGTH / 4]!;
      u32[record + FRAME_QUEUE / 4] = queue;
    }
    addCounter(u32, (this.#init.rxCounters + RXQ_PACKETS) >>> 2, count);
    addCounter(u32, (this.#init.rxCounters + RXQ_BYTES) >>> 2, bytes);
    return count;
  }

  txBurst(_queue: number, burst: Burst, count: number): number {
    const { u32 } = this.#context;
    let taken = 0;
    let frames = 0;
    let bytes = 0;
    this.#writer.begin();
    for (; taken < count; taken++) {
      const record = (burst.records + taken * FRAME_RECORD_BYTES) >>> 2;
      const length = u32[record + FRAME_LENGTH / 4]!;
      if (length > this.#init.maxFrameBytes) {
        addCounter(u32, (this.#init.txCounters + TXQ_ERRORS) >>> 2, 1);
        continue;
      }
      const place = this.#writer.reserve(length);
      if (place === 0) break;
      copyInWindow(this.#context, place, u32[record + FRAME_DATA / 4]!, length);
      this.#writer.commit(length);
      frames++;
      bytes += length;
    }
    this.#writer.publish();
    addCounter(u32, (this.#init.txCounters + TXQ_PACKETS) >>> 2, frames);
    addCounter(u32, (this.#init.txCounters + TXQ_BYTES) >>> 2, bytes);
    return taken;
  }
}

export function createDatapath(context: LcoreContext, init: ScriptedInit): PortDatapath {
  return new ScriptedDatapath(context, init);
}
