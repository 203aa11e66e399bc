/** The free parts of an address range: first fit, neighbours joined. Plain numbers, all of them multiples of the caller's grain. */
export class FreeRanges {
  /** Sorted, disjoint, never adjacent. */
  readonly #starts: number[];
  readonly #ends: number[];
  #freeBytes: number;

  constructor(start: number, end: number) {
    this.#starts = [start];
    this.#ends = [end];
    this.#freeBytes = end - start;
  }

  /** The lowest start with (start + bias) % align === residue and `length` free bytes; undefined where there is none. */
  take(length: number, align: number, residue = 0, bias = 0): number | undefined {
    for (let i = 0; i < this.#starts.length; i++) {
      const from = this.#starts[i]!;
      const end = this.#ends[i]!;
      const start = from + ((((residue - from - bias) % align) + align) % align);
      if (start + length > end) continue;
      const starts = start > from ? [from] : [];
      const ends = start > from ? [start] : [];
      if (start + length < end) {
        starts.push(start + length);
        ends.push(end);
      }
      this.#starts.splice(i, 1, ...starts);
      this.#ends.splice(i, 1, ...ends);
      this.#freeBytes -= length;
      return start;
    }
    return undefined;
  }

  /** Gives [start, start + length) back; it was taken before. */
  give(start: number, length: number): void {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]! < start) low = middle + 1;
      else high = middle;
    }
    const end = start + length;
    this.#freeBytes += length;
    const joinsLeft = low > 0 && this.#ends[low - 1] === start;
    const joinsRight = low < this.#starts.length && this.#starts[low] === end;
    if (joinsLeft && joinsRight) {
      this.#ends[low - 1] = this.#ends[low]!;
      this.#starts.splice(low, 1);
      this.#ends.splice(low, 1);
    } else if (joinsLeft) {
      this.#ends[low - 1] = end;
    } else if (joinsRight) {
      this.#starts[low] = start;
    } else {
      this.#starts.splice(low, 0, start);
      this.#ends.splice(low, 0, end);
    }
  }

  /** Sum of all free ranges. */
  get freeBytes(): number {
    return this.#freeBytes;
  }
}
