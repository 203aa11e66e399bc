/** Pieces of a fixed number of bytes, given back in the order in which they were taken. A piece never wraps. */
export class FifoPool {
  readonly sizeBytes: number;
  #first = 0;
  #next = 0;
  #pieces = 0;
  #usedBytes = 0;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** More than this is not there for sure; less may not be either, where it is not in one piece. */
  get freeBytes(): number {
    return this.sizeBytes - this.#usedBytes;
  }

  /** Where the piece begins; undefined while there is no room for it. */
  take(bytes: number): number | undefined {
    if (this.#pieces === 0) this.#first = this.#next = 0;
    let at = this.#next;
    // Equal positions of a pool in use mean that it is full, so nothing taken may end at the first piece.
    if (this.#next < this.#first) {
      if (bytes >= this.#first - this.#next) return undefined;
    } else if (bytes > this.sizeBytes - this.#next) {
      if (bytes >= this.#first) return undefined;
      at = 0;
    }
    this.#next = at + bytes;
    this.#pieces++;
    this.#usedBytes += bytes;
    return at;
  }

  /** The oldest piece. */
  give(at: number, bytes: number): void {
    this.#first = at + bytes;
    this.#pieces--;
    this.#usedBytes -= bytes;
  }

  /** The newest `pieces` of `bytes` together, the oldest of which begins at `at`, have never been taken. */
  rewind(at: number, pieces: number, bytes: number): void {
    this.#next = at;
    this.#pieces -= pieces;
    this.#usedBytes -= bytes;
  }
}
