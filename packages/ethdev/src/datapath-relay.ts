/** A relay's two ends: one lcore pushes frames, another pops them. */
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from './burst.ts';
import { FrameRingReader, FrameRingWriter, type FrameRingCells } from './frame-ring.ts';
import type { LcoreContext, PortDatapath } from './port.ts';
import { windowBytes, type WindowBytes } from './window-bytes.ts';

export interface RelayInit {
  readonly ring: FrameRingCells;
}

class RelayDatapath implements PortDatapath {
  readonly #u32: Uint32Array;
  readonly #bytes: WindowBytes;
  readonly #reader: FrameRingReader;
  readonly #writer: FrameRingWriter;

  constructor(context: LcoreContext, init: RelayInit) {
    this.#u32 = context.u32;
    this.#bytes = windowBytes(context);
    this.#reader = new FrameRingReader(context, init.ring);
    this.#writer = new FrameRingWriter(context, init.ring);
  }

  rxBurst(_queue: number, burst: Burst, max: number): number {
    return this.#reader.releaseAndPop(burst.records, max < burst.capacity ? max : burst.capacity);
  }

  /** What the ring has no room for is not taken. */
  txBurst(_queue: number, burst: Burst, count: number): number {
    const u32 = this.#u32;
    this.#writer.begin();
    let pushed = 0;
    for (; pushed < count; pushed++) {
      const record = (burst.records + pushed * FRAME_RECORD_BYTES) >>> 2;
      const length = u32[record + FRAME_LENGTH / 4]!;
      const place = this.#writer.reserve(length);
      if (place === 0) break;
      this.#bytes.copy(place, u32[record + FRAME_DATA / 4]!, length);
      this.#writer.commit(length);
    }
    this.#writer.publish();
    return pushed;
  }
}

export function createDatapath(context: LcoreContext, init: RelayInit): PortDatapath {
  return new RelayDatapath(context, init);
}
