import { BUFFER_BYTES, BUFFER_STRIDE_BYTES, RING_LENGTH } from './limits.ts';
import { Quiescence, type Window } from '@emudev/dma';
import type { DmaBlock, DmaMemory } from './dma-memory.ts';
import type { Doorbells } from './doorbells.ts';
import { IavfError } from './errors.ts';
import {
  QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_BUFFERS, Q_BUFFER_BYTES, Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA, Q_LENGTH, Q_NUMBER,
  Q_RING, Q_STATS, Q_STRIDE, Q_TAIL, RXQ_PATIENCE, RXQ_SKIP, RX_DESCRIPTOR_BYTES, TXQ_MAX_FRAME, TXQ_RS_HEAD, TXQ_RS_LIST, TXQ_RS_TAIL, TXQ_SINCE_RS, TXQ_USO, TX_DESCRIPTOR_BYTES,
} from './layout.ts';

const BUFFERS_BYTES = RING_LENGTH * BUFFER_STRIDE_BYTES;
/** Device-visible memory of one queue pair, each part rounded up to a page. */
export const PAIR_MEMORY_BYTES: number = RING_LENGTH * (TX_DESCRIPTOR_BYTES + RX_DESCRIPTOR_BYTES) + 2 * BUFFERS_BYTES + 4 * 4096;

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
  readonly buffers: DmaBlock;
  readonly doorbell: number;
  /** Window offset of the list of RS descriptors; Tx only. */
  readonly rsList: number;
}

/** Rings and buffers of all queue pairs, and the blocks in which lcores find them. */
export class Rings implements Disposable {
  readonly rxBlocks: readonly number[];
  readonly txBlocks: readonly number[];
  readonly #window: Window;
  readonly #doorbells: Doorbells;
  readonly #rx: readonly Ring[];
  readonly #tx: readonly Ring[];
  readonly #private: number;

  constructor(window: Window, memory: DmaMemory, doorbells: Doorbells, pairs: number) {
    this.#window = window;
    this.#doorbells = doorbells;
    this.#private = window.alloc(pairs * (2 * Q_BYTES + 4 * RING_LENGTH), 64);
    const lists = this.#private + pairs * 2 * Q_BYTES;
    const make = (queue: number, block: number, descriptorBytes: number, doorbell: number): Ring => ({
      block: this.#private + block * Q_BYTES,
      ring: memory.carve(RING_LENGTH * descriptorBytes),
      buffers: memory.carve(BUFFERS_BYTES, 64),
      doorbell,
      rsList: lists + queue * 4 * RING_LENGTH,
    });
    const queues = Array.from({ length: pairs }, (_, q) => q);
    this.#rx = queues.map((q) => make(q, 2 * q, RX_DESCRIPTOR_BYTES, doorbells.rx(q)));
    this.#tx = queues.map((q) => make(q, 2 * q + 1, TX_DESCRIPTOR_BYTES, doorbells.tx(q)));
    this.rxBlocks = this.#rx.map((ring) => ring.block);
    this.txBlocks = this.#tx.map((ring) => ring.block);
  }

  rxAddress(queue: number): bigint {
    return this.#rx[queue]!.ring.iova;
  }

  txAddress(queue: number): bigint {
    return this.#tx[queue]!.ring.iova;
  }

  /** Power-on state of a disabled queue: every Rx descriptor but one posted. Counters stay. */
  prepareRx(queue: number): void {
    const { view } = this.#window;
    const ring = this.#rx[queue]!;
    this.#prepare(ring, queue);
    view.setUint32(ring.block + Q_TAIL, RING_LENGTH - 1, true);
    view.setUint32(ring.block + RXQ_SKIP, 0, true);
    view.setUint32(ring.block + RXQ_PATIENCE, 0, true);
    for (let i = 0; i < RING_LENGTH; i++) view.setBigUint64(ring.ring.offset + i * RX_DESCRIPTOR_BYTES, ring.buffers.iova + BigInt(i * BUFFER_STRIDE_BYTES), true);
  }

  prepareTx(queue: number, maxFrameBytes: number, uso: boolean): void {
    const { view } = this.#window;
    const ring = this.#tx[queue]!;
    this.#prepare(ring, queue);
    const fields: [number, number][] = [
      [Q_TAIL, 0], [TXQ_RS_LIST, ring.rsList], [TXQ_RS_HEAD, 0], [TXQ_RS_TAIL, 0], [TXQ_SINCE_RS, 0], [TXQ_MAX_FRAME, maxFrameBytes], [TXQ_USO, uso ? 1 : 0],
    ];
    for (const [at, value] of fields) view.setUint32(ring.block + at, value, true);
  }

  #prepare(ring: Ring, queue: number): void {
    const { view, u8 } = this.#window;
    u8.fill(0, ring.ring.offset, ring.ring.offset + ring.ring.bytes);
    const fields: [number, number][] = [
      [Q_RING, ring.ring.offset], [Q_LENGTH, RING_LENGTH], [Q_HEAD, 0], [Q_DOORBELL, ring.doorbell], [Q_BUFFERS, ring.buffers.offset],
      [Q_STRIDE, BUFFER_STRIDE_BYTES], [Q_BUFFER_BYTES, BUFFER_BYTES], [Q_NUMBER, queue],
    ];
    for (const [at, value] of fields) view.setUint32(ring.block + at, value, true);
    view.setBigUint64(ring.block + Q_IOVA, ring.buffers.iova, true);
  }

  /** What the device must find in the tail registers when it enables the queues: all Rx buffers, nothing to send. */
  async ringAll(rxQueues: number, txQueues: number): Promise<void> {
    for (let q = 0; q < rxQueues; q++) await this.#doorbells.ring(this.#rx[q]!.doorbell, RING_LENGTH - 1);
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
