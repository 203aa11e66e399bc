/**
 * The interrupts of a card's rings, as one lcore raises them: at most one per vector and interval of the guest's (ITR). What comes too
 * early, or before the guest has re-armed, is latched in the vector's cells; the lcore remembers the ring, and looks again.
 *
 * A guest arms by a store into mapped memory (VFINT_DYN_CTLN1), of which nobody hears. So an event that finds the vector disarmed is
 * looked at in every loop, and all vectors of the card once in LOOK_ROUND_LOOPS: for SWINT_TRIG, which comes without an event of ours,
 * and for what others have latched (the control thread, an lcore that has stopped).
 *
 * That the guest's frames have been sent is no news that it waits for: that interrupt is put off by the interval of the Tx ring, and is
 * not raised at all if the vector fires meanwhile for what has been received, because a handler looks at all rings of its vector.
 */
import { VECTOR_CONTROL, VECTOR_FD, VECTOR_INTERVAL, VECTOR_PENDING, VECTOR_FIRED, evaluateVector, isArmed, latchEvent, monotonicMicros, raiseVector } from '@emudev/emudev';
import type { LcoreContext } from '@emudev/ethdev';
import { isQuiet, MAX_QUEUE_PAIRS, takeControl } from '@emudev/iavf-emu/contract';
import { DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, Q_BYTES, Q_ITR, Q_STATS, Q_VECTOR, QS_INTERRUPTS } from './layout.ts';
import { ARMING_LOOK_US, LOOK_ROUND_LOOPS } from './limits.ts';

/** VFINT_ITRN1: 12 bits in units of 2 us. */
const ITR_MASK = 0xfff;
const ITR_UNIT_US = 2;
/** While the device is paused nothing is raised; who resumes it evaluates all vectors. */
const PAUSED_LOOK_US = 1000;

export class RingInterrupts {
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #device: number;
  readonly #paused: number;
  readonly #signal: (fd: number) => boolean;
  readonly #clock: () => number;
  /** Queue blocks whose event waits: those of the card, and those under which the control thread raises for the same rings. */
  readonly #waiting = new Int32Array(4 * MAX_QUEUE_PAIRS);
  #count = 0;
  /** Queue blocks whose event has been put off: until when, and the vector's cells and its `fired` at that time. */
  readonly #putOff = new Int32Array(MAX_QUEUE_PAIRS);
  readonly #putOffUntil = new Uint32Array(MAX_QUEUE_PAIRS);
  readonly #putOffCells = new Int32Array(MAX_QUEUE_PAIRS);
  readonly #putOffFired = new Int32Array(MAX_QUEUE_PAIRS);
  /** How often `tick` has met it: whatever the interval, the answer may be what the lcore's next stream receives. */
  readonly #putOffLooks = new Int32Array(MAX_QUEUE_PAIRS);
  #putOffCount = 0;
  #loops = 0;

  /** `device`: window offset of the device block. */
  constructor(context: Pick<LcoreContext, 'i32' | 'u32'>, device: number, signal: (fd: number) => boolean, clock: () => number = monotonicMicros) {
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#device = device;
    this.#paused = (device + DEV_PAUSED) >>> 2;
    this.#signal = signal;
    this.#clock = clock;
  }

