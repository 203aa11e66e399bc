/** The memory the device was given: the maps as they were announced, sorted by address, never overlapping. */
import { EACCES, EFAULT } from '@emudev/vfio-user-protocol';
import { badArgument } from './errors.ts';
import type { KeptFile } from './kept-files.ts';
import { hex } from './link.ts';

/** Memory for `Dma.map`: what the device may reach, and how (vfio-user DMA_MAP). */
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
  /** How the server is to reach `fd`: mapped, or with pread and pwrite. Its own choice by default; older servers know no other. */
  readonly access?: 'mmap' | 'file-io';
  /** The same bytes as this process sees them: DMA messages are served from here. Without, they go to the `dma` option's handler. */
  readonly memory?: Uint8Array;
}

/** A map from the moment it is sent. */
export interface DmaRange {
  readonly start: bigint;
  readonly end: bigint;
  readonly request: DmaMapRequest;
  /** The server has accepted it; until then it may already use it. */
  accepted: boolean;
  /** The descriptor that a reconnect passes again. */
  file: KeptFile | undefined;
}

/** Part of a DMA message that lies in one map. */
export interface DmaSegment {
  readonly iova: bigint;
  /** Within the message. */
  readonly at: number;
  readonly lengthBytes: number;
  /** The bytes of this segment, where this process has them. */
  readonly memory: Uint8Array | undefined;
}

export class DmaMaps {
  #ranges: DmaRange[] = [];

  get count(): number {
    return this.#ranges.length;
  }

  /** Throws ERR_VFU_CLIENT_ARGUMENT for what no server may accept: an empty, overflowing or overlapping range. */
  add(request: DmaMapRequest): DmaRange {
    const { iova: start, sizeBytes, memory } = request;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) throw badArgument(`a DMA map of ${sizeBytes} bytes`);
    if (memory !== undefined && memory.length !== sizeBytes) throw badArgument(`${memory.length} bytes of memory for a DMA map of ${sizeBytes}`);
    const end = start + BigInt(sizeBytes);
    if (start < 0n || end > 1n << 64n) throw badArgument(`a DMA map at ${hex(start)} of ${sizeBytes} bytes is outside the address space`);
    const at = this.#after(start);
    if ((this.#ranges[at - 1]?.end ?? 0n) > start || (this.#ranges[at]?.start ?? end) < end) {
      throw badArgument(`a DMA map at ${hex(start)} of ${sizeBytes} bytes overlaps another`);
    }
    const range: DmaRange = { start, end, request, accepted: false, file: undefined };
    this.#ranges.splice(at, 0, range);
    return range;
  }

  /** The map that is exactly this range. */
  find(iova: bigint, sizeBytes: number): DmaRange | undefined {
    const range = this.#ranges[this.#after(iova) - 1];
    return range?.start === iova && range.end === iova + BigInt(sizeBytes) ? range : undefined;
  }

  remove(range: DmaRange): void {
    const at = this.#after(range.start) - 1;
    if (this.#ranges[at] === range) this.#ranges.splice(at, 1);
    range.file?.release();
    range.file = undefined;
  }

  /** Lowest address first. */
  all(): readonly DmaRange[] {
    return [...this.#ranges];
  }

  /** Maps that share an address with [start, end), lowest first. */
  within(start: bigint, end: bigint): readonly DmaRange[] {
    const found: DmaRange[] = [];
    for (let at = Math.max(this.#after(start) - 1, 0); at < this.#ranges.length && this.#ranges[at]!.start < end; at++) {
      if (this.#ranges[at]!.end > start) found.push(this.#ranges[at]!);
    }
    return found;
  }

  /** Where a DMA message goes, or the errno if the device may not. A range may cross from one map into an adjacent one. */
  segments(iova: bigint, count: number, access: 'read' | 'write'): readonly DmaSegment[] | number {
    const end = iova + BigInt(count);
    const segments: DmaSegment[] = [];
    let next = iova;
    for (let at = this.#after(iova) - 1; next < end || count === 0; at++) {
      const range = this.#ranges[at];
      if (range === undefined || range.start > next || range.end <= next) return EFAULT;
      if (access === 'read' ? !range.request.readable : !range.request.writable) return EACCES;
      if (count === 0) return [];
      const lengthBytes = Number((range.end < end ? range.end : end) - next);
      const inside = Number(next - range.start);
      segments.push({ iova: next, at: Number(next - iova), lengthBytes, memory: range.request.memory?.subarray(inside, inside + lengthBytes) });
      next = range.end;
    }
    return segments;
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
