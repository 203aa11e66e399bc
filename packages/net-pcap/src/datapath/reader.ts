/**
 * Frames from a file. A block of it is in the window; frames are copied from there into the burst's arena, because an engine may
 * change them and a short file that is read over and over stays in its block.
 */
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, RXQ_BYTES, RXQ_ERRORS, RXQ_MISSED, RXQ_PACKETS, addCounter, windowBytes, type Burst, type LcoreContext, type WindowBytes } from '@emudev/ethdev';
import type { Sys } from '@emudev/linux';
import { FILE_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_INCL_LENGTH, RECORD_ORIG_LENGTH } from '../file-format.ts';
import { MAX_FRAME_BYTES, MAX_RECORD_BYTES, MIN_FRAME_BYTES, READ_BLOCK_BYTES } from '../limits.ts';
import { READ_BLOCKS, READ_CURSOR, READ_DELIVERED, READ_END, READ_ENDED, READ_OFFSET, READ_WHOLE, pcapCounter, type ReaderInit } from '../port-memory.ts';

/** In front of the block: room for the beginning of a record whose end is in the next block. */
const LEAD_BYTES = (RECORD_HEADER_BYTES + MAX_FRAME_BYTES + 63) & ~63;
/** Behind it: copies may look at the rest of a word. */
const TAIL_BYTES = 64;
export const READ_BUFFER_BYTES: number = LEAD_BYTES + READ_BLOCK_BYTES + TAIL_BYTES;

export class CaptureReader {
  readonly #context: LcoreContext;
  readonly #init: ReaderInit;
  readonly #sys: Pick<Sys, 'pread'>;
  readonly #bytes: WindowBytes;
  readonly #block: Uint8Array;
  readonly #blockStart: number;
  readonly #cells: number;

  constructor(context: LcoreContext, init: ReaderInit, sys: Pick<Sys, 'pread'>) {
    this.#context = context;
    this.#init = init;
    this.#sys = sys;
    this.#bytes = windowBytes(context);
    this.#blockStart = init.buffer + LEAD_BYTES;
    this.#block = new Uint8Array(context.memory.buffer, this.#blockStart, READ_BLOCK_BYTES);
    this.#cells = init.cells >>> 2;
  }

