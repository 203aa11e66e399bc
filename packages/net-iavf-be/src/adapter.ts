/** The back end's state for one card: what the guest has negotiated and configured, and the window memory that shows it to the lcores. */
import { MissDesk, Quiescence, Window, type MissCells } from '@emudev/dma';
import { raiseVector, type Emudev, type ResetKind } from '@emudev/emudev';
import { ATTR_MAC, ATTR_QUEUE_PAIRS, ITR_NONE, MAX_FRAME_BYTES, MAX_QUEUE_PAIRS, MISC_VECTOR, REGION_DOORBELLS, itrOffset, rxQueueId, txQueueId } from '@emudev/iavf-emu/contract';
import { VirtchnlError, requireValue } from '@emudev/virtchnl';
import { MacFilter, VlanFilter, macNumber } from './filters.ts';
import {
  DEV_BYTES, DEV_FLAGS, DEV_IOTLB, DEV_LENDS, DEV_MAX_FRAME, DEV_PAUSED, DEV_PEER_TX_CAPS, DEV_QUEUE_PAIRS, DEV_RX_BLOCKS, DEV_TX_BLOCKS, DEV_TX_LOCK,
  DEVF_MULTICAST_PROMISC, DEVF_UNICAST_PROMISC, DEVF_VLAN_STRIP, PAUSED_AWAY, PAUSED_FOR_NOW, Q_BYTES,
} from './layout.ts';
import { VSI_ID } from './limits.ts';
import { RingInterrupts } from './ring-interrupts.ts';
import { Ring, type RingHost } from './ring.ts';
import { Rss } from './rss.ts';
import { Statistics } from './statistics.ts';

const BLOCKS_BYTES = MAX_QUEUE_PAIRS * Q_BYTES;

export class Adapter implements Disposable {
  readonly emudev: Emudev;
  readonly window: Window;
  /** Window offset of the device block. */
  readonly device: number;
  readonly tx: readonly Ring[];
  readonly rx: readonly Ring[];
  readonly macs: MacFilter;
  readonly vlans: VlanFilter;
  readonly rss: Rss;
  readonly statistics: Statistics;
  /** How lcores ask for memory that is not in the window: one cell for each Tx ring, and one for what is sent to the guest. */
  readonly misses: MissCells;
  /** Grows with every reset: what began before one must not be answered after it. */
  generation = 0;
  /** Granted capabilities; undefined until GET_VF_RESOURCES, and again after a reset. */
  capabilities: number | undefined;
  /** Queue pairs the port is polled for; undefined until somebody configures it. */
  served: number | undefined;
  resets = 0n;
  /** Told of rings that are served by DMA messages from now on, and of those whose consumer does not answer. */
  onBounce: (ring: Ring, error?: unknown) => void = () => {};
  readonly #quiescence: Quiescence;
  readonly #resources: DisposableStack;
  /** What the guest has put in place of what was provisioned; until the function is reset. */
  #guestMac: Uint8Array | undefined;
  #guestPairs: number | undefined;
  #pairs = 1;
  #ready = false;
  #locked = false;
  #disposed = false;
  /** Changes of rings that wait for lcores. */
  #changes = 0;
  /** Of bounced rings: the control thread is the one that completes them. */
  readonly #interrupts: RingInterrupts;
  #doorbells: { readonly tx: readonly number[]; readonly rx: readonly number[] } | undefined;
  /** Vectors to raise when the lock is released. */
  readonly #deferred = new Set<number>();

