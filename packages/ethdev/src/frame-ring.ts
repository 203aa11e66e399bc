/**
 * A single-producer, single-consumer ring of frames in the window: how frames get from one lcore's `txBurst` to another's
 * `rxBurst`. Frames of any length lie one after the other, so that small ones share cache lines and pages. What the consumer
 * has popped stays valid until its next pop, so an `rxBurst` hands out frames without copying them. All state is in the window:
 * a queue may move to another lcore between two bursts.
 *
 * ```
 * 0    u32  tail: bytes ever pushed, modulo 2^32 (producer)
 * 64   u32  head: bytes ever released, modulo 2^32 (consumer)
 * 68   u32  popped: bytes ever handed out, modulo 2^32 (consumer's own)
 * 128  the ring: entries of u32 length, u32 reserved, bytes, padded to 8; length SKIP: the rest up to the end is unused
 * ```
 */
import type { Window } from '@emudev/dma';
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES } from './burst.ts';
import { EthdevError } from './errors.ts';
import { MAX_FRAME_RING_BYTES, MIN_FRAME_RING_BYTES } from './limits.ts';
import type { LcoreContext } from './port.ts';

const TAIL = 0;
const HEAD = 64;
const POPPED = 68;
const ENTRIES = 128;
const ENTRY_HEADER = 8;
const SKIP = 0xffffffff;

/** Where a ring lies; plain numbers for a `DatapathSpec`. */
export interface FrameRingCells {
  /** Window offset. */
  readonly offset: number;
  /** A power of two. */
  readonly sizeBytes: number;
}

/** Memory for a ring (control side); `sizeBytes` is rounded up to a power of two. Free with `window.free(cells.offset)`. */
export function allocateFrameRing(window: Window, sizeBytes: number): FrameRingCells {
  if (!(sizeBytes >= MIN_FRAME_RING_BYTES && sizeBytes <= MAX_FRAME_RING_BYTES)) {
    throw new EthdevError('ERR_ETHDEV_CONFIG', `frame ring of ${String(sizeBytes)} bytes: want ${String(MIN_FRAME_RING_BYTES)} to ${String(MAX_FRAME_RING_BYTES)}`);
  }
  const rounded = 2 ** Math.ceil(Math.log2(sizeBytes));
  return { offset: window.alloc(ENTRIES + rounded, 64), sizeBytes: rounded };
}

/**
 * Copies inside the window; short aligned runs by words, everything else by memmove (which costs ~30 ns a call). `length` may be
 * rounded up to the next word: the destination has room for that.
 */
export function copyInWindow(context: Pick<LcoreContext, 'u8' | 'u32'>, to: number, from: number, length: number): void {
  if (length <= 128 && ((to | from) & 3) === 0) {
    const u32 = context.u32;
    const words = (length + 3) >>> 2;
    const t = to >>> 2;
    const f = from >>> 2;
    for (let i = 0; i < words; i++) u32[t + i] = u32[f + i]!;
    return;
  }
  context.u8.copyWithin(to, from, from + length);
}

const entryBytes = (length: number): number => (ENTRY_HEADER + length + 7) & ~7;

/** The producer's end. One thread at a time. Per burst: `begin`, any number of `reserve` and `commit`, `publish`. */
export class FrameRingWriter {
  readonly #u32: Uint32Array;
  readonly #entries: number;
  readonly #size: number;
  readonly #tailIndex: number;
  readonly #headIndex: number;
  #tail = 0;
  #head = 0;

  constructor(context: Pick<LcoreContext, 'u32'>, cells: FrameRingCells) {
    this.#u32 = context.u32;
    this.#entries = cells.offset + ENTRIES;
    this.#size = cells.sizeBytes;
    this.#tailIndex = (cells.offset + TAIL) >>> 2;
    this.#headIndex = (cells.offset + HEAD) >>> 2;
  }

  /** Before the first `reserve` of a burst: sees what the consumer has released. */
  begin(): void {
    this.#tail = this.#u32[this.#tailIndex]!;
    this.#head = Atomics.load(this.#u32, this.#headIndex);
  }

  /**
   * Room for a frame of at most `length` bytes: the window offset where its bytes go (8-byte aligned), or 0 when the ring is
   * full. Nothing is visible before `commit`; a frame that is not committed never was. A frame longer than half the ring is
   * always refused: whether it fits would depend on where the ring happens to stand.
   */
  reserve(length: number): number {
    const need = entryBytes(length);
    if (need > this.#size >>> 1) return 0;
    const position = this.#tail & (this.#size - 1);
    const toEnd = this.#size - position;
    const total = need > toEnd ? toEnd + need : need;
    if (total > this.#size - ((this.#tail - this.#head) >>> 0)) {
      this.#head = Atomics.load(this.#u32, this.#headIndex);
      if (total > this.#size - ((this.#tail - this.#head) >>> 0)) return 0;
    }
    if (need > toEnd) {
      // toEnd is a multiple of 8: there is always room for the marker.
      this.#u32[(this.#entries + position) >>> 2] = SKIP;
      this.#tail = (this.#tail + toEnd) >>> 0;
      return this.#entries + ENTRY_HEADER;
    }
    return this.#entries + position + ENTRY_HEADER;
  }

  /** Ends the frame that was last reserved, with its real length (at most what was reserved). */
  commit(length: number): void {
    this.#u32[(this.#entries + (this.#tail & (this.#size - 1))) >>> 2] = length;
    this.#tail = (this.#tail + entryBytes(length)) >>> 0;
  }

  /** Shows the consumer everything committed. */
  publish(): void {
    Atomics.store(this.#u32, this.#tailIndex, this.#tail);
  }
}

/** The consumer's end. One thread at a time. */
export class FrameRingReader {
  readonly #u32: Uint32Array;
  readonly #entries: number;
  readonly #size: number;
  readonly #tailIndex: number;
  readonly #headIndex: number;
  readonly #poppedIndex: number;

  constructor(context: Pick<LcoreContext, 'u32'>, cells: FrameRingCells) {
    this.#u32 = context.u32;
    this.#entries = cells.offset + ENTRIES;
    this.#size = cells.sizeBytes;
    this.#tailIndex = (cells.offset + TAIL) >>> 2;
    this.#headIndex = (cells.offset + HEAD) >>> 2;
    this.#poppedIndex = (cells.offset + POPPED) >>> 2;
  }

  /** Gives back what the last pop returned; then fills at most `max` records with frames that stay valid until the next pop. */
  releaseAndPop(records: number, max: number): number {
    const u32 = this.#u32;
    let head = u32[this.#poppedIndex]!;
    if (u32[this.#headIndex] !== head) Atomics.store(u32, this.#headIndex, head);
    const tail = Atomics.load(u32, this.#tailIndex);
    let count = 0;
    while (count < max && head !== tail) {
      const position = head & (this.#size - 1);
      const length = u32[(this.#entries + position) >>> 2]!;
      if (length === SKIP) {
        head = (head + this.#size - position) >>> 0;
        continue;
      }
      const record = (records + count * FRAME_RECORD_BYTES) >>> 2;
      for (let i = 0; i < FRAME_RECORD_BYTES / 4; i++) u32[record + i] = 0;
      u32[record + FRAME_DATA / 4] = this.#entries + position + ENTRY_HEADER;
      u32[record + FRAME_LENGTH / 4] = length;
      head = (head + entryBytes(length)) >>> 0;
      count++;
    }
    u32[this.#poppedIndex] = head;
    return count;
  }
}