  /** Looks at no more records than are asked for and reads at most one block, whatever the file holds. */
  rxBurst(burst: Burst, max: number): number {
    const { u32, view } = this.#context;
    const cells = this.#cells;
    const little = this.#init.littleEndian;
    const most = max < burst.capacity ? max : burst.capacity;
    const counters = this.#init.counters >>> 2;
    let place = burst.arena;
    const arenaEnd = burst.arena + burst.arenaBytes;
    let mayRead = true;
    let count = 0;
    let bytes = 0;
    let truncated = 0;
    let looked = 0;
    while (looked < most && u32[cells + READ_ENDED / 4] === 0) {
      const cursor = u32[cells + READ_CURSOR / 4]!;
      const available = u32[cells + READ_END / 4]! - cursor;
      // A record's length is the file's word: it is bounded before anything is done with it.
      const inclLength = available < RECORD_HEADER_BYTES ? 0 : view.getUint32(cursor + RECORD_INCL_LENGTH, little);
      if (inclLength > MAX_RECORD_BYTES) {
        this.#endBroken();
        break;
      }
      if (inclLength > MAX_FRAME_BYTES) {
        this.#skip(RECORD_HEADER_BYTES + inclLength);
        this.#refuse('rx_oversized');
        looked++;
        continue;
      }
      if (available < RECORD_HEADER_BYTES + inclLength || available === 0) {
        if (available === 0 && u32[cells + READ_WHOLE / 4] !== 0) {
          this.#begin();
        } else if (mayRead) {
          mayRead = false;
          this.#readBlock();
        } else {
          break;
        }
        continue;
      }
      // Frames begin on cache lines.
      const next = place + ((inclLength + 63) & ~63);
      if (next > arenaEnd && count !== 0) break;
      u32[cells + READ_CURSOR / 4] = cursor + RECORD_HEADER_BYTES + inclLength;
      looked++;
      if (next > arenaEnd) {
        // Not even an empty arena has room.
        addCounter(u32, counters + RXQ_MISSED / 4, 1);
        continue;
      }
      if (inclLength < MIN_FRAME_BYTES) {
        this.#refuse('rx_too_short');
        continue;
      }
      if (view.getUint32(cursor + RECORD_ORIG_LENGTH, little) > inclLength) truncated++;
      this.#bytes.copy(place, cursor + RECORD_HEADER_BYTES, inclLength);
      const record = (burst.records + count * FRAME_RECORD_BYTES) >>> 2;
      for (let w = 0; w < FRAME_RECORD_BYTES / 4; w++) u32[record + w] = 0;
      u32[record + FRAME_DATA / 4] = place;
      u32[record + FRAME_LENGTH / 4] = inclLength;
      u32[cells + READ_DELIVERED / 4] = 1;
      place = next;
      bytes += inclLength;
      count++;
    }
    if (count === 0) return 0;
    addCounter(u32, counters + RXQ_PACKETS / 4, count);
    addCounter(u32, counters + RXQ_BYTES / 4, bytes);
    if (truncated !== 0) addCounter(u32, pcapCounter(this.#init.pcapCounters, 'rx_truncated'), truncated);
    return count;
  }

  #refuse(why: 'rx_oversized' | 'rx_too_short' | 'rx_broken'): void {
    addCounter(this.#context.u32, pcapCounter(this.#init.pcapCounters, why), 1);
    addCounter(this.#context.u32, (this.#init.counters + RXQ_ERRORS) >>> 2, 1);
  }

  #end(): void {
    this.#context.u32[this.#cells + READ_ENDED / 4] = 1;
  }

  /** Behind a broken record there is nothing to go by: records have no marker to look for. */
  #endBroken(): void {
    this.#refuse('rx_broken');
    this.#end();
  }

  #skip(length: number): void {
    const { u32, view } = this.#context;
    const next = u32[this.#cells + READ_CURSOR / 4]! + length;
    const end = u32[this.#cells + READ_END / 4]!;
    if (next <= end) {
      u32[this.#cells + READ_CURSOR / 4] = next;
      return;
    }
    u32[this.#cells + READ_CURSOR / 4] = end;
    view.setFloat64(this.#init.cells + READ_OFFSET, view.getFloat64(this.#init.cells + READ_OFFSET) + (next - end));
  }

  /** Starts over, if the last time was worth it. */
  #begin(): void {
    const { u32, view } = this.#context;
    if (u32[this.#cells + READ_DELIVERED / 4] === 0) {
      this.#end();
      return;
    }
    u32[this.#cells + READ_DELIVERED / 4] = 0;
    if (u32[this.#cells + READ_WHOLE / 4] !== 0) {
      u32[this.#cells + READ_CURSOR / 4] = this.#blockStart;
      return;
    }
    u32[this.#cells + READ_BLOCKS / 4] = 0;
    view.setFloat64(this.#init.cells + READ_OFFSET, FILE_HEADER_BYTES);
  }

  #pread(offset: number): number {
    try {
      return this.#sys.pread(this.#init.fd, this.#block, offset);
    } catch {
      return -1;
    }
  }

  /** Puts the next block behind what is left of this one. */
  #readBlock(): void {
    const { u32, view } = this.#context;
    const cells = this.#cells;
    const cursor = u32[cells + READ_CURSOR / 4]!;
    const rest = u32[cells + READ_END / 4]! - cursor;
    const offset = view.getFloat64(this.#init.cells + READ_OFFSET);
    // The rest is less than one record, or it would have been delivered or skipped.
    this.#bytes.copy(this.#blockStart - rest, cursor, rest);
    const bytes = this.#pread(offset);
    if (bytes < 0 || (bytes === 0 && rest !== 0)) {
      this.#endBroken();
      return;
    }
    if (bytes === 0) {
      if (!this.#init.infinite) {
        this.#end();
        return;
      }
      if (u32[cells + READ_BLOCKS / 4] === 1) u32[cells + READ_WHOLE / 4] = 1;
      this.#begin();
      return;
    }
    u32[cells + READ_CURSOR / 4] = this.#blockStart - rest;
    u32[cells + READ_END / 4] = this.#blockStart + bytes;
    u32[cells + READ_BLOCKS / 4] = u32[cells + READ_BLOCKS / 4]! + 1;
    view.setFloat64(this.#init.cells + READ_OFFSET, offset + bytes);
  }
}

/** First state of a reader's cells (control side). */
export function initReaderCells(view: DataView, u32: Uint32Array, cells: number): void {
  view.setFloat64(cells + READ_OFFSET, FILE_HEADER_BYTES);
  for (const cell of [READ_CURSOR, READ_END, READ_BLOCKS, READ_DELIVERED, READ_WHOLE, READ_ENDED]) u32[(cells + cell) >>> 2] = 0;
}
