import type { Window } from '@emudev/dma';

/**
 * A table that lcores read while it changes: two copies and the word that points to the current one. `publish` writes the
 * spare and turns the pointer, so a burst sees the old table or the new one. Await the quiescence before the next `publish`:
 * only then nobody reads the copy that becomes the spare.
 */
export class PublishedTable implements Disposable {
  readonly #window: Window;
  readonly #pointer: number;
  readonly #copies: readonly [number, number];
  #current = 0;

  /** `pointer`: window offset of the word. */
  constructor(window: Window, pointer: number, bytes: number) {
    this.#window = window;
    this.#pointer = pointer;
    const first = window.alloc(bytes);
    try {
      this.#copies = [first, window.alloc(bytes)];
    } catch (error) {
      window.free(first);
      throw error;
    }
    Atomics.store(window.u32, pointer >>> 2, first);
  }

  publish(fill: (offset: number) => void): void {
    const spare = 1 - this.#current;
    fill(this.#copies[spare]!);
    Atomics.store(this.#window.u32, this.#pointer >>> 2, this.#copies[spare]!);
    this.#current = spare;
  }

  [Symbol.dispose](): void {
    for (const copy of this.#copies) this.#window.free(copy);
  }
}
