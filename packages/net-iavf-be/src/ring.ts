import type { PinnedRange, Window } from '@emudev/dma';
import type { MemTable } from '@emudev/emudev';
import {
  Q_BAD_BUFFERS, Q_BUFFER, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_ITR, Q_LENGTH, Q_MAX_PACKET, Q_RING, Q_STAGE, Q_STATS, Q_TSO_OFFSET,
  Q_TSO_STATE, Q_TSO_TOTAL, Q_VECTOR, QFAULT_BUFFER, QFAULT_NEVER_EOP, QFAULT_NONE, QFAULT_RING_UNMAPPED, QFAULT_TAIL, QS_DISCARDS, RX_DESCRIPTOR_BYTES, STAGE_BYTES,
  TSOS_MSS, TX_DESCRIPTOR_BYTES,
} from './layout.ts';

/** The guest's direction. */
export type Direction = 'tx' | 'rx';

export interface RingConfig {
  readonly address: bigint;
  readonly descriptors: number;
  /** Rx: bytes per guest buffer. */
  readonly bufferBytes: number;
  /** Rx: largest frame, with FCS. */
  readonly maxPacketBytes: number;
}

export const FAULT_NAMES: ReadonlyMap<number, string> = new Map([
  [QFAULT_TAIL, 'tail'],
  [QFAULT_RING_UNMAPPED, 'ring_unmapped'],
  [QFAULT_NEVER_EOP, 'never_eop'],
  [QFAULT_BUFFER, 'buffer'],
]);

/**
 * One guest ring and its block in the window.
 *
 * | state      | configure          | enable             | disable            | memory changed                      |
 * | ---------- | ------------------ | ------------------ | ------------------ | ----------------------------------- |
 * | void       | → configured       | forbidden: nowhere to read from | no-op | –                                  |
 * | configured | → configured       | → enabled          | no-op              | –                                   |
 * | enabled    | forbidden: disable first, lcores use the old one | no-op | → configured | translated again; not possible: faulted |
 * | faulted    | as enabled         | no-op              | → configured       | its ring is back: enabled again     |
 */
export class Ring {
  readonly direction: Direction;
  readonly pair: number;
  /** Window offset of the queue block. */
  readonly block: number;
  /** Vector that CONFIG_IRQ_MAP chose; undefined = no interrupt. */
  vector: number | undefined;
  /** ITR_INDX of CONFIG_IRQ_MAP: GUEST, 0 to 2 name an interval. */
  itrIndex = 0;
  readonly #window: Window;
  /** By QFAULT_*: faults of this ring that are no longer latched, or were counted when they happened. */
  readonly #faults = new Map<number, bigint>();
  #config: RingConfig | undefined;
  #wanted = false;
  #stage = 0;
  /** Where the ring is, as long as lcores may use it. */
  #pin: PinnedRange | undefined;

  constructor(window: Window, direction: Direction, pair: number, block: number) {
    this.#window = window;
    this.direction = direction;
    this.pair = pair;
    this.block = block;
  }

  get configured(): boolean {
    return this.#config !== undefined;
  }

  /** The guest has enabled it; it may be faulted. */
  get enabled(): boolean {
    return this.#wanted;
  }