  /** After write-backs in the Tx ring of this queue block. */
  putOff(block: number): void {
    const u32 = this.#u32;
    const cells = u32[(block + Q_VECTOR) >>> 2]!;
    if (cells === 0) return;
    for (let i = 0; i < this.#putOffCount; i++) {
      if (this.#putOff[i] === block) return;
    }
    if (this.#isQuiet(cells)) return this.#wait(block);
    this.#takeControl(cells);
    // A driver that polls and never arms costs no look at the clock.
    if (Atomics.load(this.#i32, cells + VECTOR_PENDING) !== 0 && !isArmed(this.#i32, cells)) return this.#wait(block);
    const intervalUs = this.#intervalUs(block);
    if (intervalUs === 0) return this.raise(block);
    const i = this.#putOffCount++;
    this.#putOff[i] = block;
    this.#putOffUntil[i] = this.#clock() + intervalUs;
    this.#putOffCells[i] = cells;
    this.#putOffLooks[i] = 0;
    this.#putOffFired[i] = Atomics.load(this.#i32, cells + VECTOR_FIRED);
  }

  /** Microseconds until the first event that was put off is due; 0: there is none. */
  #raisePutOff(): number {
    const now = this.#clock();
    let first = 0;
    for (let i = this.#putOffCount - 1; i >= 0; i--) {
      const block = this.#putOff[i]!;
      const cells = this.#putOffCells[i]!;
      const same = this.#u32[(block + Q_VECTOR) >>> 2] === cells;
      const seen = same && Atomics.load(this.#i32, cells + VECTOR_FIRED) !== this.#putOffFired[i];
      const dueUs = (this.#putOffUntil[i]! - now) | 0;
      const looks = this.#putOffLooks[i]!;
      this.#putOffLooks[i] = looks + 1;
      if (same && !seen && (dueUs > 0 || looks === 0)) {
        if (first === 0 || dueUs < first) first = Math.max(dueUs, 1);
        continue;
      }
      const last = --this.#putOffCount;
      this.#putOff[i] = this.#putOff[last]!;
      this.#putOffUntil[i] = this.#putOffUntil[last]!;
      this.#putOffCells[i] = this.#putOffCells[last]!;
      this.#putOffFired[i] = this.#putOffFired[last]!;
      this.#putOffLooks[i] = this.#putOffLooks[last]!;
      if (!seen) this.raise(block);
    }
    return first;
  }

  /** Of what the ring's ITR index names. */
  #intervalUs(block: number): number {
    const itr = this.#u32[(block + Q_ITR) >>> 2]!;
    // GUEST: any value
    return itr === 0 ? 0 : (this.#u32[itr >>> 2]! & ITR_MASK) * ITR_UNIT_US;
  }

  /** After write-backs in the ring of this queue block. */
  raise(block: number): void {
    const u32 = this.#u32;
    const cells = u32[(block + Q_VECTOR) >>> 2]!;
    if (cells === 0) return;
    const counter = (block + Q_STATS + 8 * QS_INTERRUPTS) >>> 2;
    u32[counter] = u32[counter]! + 1;
    if (u32[counter] === 0) u32[counter + 1] = u32[counter + 1]! + 1;
    if (this.#isQuiet(cells) && this.#intervalUs(block) >= this.#i32[cells + VECTOR_INTERVAL]!) {
      // In case another thread fires just now: it either sees the write-backs or leaves this.
      Atomics.store(this.#i32, cells + VECTOR_PENDING, 1);
      return this.#wait(block);
    }
    // First: what the guest has stored may set the interval.
    this.#takeControl(cells);
    latchEvent(this.#i32, cells, this.#intervalUs(block));
    this.#evaluate(cells);
    if (Atomics.load(this.#i32, cells + VECTOR_PENDING) !== 0) this.#wait(block);
  }

  /**
   * An event is latched already, and the guest has neither armed nor said anything. By plain reads, a tenth of the atomic ones: that is how
   * it is in nearly every loop with a driver that polls, and `tick` looks again in the next one.
   */
  #isQuiet(cells: number): boolean {
    const i32 = this.#i32;
    const control = i32[cells + VECTOR_CONTROL]!;
    return control !== 0 && i32[cells + VECTOR_PENDING] !== 0 && isQuiet(i32, control);
  }

  #wait(block: number): void {
    for (let i = 0; i < this.#count; i++) {
      if (this.#waiting[i] === block) return;
    }
    this.#waiting[this.#count++] = block;
  }

  /** As `PortDatapath.tick`. */
  tick(): number {
    if (++this.#loops >= LOOK_ROUND_LOOPS) this.#lookRound();
    if (this.#count === 0 && this.#putOffCount === 0) return 0;
    if (Atomics.load(this.#u32, this.#paused) !== 0) return PAUSED_LOOK_US;
    let first = this.#putOffCount === 0 ? 0 : this.#raisePutOff();
    for (let i = this.#count - 1; i >= 0; i--) {
      // Looked up again: the guest may have mapped the ring to another vector, or to none.
      const cells = this.#u32[(this.#waiting[i]! + Q_VECTOR) >>> 2]!;
      if (cells !== 0 && this.#isQuiet(cells)) {
        if (this.#i32[cells + VECTOR_FD]! >= 0 && (first === 0 || ARMING_LOOK_US < first)) first = ARMING_LOOK_US;
        continue;
      }
      const dueUs = cells === 0 ? 0 : this.#evaluate(cells) || this.#armingLookUs(cells);
      if (cells === 0 || Atomics.load(this.#i32, cells + VECTOR_PENDING) === 0) this.#waiting[i] = this.#waiting[--this.#count]!;
      else if (dueUs !== 0 && (first === 0 || dueUs < first)) first = dueUs;
    }
    return first;
  }

  /** As `evaluateVector`; a vector that is not armed is not due at any time, and asks no clock. */
  #evaluate(cells: number): number {
    this.#takeControl(cells);
    if (!isArmed(this.#i32, cells)) return 0;
    return evaluateVector(this.#i32, cells, this.#signal, this.#clock);
  }

  /** Of a vector that did not fire and waits for no time: nobody hears when the guest arms it, nor may anything else wake this lcore. */
  #armingLookUs(cells: number): number {
    return Atomics.load(this.#i32, cells + VECTOR_CONTROL) !== 0 && Atomics.load(this.#i32, cells + VECTOR_FD) >= 0 ? ARMING_LOOK_US : 0;
  }

  #takeControl(cells: number): void {
    const i32 = this.#i32;
    const control = Atomics.load(i32, cells + VECTOR_CONTROL);
    // SWINT_TRIG waits for no interval.
    if (control !== 0 && takeControl(i32, control)) latchEvent(i32, cells, 0);
  }

  #lookRound(): void {
    this.#loops = 0;
    const u32 = this.#u32;
    if (Atomics.load(u32, this.#paused) !== 0) return;
    const pairs = u32[(this.#device + DEV_QUEUE_PAIRS) >>> 2]!;
    for (let blocks = DEV_TX_BLOCKS; blocks <= DEV_RX_BLOCKS; blocks += DEV_RX_BLOCKS - DEV_TX_BLOCKS) {
      const first = u32[(this.#device + blocks) >>> 2]!;
      for (let block = first; block < first + pairs * Q_BYTES; block += Q_BYTES) {
        const cells = u32[(block + Q_VECTOR) >>> 2]!;
        if (cells === 0) continue;
        this.#evaluate(cells);
        if (Atomics.load(this.#i32, cells + VECTOR_PENDING) !== 0) this.#wait(block);
      }
    }
  }

  /** Nobody will call `tick` any more: what waits fires now, if it can. */
  close(): void {
    if (Atomics.load(this.#u32, this.#paused) !== 0) return;
    for (; this.#putOffCount > 0; this.#putOffCount--) this.raise(this.#putOff[this.#putOffCount - 1]!);
    for (; this.#count > 0; this.#count--) {
      const cells = this.#u32[(this.#waiting[this.#count - 1]! + Q_VECTOR) >>> 2]!;
      if (cells !== 0) raiseVector(this.#i32, cells, this.#signal, 0, this.#clock);
    }
  }
}
