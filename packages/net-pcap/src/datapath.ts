/** The data path of a capture port. A port without a file to read receives nothing; one without a file to write swallows. */
import { FRAME_LENGTH, FRAME_RECORD_BYTES, TXQ_BYTES, TXQ_PACKETS, addCounter, type Burst, type LcoreContext, type PortDatapath } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { CaptureReader } from './datapath/reader.ts';
import { CaptureWriter } from './datapath/writer.ts';
import type { PcapInit } from './port-memory.ts';

class PcapDatapath implements PortDatapath {
  readonly #u32: Uint32Array;
  readonly #txCounters: number;
  readonly #reader: CaptureReader | undefined;
  readonly #writer: CaptureWriter | undefined;

  constructor(context: LcoreContext, init: PcapInit) {
    this.#u32 = context.u32;
    this.#txCounters = init.txCounters;
    this.#reader = init.reader && new CaptureReader(context, init.reader, linux);
    this.#writer = init.writer && new CaptureWriter(context, init.writer, linux);
  }

  rxBurst(_queue: number, burst: Burst, max: number): number {
    return this.#reader === undefined ? 0 : this.#reader.rxBurst(burst, max);
  }

  txBurst(_queue: number, burst: Burst, count: number): number {
    return this.#writer === undefined ? this.#swallow(burst, count) : this.#writer.txBurst(burst, count);
  }

  #swallow(burst: Burst, count: number): number {
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += this.#u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2]!;
    addCounter(this.#u32, (this.#txCounters + TXQ_PACKETS) >>> 2, count);
    addCounter(this.#u32, (this.#txCounters + TXQ_BYTES) >>> 2, bytes);
    return count;
  }

  close(): void {
    this.#writer?.flush(true);
  }
}

export function createDatapath(context: LcoreContext, init: PcapInit): PortDatapath {
  return new PcapDatapath(context, init);
}
