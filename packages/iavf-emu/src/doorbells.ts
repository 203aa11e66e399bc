import type { SharedRegion } from '@emudev/emudev';
import type { Window, WindowMapping } from '@emudev/dma';
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, OwnedFd } from '@emudev/linux';
import type { RegionDescription } from '@emudev/pci';
import { controlOffset } from './contract.ts';
import { BAR0_BYTES, PAGE_BYTES, RX_TAIL_PAGE, TX_TAIL_PAGE, VECTOR_PAGE } from './register-table.ts';
import type { MappedPages } from './registers.ts';

const PAGES = [TX_TAIL_PAGE, RX_TAIL_PAGE, VECTOR_PAGE];
/** All of them and the unused one between. */
const WINDOW_BYTES = VECTOR_PAGE + PAGE_BYTES;

/**
 * BAR0 as a file, of which the pages of the doorbells and of the queue vectors lie in the window. In `map` mode a consumer maps them
 * too, and a guest's write is a plain store that pollers find; in `trap` mode it is a message, stored into the same page by the device.
 */
export class DoorbellPages implements MappedPages, Disposable {
  readonly region: SharedRegion;
  readonly #i32: Int32Array;
  readonly #mapping: WindowMapping;
  readonly #file: OwnedFd;

  constructor(window: Window, name: string) {
    const sys = window.sys;
    this.#i32 = window.i32;
    this.#file = new OwnedFd(sys.memfdCreate(`${name}.bar0`, { allowSealing: true }), sys);
    try {
      sys.ftruncate(this.#file.fd, BAR0_BYTES);
      // CLIENT: the consumer gets this descriptor. Shrinking the file would kill us with SIGBUS at the next look at a doorbell.
      if (!sys.addSeals(this.#file.fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) throw new Error('the doorbell file cannot be sealed');
      this.#mapping = window.map({ fd: this.#file.fd, fdOffset: 0, lengthBytes: WINDOW_BYTES, write: true });
    } catch (error) {
      this.#file.close();
      throw error;
    }
    this.region = { offset: this.#mapping.offset, sizeBytes: WINDOW_BYTES, backing: { fd: this.#file.fd, offset: 0 } };
  }

  /** What BAR0 offers for mapping: exactly these pages. */
  get mmap(): NonNullable<RegionDescription['mmap']> {
    return {
      areas: [{ offset: TX_TAIL_PAGE, sizeBytes: PAGE_BYTES }, { offset: RX_TAIL_PAGE, sizeBytes: 2 * PAGE_BYTES }],
      backing: { fd: this.#file.fd, offset: 0 },
    };
  }

  txOffset(pair: number): number {
    return this.region.offset + TX_TAIL_PAGE + 4 * pair;
  }

  rxOffset(pair: number): number {
    return this.region.offset + RX_TAIL_PAGE + 4 * pair;
  }

  /** Int32 index of VFINT_DYN_CTLN1 of a vector, 1 and up. */
  controlWord(vector: number): number {
    return (this.region.offset + controlOffset(vector)) >>> 2;
  }

  /** GUEST: the page is written by the guest at any time. */
  load(offset: number): number {
    return Atomics.load(this.#i32, (this.region.offset + offset) >>> 2) >>> 0;
  }

  /** Wakes threads that sleep on the word (Atomics.wait). */
  store(offset: number, value: number): void {
    const word = (this.region.offset + offset) >>> 2;
    Atomics.store(this.#i32, word, value | 0);
    Atomics.notify(this.#i32, word);
  }

  /** The pages all zero, what a guest put beside the registers included. */
  clear(): void {
    for (const page of PAGES) {
      for (let offset = page; offset < page + PAGE_BYTES; offset += 4) Atomics.store(this.#i32, (this.region.offset + offset) >>> 2, 0);
    }
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#file.close();
  }
}
