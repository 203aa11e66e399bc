/** What the server may reach by DMA messages: the maps as they were announced, sorted by address, never overlapping. */
import { EACCES, EFAULT } from '@emudev/vfio-user-protocol';
import { badArgument } from './errors.ts';

export interface DmaMapRequest {
  /** Where the device sees it. */
  readonly iova: bigint;
  /** Positive; multiples of the page size are what servers accept. */
  readonly sizeBytes: number;
  /** The device may read it. */
  readonly readable: boolean;
  /** The device may write it. */
  readonly writable: boolean;
  /** File behind it, to be mapped by the server; without one the device comes by DMA messages. Borrowed until the promise settles. */
  readonly fd?: number;
  /** Where the range begins in the file; 0 by default. */
  readonly fdOffset?: number;
}

interface Range {
  readonly start: bigint;
  readonly end: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
}

export class DmaMaps {
  #ranges: Range[] = [];

  get count(): number {
    return this.#ranges.length;
  }

  /** Throws ERR_VFU_CLIENT_ARGUMENT for what no server may accept: an empty, overflowing or overlapping range. */
  add(map: DmaMapRequest): void {
    if (!Number.isSafeInteger(map.sizeBytes) || map.sizeBytes <= 0) throw badArgument(`a DMA map of ${map.sizeBytes} bytes`);
    const end = map.iova + BigInt(map.sizeBytes);
    if (map.iova < 0n || end > 1n << 64n) throw badArgument(`a DMA map at 0x${map.iova.toString(16)} of ${map.sizeBytes} bytes is outside the address space`);
    const at = this.#after(map.iova);
    if ((this.#ranges[at - 1]?.end ?? 0n) > map.iova || (this.#ranges[at]?.start ?? end) < end) {
      throw badArgument(`a DMA map at 0x${map.iova.toString(16)} of ${map.sizeBytes} bytes overlaps another`);
    }
    this.#ranges.splice(at, 0, { start: map.iova, end, readable: map.readable, writable: map.writable });
  }

  has(iova: bigint, sizeBytes: number): boolean {
    const range = this.#ranges[this.#after(iova) - 1];
    return range?.start === iova && range.end === iova + BigInt(sizeBytes);
  }

  remove(iova: bigint): void {
    const at = this.#after(iova) - 1;
    if (this.#ranges[at]?.start === iova) this.#ranges.splice(at, 1);
  }

  clear(): void {
    this.#ranges = [];
  }

  /** 0 if the device may do this, else the errno for it. A range may cross from one map into an adjacent one. */
  check(iova: bigint, count: number, access: 'read' | 'write'): number {
    const end = iova + BigInt(count);
    let next = iova;
    for (let at = this.#after(iova) - 1; next < end || count === 0; at++) {
      const range = this.#ranges[at];
      if (range === undefined || range.start > next || range.end <= next) return EFAULT;
      if (access === 'read' ? !range.readable : !range.writable) return EACCES;
      if (count === 0) return 0;
      next = range.end;
    }
    return 0;
  }

  /** Index of the first range that begins after `iova`. */
  #after(iova: bigint): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.start <= iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