  /** Holds the window open until it is disposed of. Throws DmaError where the window is full. */
  constructor(emudev: Emudev) {
    this.emudev = emudev;
    using resources = new DisposableStack();
    const window = resources.use(Window.open());
    this.window = window;
    this.#quiescence = Quiescence.of(window);
    const alloc = (bytes: number): number => resources.adopt(window.alloc(bytes), (offset) => { window.free(offset); });
    this.device = alloc(DEV_BYTES);
    this.misses = resources.adopt(MissDesk.of(window).alloc(MAX_QUEUE_PAIRS + 1, (cell) => this.#bounce(cell)), (cells) => { MissDesk.of(window).free(cells); });
    const txBlocks = alloc(BLOCKS_BYTES);
    const rxBlocks = alloc(BLOCKS_BYTES);
    const asides = alloc(2 * BLOCKS_BYTES);
    this.#interrupts = new RingInterrupts(window, this.device, (fd) => window.sys.eventfdSignal(fd));
    const host = this.#ringHost();
    this.tx = Array.from({ length: MAX_QUEUE_PAIRS }, (_, q) => new Ring(window, 'tx', q, { block: txBlocks + q * Q_BYTES, aside: asides + q * Q_BYTES }, host));
    this.rx = Array.from({ length: MAX_QUEUE_PAIRS }, (_, q) => new Ring(window, 'rx', q, { block: rxBlocks + q * Q_BYTES, aside: asides + BLOCKS_BYTES + q * Q_BYTES }, host));
    resources.defer(() => {
      for (const ring of [...this.tx, ...this.rx]) ring.free();
    });
    this.macs = resources.use(new MacFilter(window, this.device));
    this.vlans = resources.use(new VlanFilter(window, this.device));
    this.rss = resources.use(new Rss(window, this.device));
    this.#set(DEV_MAX_FRAME, MAX_FRAME_BYTES);
    this.#set(DEV_TX_BLOCKS, txBlocks);
    this.#set(DEV_RX_BLOCKS, rxBlocks);
    this.statistics = new Statistics(window, this.device, this.tx, this.rx);
    this.#applyPause();
    this.#powerOn();
    this.#resources = resources.move();
  }

  #set(field: number, value: number): void {
    Atomics.store(this.window.u32, (this.device + field) >>> 2, value);
  }

  /* ---- guest memory and threads --------------------------------------------------------------------------------------- */

  /** Resolves when every burst that began before has ended. Rejects with QuiescenceTimeoutError. */
  synchronize(): Promise<void> {
    return this.#quiescence.synchronize();
  }

  /** The consumer has mapped memory. */
  ready(): void {
    this.#doorbells = {
      tx: this.tx.map((ring) => this.#doorbellOf(txQueueId(ring.pair))),
      rx: this.rx.map((ring) => this.#doorbellOf(rxQueueId(ring.pair))),
    };
    this.#set(DEV_IOTLB, this.emudev.memTable().iotlb);
    // The card may have been configured since we attached.
    this.provisioned();
    this.#ready = true;
    this.#applyPause();
  }

  /** The consumer has gone; called locked, after `reset`. */
  gone(): void {
    this.#ready = false;
    this.#applyPause();
    this.#set(DEV_IOTLB, 0);
    this.#doorbells = undefined;
  }

  /** A lock that fails is none: nobody unlocks it. */
  async lock(): Promise<void> {
    this.#locked = true;
    this.#applyPause();
    try {
      await this.synchronize();
      // A burst that has begun meanwhile may have it: it delivers nothing now, but would later, beside whoever gets the turn next.
      await this.freeTurn();
      await Promise.all([...this.tx, ...this.rx].map((ring) => ring.halt()));
    } catch (error) {
      this.unlock();
      throw error;
    }
  }

  /** Whoever still holds the turn to fill Rx rings, the same one, when every burst that has begun has ended, has died with it. */
  async freeTurn(): Promise<void> {
    const { i32 } = this.window;
    const turn = (this.device + DEV_TX_LOCK) >>> 2;
    const holder = Atomics.load(i32, turn);
    if (holder === 0) return;
    await this.synchronize();
    if (!this.#disposed) Atomics.compareExchange(i32, turn, holder, 0);
  }

  unlock(): void {
    this.#locked = false;
    this.#applyPause();
    for (const vector of this.#deferred) this.raise(vector);
    this.#deferred.clear();
    for (const ring of [...this.tx, ...this.rx]) ring.go();
  }

  #applyPause(): void {
    // What waited for lcores may end when the device block is somebody else's memory.
    if (!this.#disposed) this.#set(DEV_PAUSED, !this.#ready ? PAUSED_AWAY : this.#locked || this.#changes > 0 ? PAUSED_FOR_NOW : 0);
  }

  #ringHost(): RingHost {
    const isLocked = (): boolean => this.#locked;
    return {
      memory: () => this.emudev.memTable(),
      get isLocked() { return isLocked(); },
      raise: (ring) => {
        if (ring.vector === undefined) return;
        if (this.#locked) this.#deferred.add(ring.vector);
        else this.#interrupts.raise(ring.aside);
      },
      idle: () => { this.#interrupts.tick(); },
      bounced: (ring) => { this.onBounce(ring); },
      unreachable: (ring, error) => { this.onBounce(ring, error); },
    };
  }

  /**
   * A burst has met memory that came without a descriptor, through this one of the `misses`: the ring is bounced from now on, or, as
   * it could be any of them, all rings of what is sent to the guest. Frames wait meanwhile. False: that is no help.
   */
  async #bounce(cell: number): Promise<boolean> {
    const { generation } = this;
    this.#changes++;
    this.#applyPause();
    try {
      await this.synchronize();
      if (this.generation !== generation) return true;
      const helped = await Promise.all((cell < MAX_QUEUE_PAIRS ? [this.tx[cell]!] : this.rx).map((ring) => ring.bounce()));
      return helped.includes(true);
    } finally {
      this.#changes--;
      this.#applyPause();
    }
  }

  /** Locked: finds the rings in the changed memory table. Returns those that are lost. */
  memoryChanged(): Ring[] {
    const memory = this.emudev.memTable();
    this.#set(DEV_IOTLB, memory.iotlb);
    return [...this.tx, ...this.rx].filter((ring) => ring.relocate(memory));
  }

  #doorbellOf(id: number): number {
    if (id >= txQueueId(this.emudev.info.maxQueuePairs)) return 0;
    const doorbell = this.emudev.doorbell(id);
    // The value of a tail write matters, and only memory can be polled for it.
    if (doorbell.kind !== 'mem') throw new Error(`${this.emudev.info.name}: doorbell ${id} is of kind ${doorbell.kind}; this back end polls tails in memory`);
    return doorbell.offset;
  }

  /** Window offset of the ring's tail word; 0 while it is not known. */
  doorbell(ring: Ring): number {
    return this.#doorbells?.[ring.direction][ring.pair] ?? 0;
  }

  clearTail(ring: Ring): void {
    const offset = this.doorbell(ring);
    if (offset !== 0) Atomics.store(this.window.u32, offset >>> 2, 0);
  }

  /** Int32 index of a vector's cells. */
  cells(vector: number): number {
    return this.emudev.irqInfo(vector).cells >>> 2;
  }

  /** Has a ring raise `vector`, no more often than the interval says that its ITR index names. */
  setVector(ring: Ring, vector: number): void {
    // Vector 0 has its intervals outside of the mapped pages, and no driver writes them.
    const throttled = vector !== MISC_VECTOR && ring.itrIndex < ITR_NONE && this.emudev.regionNames().includes(REGION_DOORBELLS.name);
    ring.setVector(vector, this.cells(vector), throttled ? this.emudev.mapRegion(REGION_DOORBELLS).offset + itrOffset(ring.itrIndex, vector) : 0);
  }

  /** Raises a vector: at once, or on unlock. */
  raise(vector: number): void {
    if (this.#locked) {
      this.#deferred.add(vector);
      return;
    }
    raiseVector(this.window.i32, this.cells(vector), (fd) => this.window.sys.eventfdSignal(fd));
  }

  /* ---- what the guest has ---------------------------------------------------------------------------------------------- */

  /** Granted queue pairs. */
  get pairs(): number {
    return this.#pairs;
  }

  /** As many as REQUEST_QUEUES may ask for: more are not polled. */
  get maxPairs(): number {
    return Math.min(MAX_QUEUE_PAIRS, this.emudev.info.maxQueuePairs, this.served ?? MAX_QUEUE_PAIRS);
  }

  /** In force from the next reset on, until the function is reset. */
  requestPairs(pairs: number): void {
    this.#guestPairs = pairs;
  }

  /** The primary address: the guest's own choice, else the provisioned one. */
  get mac(): Uint8Array {
    return this.#guestMac ?? this.emudev.getAttr(ATTR_MAC);
  }

  /** Survives the guest's resets, not a function reset. */
  setGuestMac(address: Uint8Array): void {
    this.#guestMac = address.slice();
  }

  /** Throws VirtchnlError (-5) for any other VSI. */
  requireVsi(opcode: number, vsiId: number): void {
    requireValue(vsiId === VSI_ID, opcode, `VSI ${VSI_ID}`, vsiId);
  }

  /** The rings that two bitmaps name. Throws VirtchnlError (-5) for a queue that was not granted. */
  select(opcode: number, queues: { readonly txQueues: number; readonly rxQueues: number }): Ring[] {
    const granted = 2 ** this.#pairs;
    requireValue(queues.txQueues < granted && queues.rxQueues < granted, opcode, `queues below ${this.#pairs}`, `Tx 0x${queues.txQueues.toString(16)}, Rx 0x${queues.rxQueues.toString(16)}`);
    const named = (rings: readonly Ring[], bitmap: number): Ring[] => rings.filter((ring) => ((bitmap >>> ring.pair) & 1) !== 0);
    return [...named(this.tx, queues.txQueues), ...named(this.rx, queues.rxQueues)];
  }

  /** Some queue is enabled: the guest's interface is up. */
  get running(): boolean {
    return [...this.tx, ...this.rx].some((ring) => ring.enabled);
  }

  has(capability: number): boolean {
    return ((this.capabilities ?? 0) & capability) !== 0;
  }

  setPromiscuous(unicast: boolean, multicast: boolean): void {
    this.#flag(DEVF_UNICAST_PROMISC, unicast);
    this.#flag(DEVF_MULTICAST_PROMISC, multicast);
  }

  setVlanStripping(on: boolean): void {
    this.#flag(DEVF_VLAN_STRIP, on);
  }

  #flag(flag: number, on: boolean): void {
    const word = (this.device + DEV_FLAGS) >>> 2;
    if (on) Atomics.or(this.window.u32, word, flag);
    else Atomics.and(this.window.u32, word, ~flag);
  }

  /** FRAME_TX_*: what the port on the other end finishes for us. Lcores do not poll yet. */
  setPeerTxCapabilities(mask: number): void {
    this.#set(DEV_PEER_TX_CAPS, mask);
  }

  /** As `setPeerTxCapabilities`: whether frames that the guest sends may be lent (FRAME_LENT). */
  setLends(lends: boolean): void {
    this.#set(DEV_LENDS, lends ? 1 : 0);
  }

  /* ---- reset ---------------------------------------------------------------------------------------------------------- */

  /**
   * Everything the guest configured is void; called locked. A family reset (RESET_VF) keeps the guest's primary address, the
   * queue pairs it asked for and the statistics; a function reset and a new consumer begin from what was provisioned.
   */
  reset(kind: ResetKind): void {
    this.resets++;
    if (kind !== 'family') {
      this.#guestMac = undefined;
      this.#guestPairs = undefined;
      this.statistics.restartGuest();
    }
    this.#powerOn();
  }

  /** What the administrator provisioned has changed: takes effect at once while no driver has seen the old values, else at the next reset. */
  provisioned(): void {
    if (this.capabilities === undefined) this.#powerOn();
  }

  #powerOn(): void {
    this.generation++;
    this.capabilities = undefined;
    for (const ring of [...this.tx, ...this.rx]) {
      ring.reset();
      this.clearTail(ring);
    }
    this.#deferred.clear();
    this.#pairs = Math.min(this.#guestPairs ?? this.emudev.getAttr(ATTR_QUEUE_PAIRS), this.maxPairs);
    this.#set(DEV_QUEUE_PAIRS, this.#pairs);
    this.setPromiscuous(false, false);
    this.setVlanStripping(false);
    this.vlans.clear();
    this.macs.set(new Set([macNumber(this.mac)]));
    this.rss.setDefaults(this.#pairs);
  }

  /** No lcore uses the port any more. What still waits for one finds another generation. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.generation++;
    this.#resources.dispose();
  }
}

export function noMemory(opcode: number, expected: string, seen: string | number): VirtchnlError {
  return new VirtchnlError('ERR_VIRTCHNL_NO_MEMORY', { opcode, expected, seen: String(seen) });
}
