/**
 * The interrupts of a card's rings, as one lcore raises them: at most one per vector and interval of the guest's (ITR). What comes too
 * early is latched in the vector's cells; the lcore remembers the ring, and evaluates again when the interval is over.
 */
import { evaluateVector, monotonicMicros, raiseVector } from '@emudev/emudev';
import type { LcoreContext } from '@emudev/ethdev';
import { MAX_QUEUE_PAIRS } from '@emudev/iavf-emu/contract';
import { DEV_PAUSED, Q_ITR, Q_STATS, Q_VECTOR, QS_INTERRUPTS } from './layout.ts';

/** VFINT_ITRN1: 12 bits in units of 2 us. */
const ITR_MASK = 0xfff;
const ITR_UNIT_US = 2;
/** While the device is paused nothing is raised; who resumes it evaluates all vectors. */
const PAUSED_LOOK_US = 1000;

export class RingInterrupts {
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #paused: number;
  readonly #signal: (fd: number) => boolean;
  readonly #clock: () => number;
  /** Queue blocks whose event waits. */
  readonly #waiting = new Int32Array(2 * MAX_QUEUE_PAIRS);
  #count = 0;

  /** `device`: window offset of the device block. */
  constructor(context: Pick<LcoreContext, 'i32' | 'u32'>, device: number, signal: (fd: number) => boolean, clock: () => number = monotonicMicros) {
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#paused = (device + DEV_PAUSED) >>> 2;
    this.#signal = signal;
    this.#clock = clock;
  }

  /** After write-backs in the ring of this queue block. */
  raise(block: number): void {
    const u32 = this.#u32;
    const cells = u32[(block + Q_VECTOR) >>> 2]!;
    if (cells === 0) return;
    const counter = (block + Q_STATS + 8 * QS_INTERRUPTS) >>> 2;
    u32[counter] = u32[counter]! + 1;
    if (u32[counter] === 0) u32[counter + 1] = u32[counter + 1]! + 1;
    const itr = u32[(block + Q_ITR) >>> 2]!;
    // GUEST: any value
    const intervalUs = itr === 0 ? 0 : (u32[itr >>> 2]! & ITR_MASK) * ITR_UNIT_US;
    if (raiseVector(this.#i32, cells, this.#signal, intervalUs, this.#clock) !== 0) this.#wait(block);
  }

  #wait(block: number): void {
    for (let i = 0; i < this.#count; i++) {
      if (this.#waiting[i] === block) return;
    }
    this.#waiting[this.#count++] = block;
  }

  /** As `PortDatapath.tick`. */
  tick(): number {
    if (this.#count === 0) return 0;
    if (Atomics.load(this.#u32, this.#paused) !== 0) return PAUSED_LOOK_US;
    let first = 0;
    for (let i = this.#count - 1; i >= 0; i--) {
      // Looked up again: the guest may have mapped the ring to another vector, or to none.
      const cells = this.#u32[(this.#waiting[i]! + Q_VECTOR) >>> 2]!;
      const dueUs = cells === 0 ? 0 : evaluateVector(this.#i32, cells, this.#signal, this.#clock);
      if (dueUs === 0) this.#waiting[i] = this.#waiting[--this.#count]!;
      else if (first === 0 || dueUs < first) first = dueUs;
    }
    return first;
  }

  /** Nobody will call `tick` any more: what waits fires now. */
  close(): void {
    if (Atomics.load(this.#u32, this.#paused) !== 0) return;
    for (; this.#count > 0; this.#count--) {
      const cells = this.#u32[(this.#waiting[this.#count - 1]! + Q_VECTOR) >>> 2]!;
      if (cells !== 0) raiseVector(this.#i32, cells, this.#signal, 0, this.#clock);
    }
  }
}
