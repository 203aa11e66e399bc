import type { Window } from '@emudev/dma';
import { COUNTER_BYTES, readCounter } from './counter.ts';
import type { PortStats } from './port.ts';

/** One cache line per queue and direction; `addCounter(u32, (block + RXQ_…) >>> 2, n)`. */
export const QUEUE_COUNTERS_BYTES: number = 4 * COUNTER_BYTES;
/** Byte offset in an Rx queue's block: frames received. */
export const RXQ_PACKETS = 0;
/** Byte offset in an Rx queue's block: bytes received. */
export const RXQ_BYTES: number = COUNTER_BYTES;
/** Byte offset in an Rx queue's block: frames lost because there was nowhere to put them. */
export const RXQ_MISSED: number = 2 * COUNTER_BYTES;
/** Byte offset in an Rx queue's block: frames that came and were not usable. */
export const RXQ_ERRORS: number = 3 * COUNTER_BYTES;
/** Byte offset in a Tx queue's block: frames sent. */
export const TXQ_PACKETS = 0;
/** Byte offset in a Tx queue's block: bytes sent. */
export const TXQ_BYTES: number = COUNTER_BYTES;
/** Byte offset in a Tx queue's block: frames taken that could not be sent. */
export const TXQ_ERRORS: number = 2 * COUNTER_BYTES;

const QUEUE_FIELDS = 4;

/**
 * A port's counters, one block per queue so that each has one writer. A port of one's own needs no more than this for
 * `stats`, `resetStats` and `xstats`: data paths write the cells, this class reads them. A reset keeps the cells (they belong
 * to the lcores) and remembers where they stood.
 */
export class PortCounters implements Disposable {
  readonly #window: Window;
  readonly #base: number;
  readonly #rxQueues: number;
  readonly #txQueues: number;
  readonly #zero: bigint[];
  #disposed = false;

  constructor(window: Window, rxQueues: number, txQueues: number) {
    this.#window = window;
    this.#rxQueues = rxQueues;
    this.#txQueues = txQueues;
    this.#base = window.alloc(Math.max(1, rxQueues + txQueues) * QUEUE_COUNTERS_BYTES, 64);
    this.#zero = new Array<bigint>((rxQueues + txQueues) * QUEUE_FIELDS).fill(0n);
  }

  /** Window offset of the first Rx queue's block; the others follow, then the Tx queues'. Plain numbers for a `DatapathSpec`. */
  get base(): number {
    return this.#base;
  }

  /** Window offset of an Rx queue's block of counters. */
  rxBlock(queue: number): number {
    return this.#base + queue * QUEUE_COUNTERS_BYTES;
  }

  /** Window offset of a Tx queue's block of counters. */
  txBlock(queue: number): number {
    return this.#base + (this.#rxQueues + queue) * QUEUE_COUNTERS_BYTES;
  }

  #read(block: number, field: number): bigint {
    const cell = block * QUEUE_FIELDS + field;
    return readCounter(this.#window.u32, (this.#base + cell * COUNTER_BYTES) >>> 2) - this.#zero[cell]!;
  }

  #sum(from: number, count: number, field: number): bigint {
    let sum = 0n;
    for (let block = from; block < from + count; block++) sum += this.#read(block, field);
    return sum;
  }

  /** Sums over all queues since the last `reset`. */
  stats(): PortStats {
    const rx = this.#rxQueues;
    const tx = this.#txQueues;
    return {
      ipackets: this.#sum(0, rx, 0),
      ibytes: this.#sum(0, rx, 1),
      imissed: this.#sum(0, rx, 2),
      ierrors: this.#sum(0, rx, 3),
      opackets: this.#sum(rx, tx, 0),
      obytes: this.#sum(rx, tx, 1),
      oerrors: this.#sum(rx, tx, 2),
      rxNombuf: 0n,
    };
  }

  /** Counts from zero. */
  reset(): void {
    for (let cell = 0; cell < this.#zero.length; cell++) {
      this.#zero[cell] = readCounter(this.#window.u32, (this.#base + cell * COUNTER_BYTES) >>> 2);
    }
  }

  /** DPDK's names; `more` (a driver's own counters) comes after them. */
  xstats(more: Iterable<readonly [string, bigint]> = []): ReadonlyMap<string, bigint> {
    const all = new Map<string, bigint>(basicXstats(this.stats()));
    for (let q = 0; q < this.#rxQueues; q++) {
      all.set(`rx_q${String(q)}_packets`, this.#read(q, 0));
      all.set(`rx_q${String(q)}_bytes`, this.#read(q, 1));
      all.set(`rx_q${String(q)}_errors`, this.#read(q, 3));
    }
    for (let q = 0; q < this.#txQueues; q++) {
      all.set(`tx_q${String(q)}_packets`, this.#read(this.#rxQueues + q, 0));
      all.set(`tx_q${String(q)}_bytes`, this.#read(this.#rxQueues + q, 1));
    }
    for (const [name, value] of more) all.set(name, value);
    return all;
  }

  /** Not before every lcore has stopped using the port. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#window.free(this.#base);
  }
}

/** The eight basic statistics under the names DPDK's extended statistics begin with. */
export function basicXstats(stats: PortStats): [string, bigint][] {
  return [
    ['rx_good_packets', stats.ipackets],
    ['tx_good_packets', stats.opackets],
    ['rx_good_bytes', stats.ibytes],
    ['tx_good_bytes', stats.obytes],
    ['rx_missed_errors', stats.imissed],
    ['rx_errors', stats.ierrors],
    ['tx_errors', stats.oerrors],
    ['rx_mbuf_allocation_errors', stats.rxNombuf],
  ];
}
