import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, FrameRingReader, FrameRingWriter, SoftwarePort, allocateFrameRing, copyInWindow, type DatapathSpec, type FrameRingCells } from '@emudev/ethdev';
import type { ScriptedInit } from '../datapath.ts';
import { SCRIPT_RING_BYTES } from '../limits.ts';

const MAX_FRAME_BYTES = 9728;
const TAKE = 64;

/**
 * A port whose far end is the test: what `feed` is given is received, what is sent comes out of `sent`. One queue each way. Works
 * wherever a port does, its data path in this thread or in an lcore's.
 */
export class ScriptedPort extends SoftwarePort {
  readonly #source: FrameRingCells;
  readonly #sink: FrameRingCells;
  readonly #records: number;
  readonly #stage: number;
  readonly #writer: FrameRingWriter;
  readonly #reader: FrameRingReader;

  constructor(name = 'net_scripted0', speedMbps = 10_000) {
    super({ name, driver: 'net_scripted', maxRxQueues: 1, maxTxQueues: 1, txCapabilities: 0, maxFrameBytes: MAX_FRAME_BYTES }, speedMbps);
    try {
      this.#source = allocateFrameRing(this.window, SCRIPT_RING_BYTES);
      this.own(this.#source.offset);
      this.#sink = allocateFrameRing(this.window, SCRIPT_RING_BYTES);
      this.own(this.#sink.offset);
      this.#records = this.own(this.window.alloc(TAKE * FRAME_RECORD_BYTES));
      this.#stage = this.own(this.window.alloc(MAX_FRAME_BYTES + 8));
    } catch (error) {
      this.release();
      throw error;
    }
    this.#writer = new FrameRingWriter(this.window, this.#source);
    this.#reader = new FrameRingReader(this.window, this.#sink);
  }

  /** Frames to be received, in order; returns how many there was room for. */
  feed(frames: readonly Uint8Array[]): number {
    this.#writer.begin();
    let fed = 0;
    for (const frame of frames) {
      const place = frame.length > MAX_FRAME_BYTES ? 0 : this.#writer.reserve(frame.length);
      if (place === 0) break;
      this.window.u8.set(frame, this.#stage);
      copyInWindow(this.window, place, this.#stage, frame.length);
      this.#writer.commit(frame.length);
      fed++;
    }
    this.#writer.publish();
    return fed;
  }

  /** Frames that were sent since the last call, oldest first. */
  sent(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (let count = 0; (count = this.#reader.releaseAndPop(this.#records, TAKE)) > 0;) {
      for (let i = 0; i < count; i++) {
        const record = (this.#records + i * FRAME_RECORD_BYTES) >>> 2;
        const data = this.window.u32[record + FRAME_DATA / 4]!;
        frames.push(this.window.u8.slice(data, data + this.window.u32[record + FRAME_LENGTH / 4]!));
      }
    }
    return frames;
  }

  datapath(): DatapathSpec {
    const init: ScriptedInit = {
      source: this.#source, sink: this.#sink, maxFrameBytes: this.info.maxFrameBytes, rxCounters: this.counters.rxBlock(0), txCounters: this.counters.txBlock(0),
    };
    // The build puts the data path beside this code, wherever it lies in the sources.
    return { module: new URL('./datapath.js', import.meta.url).href, init };
  }
}
