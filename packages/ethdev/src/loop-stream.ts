/** A stream as its lcore's loop has it, and the frames that it keeps. */
import { FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, type Burst } from './burst.ts';
import { addCounter } from './counter.ts';
import type { Engine } from './engines/engine.ts';
import { STREAM_DROPPED } from './lcore-protocol.ts';
import type { LcoreContext, PortDatapath } from './port.ts';

/** What the worker hands in. */
export interface LoopStream {
  readonly id: number;
  readonly rx: PortDatapath;
  readonly rxQueue: number;
  readonly tx: PortDatapath;
  readonly txQueue: number;
  readonly engine: Engine;
  readonly announced: boolean;
  /** Of which nothing is left when another stream is polled. */
  readonly burst: Burst;
  /** As large, and nobody else's: for frames that are kept. */
  readonly keeping: Burst;
  readonly counters: number;
}

/** A stream and its kept frames: those of its burst that the Tx port did not take while it was holding. */
export class RunningStream {
  readonly given: LoopStream;
  readonly rx: PortDatapath;
  readonly rxQueue: number;
  readonly tx: PortDatapath;
  readonly txQueue: number;
  readonly engine: Engine;
  readonly burst: Burst;
  readonly keeping: Burst;
  /** u32 index. */
  readonly counters: number;
  readonly holds: boolean;
  /** What is to be sent is as long as what was received. */
  readonly keepsLengths: boolean;
  readonly prefetches: boolean;
  readonly lends: boolean;
  /** Not looked at between two sleeps: a descriptor ends the sleep when there is something. */
  readonly announced: boolean;
  /** What is kept. */
  readonly rest: { records: number; readonly capacity: number; readonly arena: number; readonly arenaBytes: number };
  kept = 0;
  /** A stream of this lcore sends to `rx`. */
  sendsToRx = false;
  /** performance.now() when the Tx port began to hold; 0: it does not. */
  heldSince = 0;

  constructor(given: LoopStream) {
    this.given = given;
    this.rx = given.rx;
    this.rxQueue = given.rxQueue;
    this.tx = given.tx;
    this.txQueue = given.txQueue;
    this.engine = given.engine;
    this.burst = given.burst;
    this.keeping = given.keeping;
    this.counters = given.counters >>> 2;
    this.holds = given.tx.holding !== undefined;
    this.keepsLengths = given.engine.keepsLengths === true;
    this.lends = given.rx.takeBack !== undefined;
    this.prefetches = given.rx.prefetch !== undefined && given.engine.receives;
    this.announced = given.announced && given.engine.receives;
    this.rest = { ...given.keeping };
  }

  /**
   * Records [from, to) of the burst move into memory of the stream's own: the burst is the next stream's, and of frames that lie elsewhere, memory
   * of a port that is reset meanwhile, or whose far end goes, is no longer theirs. Those of them without room are dropped, and counted.
   */
  keep({ u8, u32 }: Pick<LcoreContext, 'u8' | 'u32'>, from: number, to: number): void {
    const { burst, keeping } = this;
    const first = keeping.records >>> 2;
    const end = first + (to - from) * (FRAME_RECORD_BYTES / 4);
    u8.copyWithin(keeping.records, burst.records + from * FRAME_RECORD_BYTES, burst.records + to * FRAME_RECORD_BYTES);
    let free = keeping.arena;
    for (let record = first; record < end; record += FRAME_RECORD_BYTES / 4) {
      const data = u32[record + FRAME_DATA / 4]!;
      if (!isIn(burst, data)) continue;
      // To the same place: what is lent has its room there
      const moved = keeping.arena + data - burst.arena;
      const bytes = u32[record + FRAME_LENGTH / 4]!;
      u8.copyWithin(moved, data, data + bytes);
      u32[record + FRAME_DATA / 4] = moved;
      free = Math.max(free, moved + bytes);
    }
    let record = first;
    for (; record < end; record += FRAME_RECORD_BYTES / 4) {
      const data = u32[record + FRAME_DATA / 4]!;
      if (isIn(keeping, data)) continue;
      const bytes = u32[record + FRAME_LENGTH / 4]!;
      free = Math.ceil(free / 64) * 64;
      if (free + bytes > keeping.arena + keeping.arenaBytes) break;
      u8.copyWithin(free, data, data + bytes);
      u32[record + FRAME_DATA / 4] = free;
      free += bytes;
    }
    this.rest.records = keeping.records;
    this.kept = (record - first) / (FRAME_RECORD_BYTES / 4);
    addCounter(u32, this.counters + STREAM_DROPPED / 4, to - from - this.kept);
  }
}

function isIn({ arena, arenaBytes }: Burst, data: number): boolean {
  return data >= arena && data < arena + arenaBytes;
}
