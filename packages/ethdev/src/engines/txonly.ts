import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from '../burst.ts';
import { checksumOf, sumWords } from '../checksum.ts';
import type { LcoreContext } from '../port.ts';
import type { Engine } from './engine.ts';

const ETHERNET = 14;
const IPV4 = 20;
/** 42 bytes of headers in whole words, so that a frame's header is eleven stores. */
const HEADER_WORDS = 11;

/** Frames of one size from 198.18.0.1 to 198.18.0.2 (RFC 2544's benchmark network), UDP port 9 (discard), no UDP checksum, zeroes. */
export class TxOnlyEngine implements Engine {
  readonly receives = false;
  readonly #u32: Uint32Array;
  readonly #frameBytes: number;
  readonly #stride: number;
  readonly #header: Uint32Array;

  constructor(context: LcoreContext, frameBytes: number, source: Uint8Array, destination: Uint8Array) {
    this.#u32 = context.u32;
    this.#frameBytes = frameBytes;
    this.#stride = (frameBytes + 63) & ~63;
    const bytes = new Uint8Array(HEADER_WORDS * 4);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 6; i++) {
      bytes[i] = destination[i]!;
      bytes[6 + i] = source[i]!;
    }
    view.setUint16(12, 0x0800);
    view.setUint8(ETHERNET, 0x45);
    view.setUint16(ETHERNET + 2, frameBytes - ETHERNET);
    view.setUint8(ETHERNET + 8, 64); // TTL
    view.setUint8(ETHERNET + 9, 17); // UDP
    view.setUint32(ETHERNET + 12, 0xc6120001);
    view.setUint32(ETHERNET + 16, 0xc6120002);
    view.setUint16(ETHERNET + 10, checksumOf(sumWords(bytes, ETHERNET, IPV4)));
    view.setUint16(ETHERNET + IPV4, 9);
    view.setUint16(ETHERNET + IPV4 + 2, 9);
    view.setUint16(ETHERNET + IPV4 + 4, frameBytes - ETHERNET - IPV4);
    view.setUint16(ETHERNET + IPV4 + 6, 0);
    this.#header = new Uint32Array(bytes.buffer);
  }

  run(burst: Burst, _count: number): number {
    const u32 = this.#u32;
    const header = this.#header;
    const fits = Math.floor(burst.arenaBytes / this.#stride);
    const count = fits < burst.capacity ? fits : burst.capacity;
    // The burst held frames of other ports: none of their bytes may go out between these headers.
    u32.fill(0, burst.arena >>> 2, (burst.arena + count * this.#stride) >>> 2);
    for (let i = 0; i < count; i++) {
      const data = burst.arena + i * this.#stride;
      const record = (burst.records + i * FRAME_RECORD_BYTES) >>> 2;
      for (let w = 0; w < FRAME_RECORD_BYTES / 4; w++) u32[record + w] = 0;
      u32[record + FRAME_DATA / 4] = data;
      u32[record + FRAME_LENGTH / 4] = this.#frameBytes;
      // Written anew each time: a txBurst may change what it sends.
      for (let w = 0; w < HEADER_WORDS; w++) u32[(data >>> 2) + w] = header[w]!;
    }
    return count;
  }
}
