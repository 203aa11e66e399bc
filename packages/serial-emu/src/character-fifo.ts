import { FIFO_BYTES } from './limits.ts';

/** Characters with their error bits (as in LSR), first in, first out; never more than 16. */
export class CharacterFifo {
  readonly #bytes = new Uint8Array(FIFO_BYTES);
  readonly #errors = new Uint8Array(FIFO_BYTES);
  #head = 0;
  #length = 0;
  #withErrors = 0;

  get length(): number {
    return this.#length;
  }

  /** Characters with an error bit that nobody has looked at. */
  get withErrors(): number {
    return this.#withErrors;
  }

  /** Error bits of the character that comes next. */
  get errors(): number {
    return this.#length === 0 ? 0 : this.#errors[this.#head]!;
  }

  /** The caller has made sure of room. */
  push(byte: number, errors = 0): void {
    const at = (this.#head + this.#length++) % FIFO_BYTES;
    this.#bytes[at] = byte;
    this.#errors[at] = errors;
    if (errors !== 0) this.#withErrors++;
  }

  /** Zero where there is none. */
  shift(): number {
    if (this.#length === 0) return 0;
    this.clearErrors();
    const byte = this.#bytes[this.#head]!;
    this.#head = (this.#head + 1) % FIFO_BYTES;
    this.#length--;
    return byte;
  }

  clearErrors(): void {
    if (this.errors === 0) return;
    this.#errors[this.#head] = 0;
    this.#withErrors--;
  }

  clear(): void {
    this.#length = this.#withErrors = 0;
  }
}
