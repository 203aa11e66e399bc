/** Seeded choices. The same seed gives the same choices, whatever the machine or the timing. */
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Sizes, offsets and counts at which things go wrong. */
export const EDGES: readonly number[] = [
  0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 20, 23, 24, 31, 32, 36, 40, 47, 48, 63, 64, 80, 253, 254, 255, 256, 1023, 1024, 2047, 2048, 4095, 4096, 4097, 0xffff, 0x10000,
  0xf_ffff, 0x10_0000, 0x10_0001, 0x20_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_fff0, 0xffff_ffff,
];

export class Random {
  readonly #generator: ReturnType<typeof xoroshiro128plus>;

  constructor(seed: number) {
    this.#generator = xoroshiro128plus(seed | 0);
  }

  /** [0, 2^32). */
  u32(): number {
    return this.#generator.next() >>> 0;
  }

  /** [0, below); the bias of a remainder does not matter here. */
  below(below: number): number {
    return this.u32() % below;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.u32() % n === 0;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.u32() % values.length]!;
  }

  edge(): number {
    return this.pick(EDGES);
  }

  u64(): bigint {
    switch (this.below(4)) {
      case 0: return BigInt(this.edge());
      case 1: return (1n << 64n) - 1n - BigInt(this.edge());
      case 2: return 1n << BigInt(this.below(64));
      default: return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
    }
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    // Long data need not be random everywhere.
    const filled = Math.min(length, 64);
    for (let i = 0; i < filled; i += 4) {
      const word = this.u32();
      for (let j = i; j < i + 4 && j < filled; j++) bytes[j] = word >>> (8 * (j - i));
    }
    return bytes;
  }
}

/** A table of weights, made ready for choosing. */
export class Weighted<T> {
  readonly #values: T[] = [];

  constructor(table: readonly (readonly [weight: number, value: T])[]) {
    for (const [weight, value] of table) for (let i = 0; i < weight; i++) this.#values.push(value);
  }

  pick(random: Random): T {
    return random.pick(this.#values);
  }
}

/** The seed of one session: any session of a run can be repeated alone. */
export function sessionSeed(seed: number, session: number): number {
  let x = (seed ^ Math.imul(session, 0x9e37_79b1)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85eb_ca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2_ae35);
  return x ^ (x >>> 16);
}
