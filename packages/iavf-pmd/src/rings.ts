import type { Buffers } from './buffer-pool.ts';
import { BUFFER_BYTES } from './limits.ts';
import { Quiescence, type Window } from '@emudev/dma';
import type { DmaBlock, DmaMemory } from './dma-memory.ts';
import type { Doorbells } from './doorbells.ts';
import { IavfError } from './errors.ts';
import {
  QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_BUFFERS, Q_BUFFER_BYTES, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA, Q_LENGTH, Q_NUMBER,
  Q_RING, Q_SLOTS, Q_POOL_BYTES, Q_STATS, Q_TAIL, RXQ_LAST, RXQ_SHORT, RXQ_SKIP, RX_DESCRIPTOR_BYTES, SHORT_RX_DESCRIPTOR_BYTES, TXQ_MAX_FRAME, TXQ_PARTNER, TXQ_RS_HEAD, TXQ_RS_LIST, TXQ_RS_TAIL, TXQ_SINCE_RS, TXQ_USO, TX_DESCRIPTOR_BYTES,
} from './layout.ts';

/** Descriptors of the two rings of each queue pair. */
export interface RingLengths {
  readonly rx: number;
  readonly tx: number;
}

/** Device-visible memory of the rings of one queue pair, each rounded up to a page. Whether a device has short descriptors is known later, and may change when it is reset. */
export const pairRingsBytes = ({ rx, tx }: RingLengths): number => tx * TX_DESCRIPTOR_BYTES + rx * RX_DESCRIPTOR_BYTES + 2 * 4096;
/** Private memory of one queue pair: blocks, slots of both rings, RS list. */
const pairPrivateBytes = ({ rx, tx }: RingLengths): number => 2 * Q_BYTES + Math.ceil((4 * (rx + 2 * tx)) / 64) * 64;

/** What has been agreed upon with the device. */
export interface RingFormat {
  readonly maxFrameBytes: number;
  /** It segments UDP. */
  readonly uso: boolean;
  readonly shortRxDescriptors: boolean;
}

export interface QueueCounters {
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly errors: bigint;
  readonly noRoom: bigint;
  readonly large: bigint;
}

interface Ring {
  /** Window offset of the private queue block. */
  readonly block: number;
  readonly ring: DmaBlock;
  readonly doorbell: number;
  /** Window offset of Q_SLOTS. */
  readonly slots: number;
}

/** Rings of all queue pairs, which buffer each slot has, and the blocks in which lcores find them. */
export class Rings implements Disposable {
  readonly lengths: RingLengths;
  readonly rxBlocks: readonly number[];
  readonly txBlocks: readonly number[];
  readonly #window: Window;
  readonly #doorbells: Doorbells;
  readonly #rx: readonly Ring[];
  readonly #tx: readonly Ring[];
  readonly #private: number;
  /** Window offsets of each pair's RS list (TXQ_RS_LIST). */
  readonly #lists: readonly number[];
  readonly #buffers: Buffers;

  /** `buffers`: one for each slot of all rings. */
  constructor(window: Window, memory: DmaMemory, buffers: Buffers, doorbells: Doorbells, pairs: number, lengths: RingLengths) {
    this.lengths = lengths;
    this.#window = window;
    this.#buffers = buffers;
    this.#doorbells = doorbells;
    const privateBytes = pairPrivateBytes(lengths);
    this.#private = window.alloc(pairs * privateBytes, 64);
    const queues = Array.from({ length: pairs }, (_, q) => {
      const block = this.#private + q * privateBytes;
      const slots = block + 2 * Q_BYTES;
      return {
        rx: { block, ring: memory.carve(lengths.rx * RX_DESCRIPTOR_BYTES), doorbell: doorbells.rx(q), slots },
        tx: { block: block + Q_BYTES, ring: memory.carve(lengths.tx * TX_DESCRIPTOR_BYTES), doorbell: doorbells.tx(q), slots: slots + 4 * lengths.rx },
        lists: slots + 4 * (lengths.rx + lengths.tx),
      };
    });
    this.#rx = queues.map(({ rx }) => rx);
    this.#tx = queues.map(({ tx }) => tx);
    this.#lists = queues.map(({ lists }) => lists);
    this.rxBlocks = this.#rx.map((ring) => ring.block);
    this.txBlocks = this.#tx.map((ring) => ring.block);
    this.#eachSlot((word, n) => { window.u32[word] = buffers.starts[n]!; });
  }

