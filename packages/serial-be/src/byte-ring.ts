/** Bytes, first in, first out, in a fixed buffer. */
export class ByteRing {
  readonly #bytes: Uint8Array;
  #head = 0;
  #length = 0;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  get free(): number {
    return this.#bytes.length - this.#length;
  }

  /** Copies them; RangeError beyond `free`. */
  push(bytes: Uint8Array): void {
    if (bytes.length > this.free) throw new RangeError(`${bytes.length} bytes for a ring with room for ${this.free}`);
    const capacity = this.#bytes.length;
    const at = (this.#head + this.#length) % capacity;
    const first = Math.min(bytes.length, capacity - at);
    this.#bytes.set(bytes.subarray(0, first), at);
    this.#bytes.set(bytes.subarray(first), 0);
    this.#length += bytes.length;
  }

  /** The next bytes as far as they lie together, at most `max`. Valid until the next `push`, also behind `drop`. */
  peek(max: number): Uint8Array {
    return this.#bytes.subarray(this.#head, Math.min(this.#head + Math.min(max, this.#length), this.#bytes.length));
  }

  drop(count: number): void {
    this.#head = (this.#head + count) % this.#bytes.length;
    this.#length -= count;
  }

  clear(): void {
    this.#head = this.#length = 0;
  }
}
