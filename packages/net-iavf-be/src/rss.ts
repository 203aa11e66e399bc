/** Receive-side scaling: key, look-up table and hash types, in the form the kernels use. */
import type { Window } from '@emudev/dma';
import { DEFAULT_HENA } from '@emudev/virtchnl';
import { DEV_HENA, DEV_LUT, DEV_RSS_TABLE, RSS_INPUT_BYTES, RSS_KEY_BYTES, RSS_LUT_ENTRIES, RSS_TABLE_BYTES } from './layout.ts';
import { PublishedTable } from './published-table.ts';

/** The key of Microsoft's published test vectors, extended by zeroes; in force until a driver programs its own. */
export const DEFAULT_RSS_KEY: Uint8Array = Uint8Array.of(
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
  0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
);

/**
 * Toeplitz by table: input byte i of value b contributes table[256 i + b], and a hash is the XOR of the contributions. Bit j of
 * the input (most significant first) contributes the 32 key bits that begin at bit j.
 */
export function toeplitzTable(key: Uint8Array, table: Uint32Array): void {
  const keyBits = (bit: number): number => {
    const byte = bit >>> 3;
    const shift = bit & 7;
    const at = (i: number): number => key[i] ?? 0;
    const word = ((at(byte) << 24) | (at(byte + 1) << 16) | (at(byte + 2) << 8) | at(byte + 3)) >>> 0;
    return shift === 0 ? word : ((word << shift) | (at(byte + 4) >>> (8 - shift))) >>> 0;
  };
  for (let i = 0; i < RSS_INPUT_BYTES; i++) {
    const row = i * 256;
    table[row] = 0;
    for (let bit = 0; bit < 8; bit++) table[row + (0x80 >>> bit)] = keyBits(i * 8 + bit);
    for (let b = 1; b < 256; b++) {
      const lowest = b & -b;
      if (b !== lowest) table[row + b] = (table[row + lowest]! ^ table[row + (b ^ lowest)]!) >>> 0;
    }
  }
}

interface UsedTable {
  readonly epoch: number;
  readonly offset: number;
  users: number;
}

/** Of the windows that have one. */
const defaultTables = new WeakMap<Window, UsedTable>();

/** The table of the default key, one for all cards of the window: a hash reads twelve cache lines of it, and so those are near. */
class DefaultTable implements Disposable {
  readonly #window: Window;
  readonly #used: UsedTable;

  constructor(window: Window) {
    this.#window = window;
    let table = defaultTables.get(window);
    if (table?.epoch !== window.epoch || table.users === 0) {
      table = { epoch: window.epoch, offset: window.alloc(RSS_TABLE_BYTES), users: 0 };
      toeplitzTable(DEFAULT_RSS_KEY, window.u32.subarray(table.offset >>> 2, (table.offset + RSS_TABLE_BYTES) >>> 2));
      defaultTables.set(window, table);
    }
    table.users++;
    this.#used = table;
  }

  get offset(): number {
    return this.#used.offset;
  }

  /** Once. */
  [Symbol.dispose](): void {
    if (--this.#used.users === 0) this.#window.free(this.#used.offset);
  }
}

export class Rss implements Disposable {
  readonly #window: Window;
  readonly #device: number;
  readonly #default: DefaultTable;
  /** Of the guest's key. */
  readonly #table: PublishedTable;

  constructor(window: Window, device: number) {
    this.#window = window;
    this.#device = device;
    this.#default = new DefaultTable(window);
    try {
      this.#table = new PublishedTable(window, device + DEV_RSS_TABLE, RSS_TABLE_BYTES);
    } catch (error) {
      this.#default[Symbol.dispose]();
      throw error;
    }
  }

  /** `key` has RSS_KEY_BYTES. Await the quiescence before the next `setKey`. */
  setKey(key: Uint8Array): void {
    this.#table.publish((offset) => {
      toeplitzTable(key.subarray(0, RSS_KEY_BYTES), this.#window.u32.subarray(offset >>> 2, (offset + RSS_TABLE_BYTES) >>> 2));
    });
  }

  /** Entries beyond the granted queues wrap around: a driver that miscounts still receives. */
  setLut(lut: Uint8Array, queues: number): void {
    for (let i = 0; i < RSS_LUT_ENTRIES; i++) Atomics.store(this.#window.u8, this.#device + DEV_LUT + i, (lut[i] ?? 0) % queues);
  }

  /** Types we cannot tell apart are masked off. 0 turns hashing off. */
  setHena(hena: bigint): void {
    const word = (this.#device + DEV_HENA) >>> 2;
    const types = hena & DEFAULT_HENA;
    Atomics.store(this.#window.u32, word, Number(types & 0xffff_ffffn));
    Atomics.store(this.#window.u32, word + 1, Number(types >> 32n));
  }

  /** What is in force until a driver says otherwise. Only while the lcores are quiescent. */
  setDefaults(queues: number): void {
    Atomics.store(this.#window.u32, (this.#device + DEV_RSS_TABLE) >>> 2, this.#default.offset);
    this.setLut(Uint8Array.from({ length: RSS_LUT_ENTRIES }, (_, i) => i % queues), queues);
    this.setHena(DEFAULT_HENA);
  }

  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
    this.#default[Symbol.dispose]();
  }
}