  /** By queue pair, its Rx slots first: `visit` with the index of the u32 that says which buffer a slot has. */
  #eachSlot(visit: (word: number, slot: number) => void): void {
    const { rx, tx } = this.lengths;
    for (let q = 0; q < this.#rx.length; q++) {
      for (let i = 0; i < rx; i++) visit((this.#rx[q]!.slots >>> 2) + i, q * (rx + tx) + i);
      for (let i = 0; i < tx; i++) visit((this.#tx[q]!.slots >>> 2) + i, q * (rx + tx) + rx + i);
    }
  }

  /** Where in the pool the buffers begin that the slots have by now; no lcore is in a burst. */
  owned(): number[] {
    const starts: number[] = [];
    this.#eachSlot((word) => { starts.push(this.#window.u32[word]!); });
    return starts;
  }

  rxAddress(queue: number): bigint {
    return this.#rx[queue]!.ring.iova;
  }

  txAddress(queue: number): bigint {
    return this.#tx[queue]!.ring.iova;
  }

  /** Power-on state of a disabled queue pair: every Rx descriptor but one posted. Counters stay, and so does each slot's buffer: what it once had may be another port's. */
  prepare(queue: number, { maxFrameBytes, uso, shortRxDescriptors }: RingFormat): void {
    const { view } = this.#window;
    const rx = this.#rx[queue]!;
    const tx = this.#tx[queue]!;
    const rsList = this.#lists[queue]!;
    this.#prepare(rx, queue, this.lengths.rx);
    this.#prepare(tx, queue, this.lengths.tx);
    const fields: [number, number][] = [
      [rx.block + Q_TAIL, this.lengths.rx - 1], [rx.block + RXQ_SKIP, 0], [rx.block + RXQ_LAST, 0], [rx.block + RXQ_SHORT, shortRxDescriptors ? 1 : 0],
      [tx.block + Q_TAIL, 0], [tx.block + TXQ_RS_LIST, rsList], [tx.block + TXQ_RS_HEAD, 0], [tx.block + TXQ_RS_TAIL, 0], [tx.block + TXQ_SINCE_RS, 0],
      [tx.block + TXQ_MAX_FRAME, maxFrameBytes], [tx.block + TXQ_USO, uso ? 1 : 0], [tx.block + TXQ_PARTNER, 0],
    ];
    for (const [at, value] of fields) view.setUint32(at, value, true);
    const stride = shortRxDescriptors ? SHORT_RX_DESCRIPTOR_BYTES : RX_DESCRIPTOR_BYTES;
    for (let i = 0; i < this.lengths.rx; i++) {
      view.setBigUint64(rx.ring.offset + i * stride, this.#buffers.iova + BigInt(view.getUint32(rx.slots + 4 * i, true)), true);
    }
  }

  #prepare(ring: Ring, queue: number, length: number): void {
    const { view, u8 } = this.#window;
    u8.fill(0, ring.ring.offset, ring.ring.offset + ring.ring.bytes);
    const fields: [number, number][] = [
      [Q_RING, ring.ring.offset], [Q_LENGTH, length], [Q_HEAD, 0], [Q_DOORBELL, ring.doorbell], [Q_BUFFERS, this.#buffers.offset],
      [Q_POOL_BYTES, this.#buffers.bytes], [Q_BUFFER_BYTES, BUFFER_BYTES], [Q_NUMBER, queue], [Q_SLOTS, ring.slots],
    ];
    for (const [at, value] of fields) view.setUint32(ring.block + at, value, true);
    view.setBigUint64(ring.block + Q_IOVA, this.#buffers.iova, true);
  }

  /** What the device must find in the tail registers when it enables the queues: all Rx buffers, nothing to send. */
  async ringAll(rxQueues: number, txQueues: number): Promise<void> {
    for (let q = 0; q < rxQueues; q++) await this.#doorbells.ring(this.#rx[q]!.doorbell, this.lengths.rx - 1);
    for (let q = 0; q < txQueues; q++) await this.#doorbells.ring(this.#tx[q]!.doorbell, 0);
  }

  enable(rxQueues: number, txQueues: number): void {
    for (const ring of [...this.#rx.slice(0, rxQueues), ...this.#tx.slice(0, txQueues)]) Atomics.store(this.#window.u32, (ring.block + Q_ENABLED) >>> 2, 1);
  }

  /** Bursts return 0 from now on; those under way go on, see `idle`. */
  disable(): void {
    for (const ring of [...this.#rx, ...this.#tx]) Atomics.store(this.#window.u32, (ring.block + Q_ENABLED) >>> 2, 0);
  }

  /** After `disable`: resolves when every lcore has ended its burst and let go of its records. ERR_IAVF_BUSY if one does not. */
  async idle(): Promise<void> {
    try {
      await Quiescence.of(this.#window).synchronize();
    } catch (error) {
      throw new IavfError('ERR_IAVF_BUSY', `an lcore holds the rings: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  rxCounters(queue: number): QueueCounters {
    return this.#counters(this.#rx[queue]!.block);
  }

  txCounters(queue: number): QueueCounters {
    return this.#counters(this.#tx[queue]!.block);
  }

  #counters(block: number): QueueCounters {
    const at = (counter: number): bigint => this.#window.view.getBigUint64(block + Q_STATS + 8 * counter, true);
    return { packets: at(QS_PACKETS), bytes: at(QS_BYTES), errors: at(QS_ERRORS), noRoom: at(QS_NO_ROOM), large: at(QS_LARGE) };
  }

  [Symbol.dispose](): void {
    this.#window.free(this.#private);
  }
}
