/** The lcore's half of a memif port: one kernel call per burst, and the system calls that waiting takes. */
import { loadKernels } from '@emudev/dma';
import {
  QUEUE_COUNTERS_BYTES, RXQ_BYTES, RXQ_ERRORS, RXQ_PACKETS, TXQ_BYTES, TXQ_ERRORS, TXQ_PACKETS, addCounter, type Burst, type LcoreContext, type PortDatapath,
} from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import type { Kernels } from './kernels-face.ts';
import { KERNELS_WASM_BASE64 } from './kernels.gen.ts';
import {
  CELL_EVENTS, CELL_QUEUES, OUTCOME_EMPTY, OUTCOME_FAULT, OUTCOME_SIGNAL, QUEUE_BURST_BYTES, QUEUE_BURST_ERRORS, QUEUE_BYTES, QUEUE_FAULTED,
  QUEUE_IDLE, QUEUE_OUTCOME, QUEUE_RING, QUEUE_STATE, QUEUE_UP, RING_FLAGS, RING_MASK_INTERRUPT,
} from './layout.ts';
import { POLLS_BEFORE_INTERRUPT } from './limits.ts';

export interface MemifInit {
  /** Window offset of the port's cells (layout.ts). */
  readonly cells: number;
  readonly rxQueues: number;
  /** Eventfds by queue: what the peer signals, and what we signal. The numbers stay, whoever is connected. */
  readonly rxFds: readonly number[];
  readonly txFds: readonly number[];
  readonly rxCounters: number;
  readonly txCounters: number;
}

class MemifDatapath implements PortDatapath {
  readonly #kernels: Kernels;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #u16: Uint16Array;
  readonly #init: MemifInit;

  constructor(context: LcoreContext, init: MemifInit) {
    this.#kernels = loadKernels<Kernels>(KERNELS_WASM_BASE64, context.memory);
    this.#u32 = context.u32;
    this.#i32 = context.i32;
    this.#u16 = new Uint16Array(context.memory.buffer);
    this.#init = init;
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const u32 = this.#u32;
    const { cells, rxCounters } = this.#init;
    const block = cells + CELL_QUEUES + queue * QUEUE_BYTES;
    const cell = block >>> 2;
    const count = this.#kernels.rxBurst(cells, block, burst.records, max < burst.capacity ? max : burst.capacity, burst.arena, burst.arenaBytes);
    const outcome = u32[cell + QUEUE_OUTCOME / 4]!;
    if (outcome === OUTCOME_EMPTY) {
      this.#idle(cell, queue);
      return 0;
    }
    if (outcome === OUTCOME_FAULT) return this.#giveUp(cell);
    const errors = u32[cell + QUEUE_BURST_ERRORS / 4]!;
    // Down, or no room in the burst.
    if (count === 0 && errors === 0) return 0;
    if (u32[cell + QUEUE_IDLE / 4] !== 0) this.#busy(cell, queue);
    const counters = (rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    if (errors !== 0) addCounter(u32, counters + RXQ_ERRORS / 4, errors);
    addCounter(u32, counters + RXQ_PACKETS / 4, count);
    addCounter(u32, counters + RXQ_BYTES / 4, u32[cell + QUEUE_BURST_BYTES / 4]!);
    return count;
  }

  /** Some more than it takes to ask for signals: a frame that comes before its peer sees that is found by them. */
  readonly pollsBeforeSleep: number = POLLS_BEFORE_INTERRUPT + 32;

  /** A poll that found nothing. After some of them the lcore may soon sleep: then the peer's signals are to wake it. */
  #idle(cell: number, queue: number): void {
    const polls = this.#u32[cell + QUEUE_IDLE / 4]!;
    if (polls >= POLLS_BEFORE_INTERRUPT) return;
    this.#u32[cell + QUEUE_IDLE / 4] = polls + 1;
    if (polls + 1 < POLLS_BEFORE_INTERRUPT) return;
    // An old signal would wake for nothing. A frame that comes before the flag is seen is found by the polls that follow.
    linux.eventfdDrain(this.#init.rxFds[queue]!);
    Atomics.store(this.#u16, (this.#u32[cell + QUEUE_RING / 4]! + RING_FLAGS) >>> 1, 0);
  }

  #busy(cell: number, queue: number): void {
    const polls = this.#u32[cell + QUEUE_IDLE / 4]!;
    this.#u32[cell + QUEUE_IDLE / 4] = 0;
    if (polls < POLLS_BEFORE_INTERRUPT) return;
    Atomics.store(this.#u16, (this.#u32[cell + QUEUE_RING / 4]! + RING_FLAGS) >>> 1, RING_MASK_INTERRUPT);
    linux.eventfdDrain(this.#init.rxFds[queue]!);
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const u32 = this.#u32;
    const { cells, rxQueues, txCounters } = this.#init;
    const block = cells + CELL_QUEUES + (rxQueues + queue) * QUEUE_BYTES;
    const cell = block >>> 2;
    const sent = this.#kernels.txBurst(cells, block, burst.records, count);
    const outcome = u32[cell + QUEUE_OUTCOME / 4]!;
    if ((outcome & OUTCOME_FAULT) !== 0) this.#giveUp(cell);
    if ((outcome & OUTCOME_SIGNAL) !== 0) linux.eventfdSignal(this.#init.txFds[queue]!);
    if (sent === 0) return 0;
    const errors = u32[cell + QUEUE_BURST_ERRORS / 4]!;
    const counters = (txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    if (errors !== 0) addCounter(u32, counters + TXQ_ERRORS / 4, errors);
    addCounter(u32, counters + TXQ_PACKETS / 4, sent - errors);
    addCounter(u32, counters + TXQ_BYTES / 4, u32[cell + QUEUE_BURST_BYTES / 4]!);
    return sent;
  }

  /** The control thread hears of it and ends the connection; until then the queue is left alone. */
  #giveUp(cell: number): 0 {
    const i32 = this.#i32;
    const events = (this.#init.cells + CELL_EVENTS) >>> 2;
    // Not over a "down" that has come meanwhile.
    Atomics.compareExchange(i32, cell + QUEUE_STATE / 4, QUEUE_UP, QUEUE_FAULTED);
    Atomics.add(i32, events, 1);
    Atomics.notify(i32, events);
    return 0;
  }
}

export function createDatapath(context: LcoreContext, init: MemifInit): PortDatapath {
  return new MemifDatapath(context, init);
}
