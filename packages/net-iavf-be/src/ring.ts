import type { PinnedRange, Window } from '@emudev/dma';
import type { MemTable } from '@emudev/emudev';
import { openBouncedRing } from './bounce.ts';
import { BouncedRing, QFAULT_UNREACHABLE } from './bounced-ring.ts';
import {
  Q_BAD_BUFFERS, Q_BOUNCED, Q_BUFFER, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_ITR, Q_LENGTH, Q_LENT, Q_MAX_PACKET, Q_RING, Q_SHORT, Q_STAGE, Q_STATS, Q_TSO_OFFSET,
  Q_TSO_STATE, Q_TSO_TOTAL, Q_VECTOR, QFAULT_BUFFER, QFAULT_NEVER_EOP, QFAULT_NONE, QFAULT_RING_UNMAPPED, QFAULT_TAIL, QS_DISCARDS, SHORT_RX_DESCRIPTOR_BYTES, STAGE_BYTES,
  TSOS_MSS,
} from './layout.ts';
import { BOUNCE_HALT_MS } from './limits.ts';

/** The guest's direction. */
export type Direction = 'tx' | 'rx';

export interface RingConfig {
  readonly address: bigint;
  readonly descriptors: number;
  /** Of each: TX_DESCRIPTOR_BYTES; Rx: RX_DESCRIPTOR_BYTES or SHORT_RX_DESCRIPTOR_BYTES. */
  readonly descriptorBytes: number;
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
  [QFAULT_UNREACHABLE, 'unreachable'],
]);

/** What a ring needs of its card. */
export interface RingHost {
  memory(): MemTable;
  /** Nobody may touch guest memory now. */
  readonly isLocked: boolean;
  /** Descriptors of a bounced ring have been written back. */
  raise(ring: Ring): void;
  /** A bounced ring has nothing to do at the moment. */
  idle(): void;
  /** The ring is served by DMA messages from now on. */
  bounced(ring: Ring): void;
  unreachable(ring: Ring, error: unknown): void;
}

/**
 * One guest ring and its block in the window.
 *
 * | state      | configure          | enable             | disable            | memory changed                      |
 * | ---------- | ------------------ | ------------------ | ------------------ | ----------------------------------- |
 * | void       | → configured       | forbidden: nowhere to read from | no-op | –                                  |
 * | configured | → configured       | → enabled          | no-op              | –                                   |
 * | enabled    | forbidden: disable first, lcores use the old one | no-op | → configured | translated again; not possible: faulted |
 * | faulted    | as enabled         | no-op              | → configured       | its ring is back: enabled again     |
 *
 * Kernels work on it where it is, if all of it is in the window, else (`bounced`) on a shadow of it; also from the moment on that one
 * of its buffers is in memory without a descriptor. It stays bounced until it is disabled.
 */
export class Ring {
  readonly direction: Direction;
  readonly pair: number;
  /** Window offset of the queue block. */
  readonly block: number;
  /** Window offset of a block of the same layout: what the control thread counts of a bounced ring, and the vector that it raises. */
  readonly aside: number;
  /** Vector that CONFIG_IRQ_MAP chose; undefined = no interrupt. */
  vector: number | undefined;
  /** ITR_INDX of CONFIG_IRQ_MAP: GUEST, 0 to 2 name an interval. */
  itrIndex = 0;
  readonly #window: Window;
  readonly #host: RingHost;
  /** By QFAULT_*: faults of this ring that are no longer latched, or were counted when they happened. */
  readonly #faults = new Map<number, bigint>();
  #config: RingConfig | undefined;
  #wanted = false;
  #stage = 0;
  /** Where the ring is, as long as lcores may use it. */
  #pin: PinnedRange | undefined;
  #bounced: BouncedRing | undefined;
  /** Window offset of the guest's tail word. */
  #doorbell = 0;

  constructor(window: Window, direction: Direction, pair: number, blocks: { readonly block: number; readonly aside: number }, host: RingHost) {
    this.#window = window;
    this.#host = host;
    this.direction = direction;
    this.pair = pair;
    this.block = blocks.block;
    this.aside = blocks.aside;
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

  /** The guest has enabled it, and it is served by DMA messages. */
  get bounced(): boolean {
    return this.#bounced !== undefined;
  }

  /** The ring in the window, or a shadow of it; undefined where a part of it is unmapped or not permitted. Whoever does not hand it to `enable` disposes of it. */
  locate(memory: MemTable): PinnedRange | BouncedRing | undefined {
    if (this.#config === undefined) return undefined;
    // GUEST: address and length are the guest's. A ring is read and written back.
    const { address, descriptors, descriptorBytes } = this.#config;
    const bytes = descriptors * descriptorBytes;
    // One mapping, so one permission.
    const pin = memory.translate(address, 1, 'read') === undefined ? undefined : memory.pin(address, bytes, 'write');
    return pin ?? this.#openBounced(this.#config);
  }

  #openBounced(config: RingConfig): BouncedRing | undefined {
    const host = this.#host;
    return openBouncedRing(this.#window, this.direction, config, {
      memory: () => host.memory(),
      raise: () => { host.raise(this); },
      idle: () => { host.idle(); },
      unreachable: (error) => { host.unreachable(this, error); },
    });
  }