  #word(field: number): number {
    return (this.block + field) >>> 2;
  }

  #set(field: number, value: number): void {
    Atomics.store(this.#window.u32, this.#word(field), value);
  }

  #get(field: number): number {
    return Atomics.load(this.#window.u32, this.#word(field));
  }

  configure(config: RingConfig): void {
    this.#config = config;
    this.#set(Q_HEAD, 0);
  }

  /** The ring in the window; undefined where a part of it is unmapped, not permitted, or elsewhere. Whoever does not hand it to `enable` disposes of it. */
  locate(memory: MemTable): PinnedRange | undefined {
    if (this.#config === undefined) return undefined;
    // GUEST: address and length are the guest's. A ring is read and written back.
    const { address, descriptors } = this.#config;
    const bytes = descriptors * (this.direction === 'tx' ? TX_DESCRIPTOR_BYTES : RX_DESCRIPTOR_BYTES);
    if (memory.translate(address, 1, 'read') === undefined) return undefined;
    // One mapping, so one permission.
    return memory.pin(address, bytes, 'write');
  }

  /** What `enable` needs, so that it cannot fail half way. ERR_WINDOW_FULL where the staging buffer does not fit. */
  reserve(): void {
    if (this.direction === 'tx' && this.#stage === 0) this.#stage = this.#window.alloc(STAGE_BYTES);
  }

  /** After `reserve`. `ring` from `locate`; `doorbell`: window offset of the tail word. */
  enable(ring: PinnedRange, doorbell: number): void {
    if (this.#wanted || this.#config === undefined) return ring[Symbol.dispose]();
    this.#hold(ring);
    this.#set(Q_RING, ring.offset);
    this.#set(Q_LENGTH, this.#config.descriptors);
    this.#set(Q_HEAD, 0);
    this.#set(Q_DOORBELL, doorbell);
    this.#set(Q_FAULT, QFAULT_NONE);
    this.#set(Q_BUFFER, this.#config.bufferBytes);
    this.#set(Q_MAX_PACKET, this.#config.maxPacketBytes);
    this.#set(Q_STAGE, this.#stage);
    this.#forgetPartialFrame();
    this.#wanted = true;
    // Last: from here on the data path uses all of the above.
    this.#set(Q_ENABLED, 1);
  }

  /** Keeps new bursts away. Await the quiescence, then `clear`. */
  disable(): void {
    this.#wanted = false;
    this.#set(Q_ENABLED, 0);
  }

  /** After `disable` and quiescence: forgets everything but the configuration. */
  clear(): void {
    const fault = this.#get(Q_FAULT);
    if (fault !== QFAULT_NONE && fault !== QFAULT_RING_UNMAPPED) this.#count(fault);
    this.#set(Q_FAULT, QFAULT_NONE);
    this.#set(Q_RING, 0);
    this.#hold(undefined);
    this.#set(Q_HEAD, 0);
    this.#countPartialFrame();
    this.#forgetPartialFrame();
  }

  /** The guest has its descriptors back, so what has not left the staging buffer is lost: counted as the packets it would have been. */
  #countPartialFrame(): void {
    const total = this.#get(Q_TSO_TOTAL);
    if (total === 0) return;
    const { view } = this.#window;
    const lost = Math.ceil((total - this.#get(Q_TSO_OFFSET)) / view.getUint16(this.block + Q_TSO_STATE + TSOS_MSS, true));
    const counter = this.block + Q_STATS + 8 * QS_DISCARDS;
    view.setBigUint64(counter, view.getBigUint64(counter, true) + BigInt(lost), true);
  }

  /** After quiescence: power-on state. */
  reset(): void {
    this.disable();
    this.clear();
    this.#config = undefined;
    this.setVector(undefined, 0, 0);
  }

  /** `cells`: Int32 index of the vector's cells; `itr`: window offset of its interval. Words that stand alone: lcores may be running. */
  setVector(vector: number | undefined, cells: number, itr: number): void {
    this.vector = vector;
    this.#set(Q_ITR, itr);
    this.#set(Q_VECTOR, vector === undefined ? 0 : cells);
  }

  /** The memory table has changed; the lcores are quiescent. Returns true if the ring has just been lost. */
  relocate(memory: MemTable): boolean {
    if (!this.#wanted) return false;
    const ring = this.locate(memory);
    const fault = this.#get(Q_FAULT);
    this.#hold(ring);
    if (ring !== undefined) {
      this.#set(Q_RING, ring.offset);
      if (fault === QFAULT_RING_UNMAPPED) this.#set(Q_FAULT, QFAULT_NONE);
      this.#set(Q_ENABLED, 1);
      return false;
    }
    this.#set(Q_ENABLED, 0);
    this.#set(Q_RING, 0);
    if (fault !== QFAULT_NONE) return false;
    this.#set(Q_FAULT, QFAULT_RING_UNMAPPED);
    this.#count(QFAULT_RING_UNMAPPED);
    return true;
  }

  /** How often the ring was faulted for this reason, QFAULT_*, including now. */
  faults(reason: number): bigint {
    const latched = reason !== QFAULT_RING_UNMAPPED && this.#get(Q_FAULT) === reason ? 1n : 0n;
    return (this.#faults.get(reason) ?? 0n) + latched;
  }

  #count(reason: number): void {
    this.#faults.set(reason, (this.#faults.get(reason) ?? 0n) + 1n);
  }

  #forgetPartialFrame(): void {
    this.#set(Q_TSO_OFFSET, 0);
    this.#set(Q_TSO_TOTAL, 0);
    this.#set(Q_BAD_BUFFERS, 0);
  }

  #hold(ring: PinnedRange | undefined): void {
    this.#pin?.[Symbol.dispose]();
    this.#pin = ring;
  }

  /** No lcore uses the port any more. */
  free(): void {
    this.#hold(undefined);
    if (this.#stage !== 0) this.#window.free(this.#stage);
    this.#stage = 0;
  }
}
