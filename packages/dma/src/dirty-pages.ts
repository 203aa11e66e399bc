/** A set of page numbers (IOVA >> 12), sparse: 64 bytes for every 2 MiB in which a page is set, nothing for the rest. */
import { PAGES_PER_CHUNK } from './iotlb.ts';

const WORD_BITS = 32;
const WORDS_PER_CHUNK = PAGES_PER_CHUNK / WORD_BITS;

/** Page numbers are below 2^52, so all arithmetic here is exact. Ranges are [first, end). */
export class DirtyPages {
  /** One bit per page, by chunk number; none of them is all zero. */
  readonly #chunks = new Map<number, Uint32Array>();

  /** Chunks of 2 MiB that take memory at present. */
  get chunkCount(): number {
    return this.#chunks.size;
  }

  add(first: number, end: number): void {
    for (let chunk = chunkOf(first); chunk * PAGES_PER_CHUNK < end; chunk++) {
      let words = this.#chunks.get(chunk);
      if (words === undefined) this.#chunks.set(chunk, (words = new Uint32Array(WORDS_PER_CHUNK)));
      for (let i = 0; i < WORDS_PER_CHUNK; i++) words[i]! |= maskOf(chunk, i, first, end);
    }
  }

  /** Pages that follow each other come as one range [from, to), except across a border of 2 MiB. */
  forEachRun(first: number, end: number, visit: (from: number, to: number) => void): void {
    for (const [chunk, words] of this.#between(first, end)) {
      let from = -1;
      let to = -1;
      for (let i = 0; i < WORDS_PER_CHUNK; i++) {
        for (let bits = words[i]! & maskOf(chunk, i, first, end); bits !== 0;) {
          const low = trailingZeroes(bits);
          const length = trailingZeroes(~(bits >>> low));
          const page = chunk * PAGES_PER_CHUNK + i * WORD_BITS + low;
          if (page !== to) {
            if (from >= 0) visit(from, to);
            from = page;
          }
          to = page + length;
          bits = length + low === WORD_BITS ? 0 : bits & (-1 << (low + length));
        }
      }
      if (from >= 0) visit(from, to);
    }
  }

  remove(first: number, end: number): void {
    for (const [chunk, words] of this.#between(first, end)) {
      let left = 0;
      for (let i = 0; i < WORDS_PER_CHUNK; i++) left |= words[i]! &= ~maskOf(chunk, i, first, end);
      if (left === 0) this.#chunks.delete(chunk);
    }
  }

  clear(): void {
    this.#chunks.clear();
  }

  /** The chunks there are in the range, found whichever way is shorter: a range may span 2^43 of them. In no order. */
  *#between(first: number, end: number): Generator<[number, Uint32Array], void, void> {
    const low = chunkOf(first);
    const high = chunkOf(end - 1);
    if (end <= first) return;
    if (high - low >= this.#chunks.size) {
      for (const entry of this.#chunks) if (entry[0] >= low && entry[0] <= high) yield entry;
      return;
    }
    for (let chunk = low; chunk <= high; chunk++) {
      const words = this.#chunks.get(chunk);
      if (words !== undefined) yield [chunk, words];
    }
  }
}

function chunkOf(page: number): number {
  return Math.floor(page / PAGES_PER_CHUNK);
}

/** Of 32 bits; 32 where none is set. */
function trailingZeroes(bits: number): number {
  return bits === 0 ? WORD_BITS : 31 - Math.clz32(bits & -bits);
}

/** Of the 32 pages of word `i`, those in [first, end). */
function maskOf(chunk: number, i: number, first: number, end: number): number {
  const base = chunk * PAGES_PER_CHUNK + i * WORD_BITS;
  const from = first - base;
  const to = end - base;
  if (from >= WORD_BITS || to <= 0) return 0;
  return (from > 0 ? -1 << from : -1) & (to < WORD_BITS ? ~(-1 << to) : -1);
}
