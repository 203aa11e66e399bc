/**
 * Interrupt vectors and their registers. A vector is its cells (see vector.ts of @emudev/emudev): `armed` is INTENA, `pending` the
 * latch, and lcores raise queue vectors without asking anybody. INTENA of a queue vector is bit 0 of its VFINT_DYN_CTLN1, in a page
 * that the guest may write to without a message (vector-control.ts): then it is the lcores who find that a latched event can fire.
 *
 * Vector 0 serves the admin queue as well, whose events count only while VFINT_ICR0_ENA1 has ADMINQ set. They have a latch of their
 * own, so that a queue mapped to vector 0 and the admin queue do not swallow each other's events, and it is the event that is
 * latched, not the level of VFINT_ICR01: DPDK never reads that register in interrupt mode.
 *
 * | event                     | latch       | fires when                                  |
 * | ------------------------- | ----------- | ------------------------------------------- |
 * | queue, SWINT_TRIG         | cell        | INTENA, descriptor, bus master              |
 * | message in the ARQ        | admin latch | the same, and VFINT_ICR0_ENA1.ADMINQ        |
 *
 * Evaluated on: event, INTENA, VFINT_ICR0_ENA1, new descriptor, bus master on, resume. CLEARPBA clears nothing: DPDK and FreeBSD
 * write it with every INTENA.
 *
 * Intervals (ITR) are honoured where queues raise: the back end reads VFINT_ITRN1 from the mapped page. What that leaves latched when
 * the guest re-arms fires at the end of the interval: by the lcore that has latched it, which is exact, or by a timer here, which is
 * sure. SWINT_TRIG and the admin queue wait for no interval.
 */
import type { Window } from '@emudev/dma';
import { evaluateVector, isArmed, latchEvent, raiseVector, VECTOR_ARMED, VECTOR_CELLS_BYTES, VECTOR_CONTROL, VECTOR_FD, VECTOR_FIRED, VECTOR_INTERVAL, VECTOR_PENDING } from '@emudev/emudev';
import { NUDGE_FIRST_MS, NUDGE_LIMIT_MS } from './limits.ts';
import { DYN_INTENA, DYN_INTENA_MSK, DYN_INTERVAL, DYN_INTERVAL_SHIFT, DYN_ITR_INDX_SHIFT, DYN_ITR_NONE, DYN_SWINT_TRIG, ICR0_ADMINQ } from './register-table.ts';
import type { DoorbellPages } from './doorbells.ts';
import type { RegisterFile, RegisterHandlers } from './registers.ts';
import { takeControl, writeControl } from './vector-control.ts';

const NO_FD = -1;

export interface InterruptsHost {
  /** Messages the guest has been given and not read. */
  unconsumed(): number;
}

export class Interrupts implements Disposable {
  readonly vectors: number;
  readonly handlers: RegisterHandlers;
  readonly #window: Window;
  readonly #pages: DoorbellPages;
  readonly #host: InterruptsHost;
  readonly #cells: number;
  readonly #signal: (fd: number) => boolean;
  /** As the consumer assigned them; a cell holds NO_FD instead while bus mastering is off. */
  readonly #fds: number[];
  #registers!: RegisterFile;
  #busMaster = false;
  /** Between quiesce and resume nothing is signalled. */
  #held = false;
  #adminPending = false;
  #nudge: NodeJS.Timeout | undefined;
  #nudgeMs = NUDGE_FIRST_MS;
  /** Vectors that are armed and wait for the end of their interval. */
  readonly #throttled = new Map<number, NodeJS.Timeout>();

