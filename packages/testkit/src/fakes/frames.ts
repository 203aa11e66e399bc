/** Frames in and out of a data path, without an lcore. */
import { Window } from '@emudev/dma';
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES, allocateBurst, type CreateDatapath, type DatapathSpec, type LcoreContext,
  type OwnedBurst, type Port, type PortDatapath,
} from '@emudev/ethdev';

/** One received frame, copied out. */
export interface ReceivedFrame {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly queue: number;
}

/** The lcore that a test's own thread is: what `createDatapath` is given. */
export function testLcore(window: Window): LcoreContext {
  const { memory, base, u8, i32, u32, view } = window;
  return { lcore: 0, memory, base, u8, i32, u32, view };
}

/** Loads a data path as an lcore does, on this thread. The port is configured. */
export async function loadDatapath(spec: DatapathSpec, window: Window): Promise<PortDatapath> {
  const module = (await import(spec.module)) as { createDatapath: CreateDatapath };
  return module.createDatapath(testLcore(window), structuredClone(spec.init) as never);
}

/** A burst and the hands to fill and empty it. */
export class FrameBench implements Disposable {
  readonly window: Window = Window.open();
  readonly burst: OwnedBurst;

  /** Frames of one burst, and bytes for them. */
  constructor(capacity = 64, arenaBytes: number = 1 << 20) {
    this.burst = allocateBurst(this.window, capacity, arenaBytes);
  }

  /** The data path of a configured port, loaded on this thread. */
  load(port: Port): Promise<PortDatapath> {
    return loadDatapath(port.datapath(), this.window);
  }

  /** Puts frames into the burst; returns how many fitted. */
  fill(frames: readonly Uint8Array[]): number {
    const { view, u8 } = this.window;
    let data = this.burst.arena;
    for (const [i, frame] of frames.entries()) {
      if (i >= this.burst.capacity || data + frame.length > this.burst.arena + this.burst.arenaBytes) return i;
      const record = this.burst.records + i * FRAME_RECORD_BYTES;
      u8.fill(0, record, record + FRAME_RECORD_BYTES);
      view.setUint32(record + FRAME_DATA, data, true);
      view.setUint32(record + FRAME_LENGTH, frame.length, true);
      u8.set(frame, data);
      data += (frame.length + 63) & ~63;
    }
    return frames.length;
  }

  /** Sends; returns how many the data path took: the first ones. */
  send(datapath: PortDatapath, queue: number, frames: readonly Uint8Array[]): number {
    return datapath.txBurst(queue, this.burst, this.fill(frames));
  }

  /** Receives at most `max` frames. */
  receive(datapath: PortDatapath, queue: number, max: number = this.burst.capacity): ReceivedFrame[] {
    // A data path that leaves a record as it was must not pass for one that has filled it.
    this.window.u8.fill(0xff, this.burst.records, this.burst.records + this.burst.capacity * FRAME_RECORD_BYTES);
    const count = datapath.rxBurst(queue, this.burst, max);
    return Array.from({ length: count }, (_, i) => this.frame(i));
  }

  /** Frame `i` of the burst. */
  frame(i: number): ReceivedFrame {
    const { view, u8 } = this.window;
    const record = this.burst.records + i * FRAME_RECORD_BYTES;
    const data = view.getUint32(record + FRAME_DATA, true);
    const length = view.getUint32(record + FRAME_LENGTH, true);
    return { bytes: u8.slice(data, data + length), flags: view.getUint32(record + FRAME_FLAGS, true), queue: view.getUint16(record + FRAME_QUEUE, true) };
  }

  /** Gives the burst and the window back. */
  [Symbol.dispose](): void {
    this.burst[Symbol.dispose]();
    this.window[Symbol.dispose]();
  }
}

/** An Ethernet frame to everybody from a local station, of an experimental type, whose payload says which one it is. */
export function testFrame(number: number, lengthBytes = 64): Uint8Array {
  const frame = new Uint8Array(Math.max(lengthBytes, 18));
  frame.fill(0xff, 0, 6);
  frame.set([0x02, 0, 0, 0, 0, 0x01, 0x88, 0xb5], 6);
  for (let i = 14; i < frame.length; i++) frame[i] = (number + i) & 0xff;
  new DataView(frame.buffer).setUint32(14, number);
  return frame;
}