  /** What `enable` needs, so that it cannot fail half way. ERR_WINDOW_FULL where the staging buffer does not fit. */
  reserve(): void {
    if (this.direction === 'tx' && this.#stage === 0) this.#stage = this.#window.alloc(STAGE_BYTES);
  }

  /** After `reserve`. `ring` from `locate`; `doorbell`: window offset of the tail word. */
  enable(ring: PinnedRange | BouncedRing, doorbell: number): void {
    if (this.#wanted || this.#config === undefined) return ring[Symbol.dispose]();
    this.#doorbell = doorbell;
    this.#set(Q_LENGTH, this.#config.descriptors);
    this.#set(Q_SHORT, this.direction === 'rx' && this.#config.descriptorBytes === SHORT_RX_DESCRIPTOR_BYTES ? 1 : 0);
    this.#set(Q_HEAD, 0);
    this.#set(Q_LENT, 0);
    this.#place(ring);
    this.#set(Q_FAULT, QFAULT_NONE);
    this.#set(Q_BUFFER, this.#config.bufferBytes);
    this.#set(Q_MAX_PACKET, this.#config.maxPacketBytes);
    this.#set(Q_STAGE, this.#stage);
    this.#forgetPartialFrame();
    this.#wanted = true;
    // Last: from here on the data path uses all of the above.
    this.#set(Q_ENABLED, 1);
    this.go();
  }

  /** Where the data path finds it; no burst uses it. */
  #place(ring: PinnedRange | BouncedRing): void {
    if (!(ring instanceof BouncedRing)) {
      this.#hold(ring);
      this.#set(Q_BOUNCED, 0);
      this.#set(Q_RING, ring.offset);
      this.#set(Q_DOORBELL, this.#doorbell);
      return;
    }
    this.#hold(undefined);
    this.#bounced = ring;
    ring.begin({ block: this.block, aside: this.aside, doorbell: this.#doorbell }, this.#get(Q_HEAD));
    this.#set(Q_BOUNCED, 1);
    this.#set(Q_RING, ring.offset);
    this.#set(Q_DOORBELL, ring.tail);
    this.#host.bounced(this);
  }

  /**
   * Lcores are quiescent: what it names is not in the window, and never will be. False where that does not help. Resolves when the
   * guest's descriptors are in the shadow: a burst that found none would take them for missing.
   */
  async bounce(): Promise<boolean> {
    if (!this.#wanted || this.bounced || this.#config === undefined || this.#get(Q_ENABLED) === 0) return false;
    const ring = this.#openBounced(this.#config);
    if (ring === undefined) return false;
    this.#place(ring);
    this.go();
    // A consumer that does not answer makes nobody but its own frames wait, and not for long.
    using deadline = new DisposableStack();
    const late = new Promise<void>((resolve) => { deadline.adopt(setTimeout(resolve, BOUNCE_HALT_MS), clearTimeout); });
    await Promise.race([ring.caughtUp(), late]);
    return true;
  }

  /** A bounced ring goes on, unless it is lost or guest memory is locked. */
  go(): void {
    if (this.#wanted && this.#get(Q_ENABLED) !== 0 && !this.#host.isLocked) this.#bounced?.go();
  }

  /** Resolves when no message of a bounced ring is on its way any more, or its consumer had the time to answer. */
  async halt(): Promise<void> {
    await this.#bounced?.halt();
  }

  /** Keeps new bursts away. Await the quiescence and `halt`, then `clear`. */
  disable(): void {
    this.#wanted = false;
    this.#set(Q_ENABLED, 0);
  }

  /** After `disable`, quiescence and `halt`: forgets everything but the configuration. */
  clear(): void {
    const fault = this.#get(Q_FAULT);
    if (fault !== QFAULT_NONE && fault !== QFAULT_RING_UNMAPPED) this.#count(fault);
    this.#set(Q_FAULT, QFAULT_NONE);
    this.#set(Q_RING, 0);
    this.#hold(undefined);
    this.#endBounce();
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
    for (const block of [this.block, this.aside]) {
      Atomics.store(this.#window.u32, (block + Q_ITR) >>> 2, itr);
      Atomics.store(this.#window.u32, (block + Q_VECTOR) >>> 2, vector === undefined ? 0 : cells);
    }
  }

  /** The memory table has changed; the lcores are quiescent. Returns true if the ring has just been lost. */
  relocate(memory: MemTable): boolean {
    if (!this.#wanted) return false;
    const fault = this.#get(Q_FAULT);
    this.#bounced?.forget();
    const ring = this.#bounced === undefined ? this.locate(memory) : undefined;
    if (ring !== undefined) this.#place(ring);
    else this.#hold(undefined);
    if (ring !== undefined || this.#bounced?.isReachable === true) {
      if (fault === QFAULT_RING_UNMAPPED) this.#set(Q_FAULT, QFAULT_NONE);
      this.#set(Q_ENABLED, 1);
      return false;
    }
    this.#set(Q_ENABLED, 0);
    if (this.#bounced === undefined) this.#set(Q_RING, 0);
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

  #endBounce(): void {
    this.#bounced?.[Symbol.dispose]();
    this.#bounced = undefined;
  }

  #hold(ring: PinnedRange | undefined): void {
    this.#pin?.[Symbol.dispose]();
    this.#pin = ring;
  }

  /** No lcore uses the port any more. */
  free(): void {
    this.#hold(undefined);
    this.#endBounce();
    if (this.#stage !== 0) this.#window.free(this.#stage);
    this.#stage = 0;
  }
}