  constructor(window: Window, vectors: number, pages: DoorbellPages, host: InterruptsHost) {
    this.vectors = vectors;
    this.#window = window;
    this.#pages = pages;
    this.#host = host;
    this.#signal = (fd) => window.sys.eventfdSignal(fd);
    this.#cells = window.alloc(vectors * VECTOR_CELLS_BYTES);
    this.#fds = new Array<number>(vectors).fill(NO_FD);
    for (let vector = 0; vector < vectors; vector++) {
      this.#store(vector, VECTOR_FD, NO_FD);
      this.#store(vector, VECTOR_CONTROL, vector === 0 ? 0 : pages.controlWord(vector));
    }
    this.handlers = {
      VFINT_DYN_CTL01: { read: () => this.#readMisc(), write: (_index, raw) => { this.#writeMisc(raw); } },
      VFINT_DYN_CTLN1: { read: (index) => this.#readQueueVector(index + 1), store: (index, raw) => { this.#writeQueueVector(index + 1, raw); } },
      VFINT_ICR0_ENA1: { write: () => { this.#evaluateMisc(); } },
      VFINT_ICR01: {
        read: () => {
          const causes = this.#registers.get('VFINT_ICR01');
          this.#registers.set('VFINT_ICR01', 0);
          return causes;
        },
      },
    };
  }

  bind(registers: RegisterFile): void {
    this.#registers = registers;
  }

  /** Window offset of a vector's cells. */
  cells(vector: number): number {
    return this.#cells + vector * VECTOR_CELLS_BYTES;
  }

  /** What the cell says: -1 while there is none or bus mastering is off. */
  fd(vector: number): number {
    return this.#load(vector, VECTOR_FD);
  }

  /** How often a vector was signalled. */
  fired(vector: number): number {
    return this.#load(vector, VECTOR_FIRED);
  }

  /** New descriptor of the consumer, -1 for none. Evaluated by `resume`. */
  setFd(vector: number, fd: number): void {
    this.#fds[vector] = fd;
    this.#store(vector, VECTOR_FD, this.#busMaster ? fd : NO_FD);
  }

  /** Events that come while it is off stay latched. */
  setBusMaster(on: boolean): void {
    this.#busMaster = on;
    for (let vector = 0; vector < this.vectors; vector++) this.#store(vector, VECTOR_FD, on ? this.#fds[vector]! : NO_FD);
    if (on) this.#evaluateAll();
  }

  hold(): void {
    this.#held = true;
  }

  resume(): void {
    this.#held = false;
    this.#evaluateAll();
  }

  /** A message lies in the ARQ, its head has moved. */
  adminEvent(): void {
    this.#registers.set('VFINT_ICR01', this.#registers.get('VFINT_ICR01') | ICR0_ADMINQ);
    this.#adminPending = true;
    this.#evaluateMisc();
  }

  /** The guest has read messages: be patient again. */
  consumed(): void {
    this.#stopNudging();
    this.#startNudging();
  }

  /** Disarmed, nothing latched, as after power-on. Descriptors stay: they are the consumer's. */
  clear(): void {
    this.#adminPending = false;
    this.#stopNudging();
    this.#forgetThrottled();
    for (let vector = 0; vector < this.vectors; vector++) {
      this.#store(vector, VECTOR_ARMED, 0);
      if (vector !== 0) this.#registers.set('VFINT_DYN_CTLN1', 0, vector - 1);
      this.#store(vector, VECTOR_PENDING, 0);
      this.#store(vector, VECTOR_INTERVAL, 0);
    }
  }

  [Symbol.dispose](): void {
    this.#stopNudging();
    this.#forgetThrottled();
    this.#window.free(this.#cells);
  }

  #readMisc(): number {
    return (this.#registers.get('VFINT_DYN_CTL01') & ~DYN_INTENA) | this.#load(0, VECTOR_ARMED);
  }

  #writeMisc(raw: number): void {
    const index = (raw >>> DYN_ITR_INDX_SHIFT) & 3;
    if (index !== DYN_ITR_NONE) this.#registers.set('VFINT_ITR01', (raw >>> DYN_INTERVAL_SHIFT) & DYN_INTERVAL, index);
    if ((raw & DYN_INTENA_MSK) === 0) this.#store(0, VECTOR_ARMED, raw & DYN_INTENA);
    if ((raw & DYN_SWINT_TRIG) !== 0) this.#trigger(0);
    this.#evaluateMisc();
  }

  #readQueueVector(vector: number): number {
    return vector < this.vectors ? this.#registers.get('VFINT_DYN_CTLN1', vector - 1) : 0;
  }

  /** The write came as a message. */
  #writeQueueVector(vector: number, raw: number): void {
    if (vector >= this.vectors) return;
    if (writeControl(this.#window.i32, this.#pages.controlWord(vector), raw)) this.#trigger(vector);
    this.#evaluate(vector);
  }

  /** SWINT_TRIG: an event that waits for no interval. */
  #trigger(vector: number): void {
    latchEvent(this.#window.i32, this.cells(vector) >>> 2, 0);
  }

  #evaluateAll(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.#evaluate(vector);
  }

  #evaluate(vector: number): void {
    if (vector === 0) return this.#evaluateMisc();
    if (this.#held) return;
    if (takeControl(this.#window.i32, this.#pages.controlWord(vector))) this.#trigger(vector);
    this.#evaluateCells(vector);
  }

  #evaluateCells(vector: number): void {
    const dueUs = evaluateVector(this.#window.i32, this.cells(vector) >>> 2, this.#signal);
    if (dueUs === 0 || !isArmed(this.#window.i32, this.cells(vector) >>> 2) || this.#throttled.has(vector)) return;
    const timer = setTimeout(() => {
      this.#throttled.delete(vector);
      this.#evaluate(vector);
    }, Math.ceil(dueUs / 1000));
    timer.unref();
    this.#throttled.set(vector, timer);
  }

  #forgetThrottled(): void {
    for (const timer of this.#throttled.values()) clearTimeout(timer);
    this.#throttled.clear();
  }

  /** Vector 0: the admin latch goes over into the cell only when it can fire, so that clearing ADMINQ still holds it back. */
  #evaluateMisc(): void {
    if (this.#held) return;
    const cells = this.cells(0) >>> 2;
    if (this.#adminPending && this.#adminArmed && this.fd(0) >= 0) {
      this.#adminPending = false;
      raiseVector(this.#window.i32, cells, this.#signal);
    } else {
      this.#evaluateCells(0);
    }
    this.#startNudging();
  }

  get #adminArmed(): boolean {
    return this.#load(0, VECTOR_ARMED) === 1 && (this.#registers.get('VFINT_ICR0_ENA1') & ICR0_ADMINQ) !== 0;
  }

  /**
   * FreeBSD reads three messages per interrupt and re-arms before it reads them: whoever has armed vector 0 and leaves messages
   * unread is interrupted again.
   */
  #startNudging(): void {
    if (this.#nudge !== undefined || !this.#adminArmed || this.#host.unconsumed() === 0) return;
    this.#nudge = setTimeout(() => {
      this.#nudge = undefined;
      if (!this.#adminArmed || this.#host.unconsumed() === 0) return;
      this.#nudgeMs = Math.min(2 * this.#nudgeMs, NUDGE_LIMIT_MS);
      this.adminEvent();
      this.#startNudging();
    }, this.#nudgeMs);
    this.#nudge.unref();
  }

  #stopNudging(): void {
    clearTimeout(this.#nudge);
    this.#nudge = undefined;
    this.#nudgeMs = NUDGE_FIRST_MS;
  }

  #load(vector: number, cell: number): number {
    return Atomics.load(this.#window.i32, (this.cells(vector) >>> 2) + cell);
  }

  #store(vector: number, cell: number, value: number): void {
    Atomics.store(this.#window.i32, (this.cells(vector) >>> 2) + cell, value);
  }
}
