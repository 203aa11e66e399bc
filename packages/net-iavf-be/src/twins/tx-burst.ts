/** The burst that the Tx twin fills: records, arena and the queue's counters. */
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES,
  FRAME_LOAN, FRAME_SEGMENT, FRAME_VLAN_TCI,
} from '@emudev/ethdev';
import { PADDED_FRAME_BYTES, Q_STATS, QS_BROADCAST, QS_BYTES, QS_MULTICAST, QS_PACKETS, QS_UNICAST } from '../layout.ts';
import type { TwinMemory } from './memory.ts';

interface FrameMeta {
  readonly flags?: number;
  readonly vlanTci?: number;
  readonly segment?: number;
  readonly l2?: number;
  readonly l3?: number;
  readonly l4?: number;
  readonly loan?: number;
  /** What it becomes on the wire, when that is not one frame of these bytes. */
  readonly wirePackets?: number;
  readonly wireBytes?: number;
}

export class TxBurst {
  readonly #memory: TwinMemory;
  readonly #records: number;
  readonly #max: number;
  #refused = 0;
  readonly #end: number;
  readonly #queue: number;
  readonly #stats: number;
  produced = 0;
  cursor: number;

  constructor(memory: TwinMemory, records: number, max: number, arena: number, arenaBytes: number, queue: number, block: number) {
    this.#memory = memory;
    this.#records = records;
    this.#max = Math.min(max, 0xffff);
    this.cursor = arena;
    this.#end = arena + arenaBytes;
    this.#queue = queue;
    this.#stats = block + Q_STATS;
  }
  isFull(): boolean {
    return this.produced >= this.#max;
  }
  /** A packet was refused, which may have cost as much as a good one; true: it was the last this burst puts up with. */
  refuse(): boolean {
    return ++this.#refused >= this.#max;
  }
  hasRoom(bytes: number): boolean {
    return this.#end - this.cursor >= bytes;
  }
  /** The `bytes` bytes at the cursor are a frame: pad, record, count. */
  emit(bytes: number, meta: FrameMeta): void {
    const memory = this.#memory;
    if (bytes < PADDED_FRAME_BYTES) {
      memory.zero(this.cursor + bytes, PADDED_FRAME_BYTES - bytes);
      bytes = PADDED_FRAME_BYTES;
    }
    const record = this.#records + this.produced * FRAME_RECORD_BYTES;
    memory.zero(record, FRAME_RECORD_BYTES);
    memory.setU32(record + FRAME_DATA, this.cursor);
    memory.setU32(record + FRAME_LENGTH, bytes);
    memory.setU32(record + FRAME_FLAGS, meta.flags ?? 0);
    memory.setU16(record + FRAME_VLAN_TCI, meta.vlanTci ?? 0);
    memory.setU16(record + FRAME_SEGMENT, meta.segment ?? 0);
    memory.setU16(record + FRAME_L2_LENGTH, meta.l2 ?? 0);
    memory.setU16(record + FRAME_L3_LENGTH, meta.l3 ?? 0);
    memory.setU16(record + FRAME_L4_LENGTH, meta.l4 ?? 0);
    memory.setU32(record + FRAME_LOAN, meta.loan ?? 0);
    memory.setU16(record + FRAME_QUEUE, this.#queue);
    countFrame(memory, this.#stats, this.cursor, meta.wirePackets ?? 1, meta.wireBytes ?? bytes);
    this.produced++;
    this.cursor = Math.min(Math.ceil((this.cursor + bytes) / 64) * 64, this.#end);
  }
  /** Likewise, of one that is lent: heads lie an odd number of cache lines apart. */
  emitLent(bytes: number, meta: FrameMeta): void {
    const lines = Math.ceil(bytes / 64);
    const next = this.cursor + 64 * (lines % 2 === 0 ? lines + 1 : lines);
    this.emit(bytes, meta);
    this.cursor = Math.min(next, this.#end);
  }
}

/** Packets, bytes and destination class of a frame, into a queue's counters. */
export function countFrame(memory: TwinMemory, stats: number, frame: number, packets: number, bytes: number): void {
  memory.count(stats + 8 * QS_PACKETS, packets);
  memory.count(stats + 8 * QS_BYTES, bytes);
  memory.count(stats + 8 * (isBroadcast(memory, frame) ? QS_BROADCAST : memory.u8(frame) & 1 ? QS_MULTICAST : QS_UNICAST), packets);
}

export function isBroadcast(memory: TwinMemory, frame: number): boolean {
  return memory.be32(frame) === 0xffffffff && memory.be16(frame + 4) === 0xffff;
}

/** The frame lies four bytes behind `at`: its addresses move forward and the tag fills the gap. */
export function insertTag(memory: TwinMemory, at: number, tci: number): void {
  memory.copy(at, at + 4, 12);
  memory.setBe16(at + 12, 0x8100);
  memory.setBe16(at + 14, tci);
}
