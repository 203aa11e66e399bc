import { ADMIN_DESCRIPTOR_BYTES } from '@emudev/virtchnl';
import { LEN_CRITICAL, LEN_ENABLE, LEN_LENGTH } from './register-table.ts';
import type { RegisterFile } from './registers.ts';

export type RingPrefix = 'VF_ATQ' | 'VF_ARQ';

/**
 * One admin queue as its registers describe it, read afresh at every use: drivers enable a ring before they write its base.
 * What a guest has programmed may be nonsense; `isUsable` says whether head and tail lie in a ring that exists.
 */
export class AdminRing {
  readonly #registers: RegisterFile;
  readonly #prefix: RingPrefix;
  #generation = 0;

  constructor(registers: RegisterFile, prefix: RingPrefix) {
    this.#registers = registers;
    this.#prefix = prefix;
  }

  /** Changes whenever the ring is disabled, cleared or its head is set by the guest: a transfer begun before is void. */
  get generation(): number {
    return this.#generation;
  }

  get enabled(): boolean {
    return (this.#registers.get(`${this.#prefix}LEN1`) & LEN_ENABLE) !== 0;
  }

  get length(): number {
    return this.#registers.get(`${this.#prefix}LEN1`) & LEN_LENGTH;
  }

  get head(): number {
    return this.#registers.get(`${this.#prefix}H1`);
  }

  get tail(): number {
    return this.#registers.get(`${this.#prefix}T1`);
  }

  get isUsable(): boolean {
    return this.enabled && this.head < this.length && this.tail < this.length;
  }

  /** IOVA of the descriptor at head. */
  get headAddress(): bigint {
    const high = BigInt(this.#registers.get(`${this.#prefix}BAH1`));
    const low = BigInt(this.#registers.get(`${this.#prefix}BAL1`));
    // GUEST: a base near 2^64 wraps as an address adder would.
    return BigInt.asUintN(64, ((high << 32n) | low) + BigInt(this.head * ADMIN_DESCRIPTOR_BYTES));
  }

  advanceHead(): void {
    this.#registers.set(`${this.#prefix}H1`, (this.head + 1) % this.length);
  }

  /** Sets error bits in the length register, as hardware does for a ring it cannot reach. */
  flag(bits: number = LEN_CRITICAL): void {
    const name = `${this.#prefix}LEN1` as const;
    this.#registers.set(name, this.#registers.get(name) | bits);
  }

  invalidate(): void {
    this.#generation++;
  }

  clear(): void {
    this.invalidate();
    this.#registers.reset([`${this.#prefix}H1`, `${this.#prefix}T1`, `${this.#prefix}LEN1`, `${this.#prefix}BAL1`, `${this.#prefix}BAH1`]);
  }
}
