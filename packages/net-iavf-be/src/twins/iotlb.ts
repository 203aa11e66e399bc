/** IOVA to window offset, straight from the layout in @emudev/dma; no cache. What is missing: see ../kernels/iotlb.ts. */
import {
  CHUNK_BYTES, IOTLB_ENTRY_BYTES, IOTLB_HEADER_BYTES, IOTLB_HIGH_MULTIPLIER, IOTLB_LOW_MULTIPLIER, IOTLB_OFFSET_MASK, IOTLB_PART, IOTLB_PART_SHIFT,
  IOTLB_SHIFT, IOTLB_TABLE, IOTLB_USED, IOTLB_USED_SHIFT, IOTLB_VALUE, PAGE_BYTES, PART_BYTES, PART_SHIFT, PARTS_PER_CHUNK,
} from '@emudev/dma';
import type { TwinMemory } from './memory.ts';

const TWO_32 = 2 ** 32;
const PAGES_PER_GIB4 = 2 ** 20;

/** What outlives bursts: whether misses are asked for, the answer that was no, and the question. */
export class MissState {
  asking = false;
  /** Number of the page that is a fault. */
  deniedPage = -1;
  high = 0;
  low = 0;

  deny(high: number, low: number, any: boolean): void {
    this.deniedPage = any ? high * PAGES_PER_GIB4 + (low >>> 12) : -1;
  }
}

/** One device's table with the permission one burst needs. */
export class TwinIotlb {
  readonly #memory: TwinMemory;
  readonly #table: number;
  readonly #permission: number;
  readonly #misses: MissState;
  /** Contiguous bytes from the address translated last. */
  span = 0;
  /** The burst needs an address that has to be brought in first. */
  missed = false;

  constructor(memory: TwinMemory, iotlb: number, permission: number, misses: MissState) {
    this.#memory = memory;
    this.#table = memory.u32(iotlb);
    this.#permission = permission;
    this.#misses = misses;
  }

  /** Offset of the chunk's entry; 0 = it has none. */
  #entry(high: number, low: number): number {
    const memory = this.#memory;
    const table = this.#table;
    const key = high * 2048 + (low >>> 21) + 1; // below 2^43 + 1: exact
    const mask = memory.u32(table);
    const hash = Math.imul(key % TWO_32 | 0, memory.u32(table + IOTLB_LOW_MULTIPLIER)) + Math.imul(Math.floor(key / TWO_32), memory.u32(table + IOTLB_HIGH_MULTIPLIER));
    let slot = hash >>> memory.u32(table + IOTLB_SHIFT);
    for (let probes = 0; probes <= mask; probes++) {
      const entry = table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
      const found = memory.u32(entry + 4) * TWO_32 + memory.u32(entry);
      if (found === 0) return 0;
      if (found === key) return entry;
      slot = (slot + 1) & mask;
    }
    return 0;
  }

  #absent(high: number, low: number): number {
    const misses = this.#misses;
    if (misses.asking && high * PAGES_PER_GIB4 + (low >>> 12) !== misses.deniedPage) {
      this.missed = true;
      misses.high = high;
      misses.low = low;
    }
    return 0;
  }

  /** Window offset, 0 = not there with this permission (or `missed`). */
  translate(high: number, low: number): number {
    // GUEST: any address; only exact keys are found
    const memory = this.#memory;
    const entry = this.#entry(high, low);
    const value = entry === 0 ? 0 : memory.u32(entry + IOTLB_VALUE);
    const isTable = (value & IOTLB_TABLE) !== 0;
    const index = (low >>> 12) & 511;
    const isPart = !isTable && (value & IOTLB_PART) !== 0;
    const part = (low >>> PART_SHIFT) & (PARTS_PER_CHUNK - 1);
    const place = isTable ? memory.u32(((value & IOTLB_OFFSET_MASK) >>> 0) + 4 * index) : value;
    if (place === 0 || (isPart && part !== ((value >>> IOTLB_PART_SHIFT) & (PARTS_PER_CHUNK - 1)))) return this.#absent(high, low);
    if (!(place & this.#permission)) return 0;
    const used = memory.u32(entry + IOTLB_USED);
    const bit = isTable ? 1 << (index >>> IOTLB_USED_SHIFT) : isPart ? 1 << part : 1;
    if (!(used & bit)) memory.setU32(entry + IOTLB_USED, used | bit);
    const size = isTable ? PAGE_BYTES : isPart ? PART_BYTES : CHUNK_BYTES;
    this.span = size - (low & (size - 1));
    return ((place & IOTLB_OFFSET_MASK) >>> 0) + (low & (size - 1));
  }

  /**
   * Calls `piece(offset, at, bytes)` for every contiguous piece of [iova, iova + bytes); false = the range is not there
   * throughout (pieces before the hole have been visited) or wraps at 2^64.
   */
  forEachPiece(high: number, low: number, bytes: number, piece: (offset: number, at: number, bytes: number) => void): boolean {
    if (bytes > 0 && high === 0xffffffff && low + bytes > TWO_32) return false;
    for (let at = 0; at < bytes; ) {
      const offset = this.translate((high + Math.floor((low + at) / TWO_32)) >>> 0, (low + at) % TWO_32);
      if (offset === 0) return false;
      const part = Math.min(bytes - at, this.span);
      piece(offset, at, part);
      at += part;
    }
    return true;
  }
}
