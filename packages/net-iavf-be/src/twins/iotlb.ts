/** IOVA to window offset, straight from the layout in @emudev/dma; no cache. */
import {
  CHUNK_BYTES, IOTLB_ENTRY_BYTES, IOTLB_HASH, IOTLB_HASH_SHIFT, IOTLB_HEADER_BYTES, IOTLB_OFFSET_MASK, IOTLB_TABLE, PAGE_BYTES,
} from '@emudev/dma';
import type { TwinMemory } from './memory.ts';

const NOT_MAPPED = 0;
const TWO_32 = 2 ** 32;

/** One device's table with the permission one burst needs. */
export class TwinIotlb {
  readonly #memory: TwinMemory;
  readonly #table: number;
  readonly #permission: number;
  /** Contiguous bytes from the address translated last. */
  span = 0;

  constructor(memory: TwinMemory, table: number, permission: number) {
    this.#memory = memory;
    this.#table = table;
    this.#permission = permission;
  }

  #value(high: number, low: number): number {
    const memory = this.#memory;
    const key = high * 2048 + (low >>> 21) + 1; // below 2^43 + 1: exact
    const mask = memory.u32(this.#table);
    let slot = (Math.imul(key % TWO_32 | 0, IOTLB_HASH) >>> IOTLB_HASH_SHIFT) & mask;
    for (let probes = 0; probes <= mask; probes++) {
      const entry = this.#table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
      const found = memory.u32(entry + 4) * TWO_32 + memory.u32(entry);
      if (found === 0) return NOT_MAPPED;
      if (found === key) return memory.u32(entry + 8);
      slot = (slot + 1) & mask;
    }
    return NOT_MAPPED;
  }

  /** Window offset, 0 = not mapped with this permission. */
  translate(high: number, low: number): number {
    // GUEST: any address; only exact keys are found
    const value = this.#value(high, low);
    if (value & IOTLB_TABLE) {
      const page = this.#memory.u32(((value & IOTLB_OFFSET_MASK) >>> 0) + 4 * ((low >>> 12) & 511));
      if (!(page & this.#permission)) return 0;
      this.span = PAGE_BYTES - (low & (PAGE_BYTES - 1));
      return ((page & IOTLB_OFFSET_MASK) >>> 0) + (low & (PAGE_BYTES - 1));
    }
    if (!(value & this.#permission)) return 0;
    this.span = CHUNK_BYTES - (low & (CHUNK_BYTES - 1));
    return ((value & IOTLB_OFFSET_MASK) >>> 0) + (low & (CHUNK_BYTES - 1));
  }

  /**
   * Calls `piece(offset, at, bytes)` for every contiguous piece of [iova, iova + bytes); false = the range is not mapped
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
