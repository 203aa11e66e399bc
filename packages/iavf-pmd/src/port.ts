import { setTimeout as sleep } from 'node:timers/promises';
import { FRAME_TX_MASK, basicXstats, type DatapathSpec, type LinkStatus, type Port, type PortConfig, type PortInfo, type PortStats } from '@emudev/ethdev';
import { Window } from '@emudev/dma';
import { linux, type Sys } from '@emudev/linux';
import { Capability, VirtchnlError, decodeEvent, type EthStats } from '@emudev/virtchnl';
import { type BufferLease, type BufferPool, type Buffers } from './buffer-pool.ts';
import type { DatapathInit } from './datapath.ts';
import { DMA_BASE, DmaMemory, POOL_BASE } from './dma-memory.ts';
import { Doorbells } from './doorbells.ts';
import { IavfError } from './errors.ts';
import { publish } from './events.ts';
import { configureQueues, disableQueues, enableQueues, granted, negotiate, readDeviceStats, setPromiscuous, type Grant, type QueuePlan } from './function.ts';
import { BUFFER_STRIDE_BYTES, DEFAULT_MTU, DEFAULT_RING_LENGTH, FRAME_OVERHEAD_BYTES, LINK_EVENT_TIMEOUT_MS, MAX_QUEUE_PAIRS, MAX_RING_LENGTH, MIN_RING_LENGTH, RING_LENGTH_MULTIPLE } from './limits.ts';
import { RX_DESCRIPTOR_BYTES, SHORT_RX_DESCRIPTOR_BYTES } from './layout.ts';
import { ADMIN_MEMORY_BYTES, Mailbox } from './mailbox.ts';
import { ADAPTIVE_VF, INTEL, PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_VENDOR_ID } from './registers.ts';
import { pairRingsBytes, Rings, type QueueCounters, type RingLengths } from './rings.ts';
import type { IavfTransport } from './transport.ts';

/** How a port uses its card; sizes in bytes. */
export interface IavfPortOptions {
  /** Queue pairs to use at most, 1 to 16; the device may grant fewer. Default 1. */
  readonly queues?: number;
  /**
   * Descriptors of each queue's receive ring, and of its transmit ring: 64 to 4096, a multiple of 32. Default 512. Each has a buffer: with many ports
   * short rings keep fewer of them in circulation; long ones last longer while nobody polls.
   */
  readonly rxDescriptors?: number;
  readonly txDescriptors?: number;
  /** Longest IP packet; frames may be 22 bytes longer. Default 1500. */
  readonly mtu?: number;
  /** Receive what is not addressed to the port, too. */
  readonly promiscuous?: boolean;
  /** Let the device take VLAN tags out of received frames. */
  readonly vlanStrip?: boolean;
  /** Receive descriptors of 16 bytes, four to a cache line, where the device has them; else, and where this is false, of 32. Default true. */
  readonly shortRxDescriptors?: boolean;
  /**
   * Frames to and from other ports of this pool are passed on without a copy. Its devices can read and write each other's frames. Where it is full, or
   * cannot be mapped for the device, the port has buffers of its own (`sharesBuffers`).
   */
  readonly pool?: BufferPool;
  readonly sys?: Sys;
}

const DOWN: LinkStatus = { up: false, speedMbps: 0 };
const NO_COUNTERS: QueueCounters = { packets: 0n, bytes: 0n, errors: 0n, noRoom: 0n, large: 0n };
const minus = (a: QueueCounters, b: QueueCounters): QueueCounters => ({
  packets: a.packets - b.packets, bytes: a.bytes - b.bytes, errors: a.errors - b.errors, noRoom: a.noRoom - b.noRoom, large: a.large - b.large,
});

/**
 * A port that drives an iavf function.
 *
 * | state   | configure | start     | stop       | reset            | device resets itself | device gone | close  |
 * | ------- | --------- | --------- | ---------- | ---------------- | -------------------- | ----------- | ------ |
 * | stopped | stopped   | started   | stopped    | stopped          | stopped              | failed      | closed |
 * | started | refused   | refused   | stopped    | started          | started              | failed      | closed |
 * | failed  | refused   | refused   | failed     | refused          | (cannot happen)      | failed      | closed |
 * | closed  | refused   | refused   | closed     | refused          | (cannot happen)      | closed      | closed |
 *
 * Refused: ERR_IAVF_STATE (a queue's geometry cannot change under an lcore; a failed port has nobody to talk to), or the error
 * that made the port fail. Calls are executed one after the other.
 */
export class IavfPort implements Port {
  readonly name: string;
  readonly #transport: IavfTransport;
  readonly #window: Window;
  readonly #memory: DmaMemory;
  readonly #mailbox: Mailbox;
  readonly #doorbells: Doorbells;
  readonly #rings: Rings;
  readonly #lease: BufferLease | undefined;
  readonly #queues: number;
  readonly #mtu: number;
  readonly #vlanStrip: boolean;
  readonly #mayBeShort: boolean;
  readonly #linkObservers = new Set<(link: LinkStatus) => void>();
  readonly #errorObservers = new Set<(error: IavfError) => void>();
  #grant: Grant | undefined;
  #promiscuous: boolean;
  #state: 'stopped' | 'started' | 'failed' | 'closed' = 'stopped';
  #config: PortConfig | undefined;
  #link: LinkStatus = DOWN;
  #linkHeard: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #failure: IavfError | undefined;
  #hasShownBuffers = false;
  #rxZero: QueueCounters[] = [];
  #txZero: QueueCounters[] = [];

  /**
   * Takes over the transport, brings the function up to GET_VF_RESOURCES. Errors: ERR_IAVF_CONFIG for options out of range, and
   * any other IavfError for a device that is not one, or not a sane one; the transport is closed then.
   */
  static async open(name: string, connect: (window: Window, sys: Sys) => Promise<IavfTransport>, options: IavfPortOptions = {}): Promise<IavfPort> {
    const { queues = 1, sys = linux } = options;
    if (!Number.isInteger(queues) || queues < 1 || queues > MAX_QUEUE_PAIRS) throw new IavfError('ERR_IAVF_CONFIG', `${queues} queues: want 1 to ${MAX_QUEUE_PAIRS}`);
    const lengths = ringLengths(options);
    const window = Window.open({ sys });
    let transport: IavfTransport;
    try {
      transport = await connect(window, sys);
    } catch (error) {
      window[Symbol.dispose]();
      throw error;
    }
    let port: IavfPort;
    let lease: BufferLease | undefined;
    try {
      await checkIdentity(transport);
      lease = await takeBuffers(name, transport, options.pool, queues * (lengths.rx + lengths.tx));
      port = new IavfPort(name, transport, window, sys, options, lengths, lease);
    } catch (error) {
      await transport.close();
      lease?.give(lease.starts, true);
      window[Symbol.dispose]();
      throw error;
    }
    try {
      await port.#bringUp();
    } catch (error) {
      await port.close();
      throw error;
    }
    return port;
  }

  private constructor(name: string, transport: IavfTransport, window: Window, sys: Sys, options: IavfPortOptions, lengths: RingLengths, lease: BufferLease | undefined) {
    this.name = name;
    this.#transport = transport;
    this.#window = window;
    this.#queues = options.queues ?? 1;
    this.#mtu = options.mtu ?? DEFAULT_MTU;
    this.#promiscuous = options.promiscuous ?? false;
    this.#vlanStrip = options.vlanStrip ?? false;
    this.#mayBeShort = options.shortRxDescriptors ?? true;
    using undo = new DisposableStack();
    this.#lease = lease;
    const count = this.#queues * (lengths.rx + lengths.tx);
    this.#memory = undo.use(new DmaMemory(window, sys, ADMIN_MEMORY_BYTES + this.#queues * pairRingsBytes(lengths) + (lease === undefined ? count * BUFFER_STRIDE_BYTES : 0)));
    this.#doorbells = undo.use(new Doorbells(transport, window, sys));
    const buffers: Buffers = lease ?? { ...this.#memory.carve(count * BUFFER_STRIDE_BYTES, 64), starts: Array.from({ length: count }, (_, i) => i * BUFFER_STRIDE_BYTES) };
    this.#rings = undo.use(new Rings(window, this.#memory, buffers, this.#doorbells, this.#queues, lengths));
    this.#mailbox = new Mailbox(transport, window, this.#memory, sys, {
      event: (payload) => {
        this.#onEvent(payload);
      },
      resetSeen: () => {
        this.#deviceResets();
      },
      failed: (error) => {
        this.#fail(error);
      },
    });
    undo.move();
    this.#rxZero = new Array<QueueCounters>(this.#queues).fill(NO_COUNTERS);
    this.#txZero = [...this.#rxZero];
    void transport.closed.then(() => {
      this.#mailbox.fail(new IavfError('ERR_IAVF_GONE', `${name}: the device has gone`));
    });
  }

  async #bringUp(): Promise<void> {
    await this.#transport.dmaMap({ iova: DMA_BASE, sizeBytes: this.#memory.bytes, fd: this.#memory.fd, address: this.#memory.address });
    await this.#mailbox.enable();
    this.#grant = await negotiate(this.#mailbox, this.#mayBeShort);
  }

  /** As `Port.info` of @emudev/ethdev: queues, capabilities and frame length are what the device has granted. */
  get info(): PortInfo {
    const grant = this.#granted();
    const queues = Math.min(this.#queues, grant.queuePairs);
    return {
      name: this.name,
      driver: 'net_iavf',
      maxRxQueues: queues,
      maxTxQueues: queues,
      // Implied by the L2 capability: no iavf device can refuse them (and TSO of UDP is checked per frame).
      txCapabilities: FRAME_TX_MASK,
      maxFrameBytes: this.#maxFrame(grant),
      mac: Uint8Array.from(grant.mac),
    };
  }

  /** Bytes of a receive descriptor, 16 or 32: see `shortRxDescriptors`. */
  get rxDescriptorBytes(): number {
    return this.#granted().shortRxDescriptors ? SHORT_RX_DESCRIPTOR_BYTES : RX_DESCRIPTOR_BYTES;
  }

  #granted(): Grant {
    if (this.#grant === undefined) throw new IavfError('ERR_IAVF_STATE', `${this.name} is not up`);
    return this.#grant;
  }

  #maxFrame(grant: Grant): number {
    return Math.min(this.#mtu + FRAME_OVERHEAD_BYTES, grant.maxFrameBytes);
  }

  /** True where every doorbell is a message (see Doorbells). */
  get trapsDoorbells(): boolean {
    return this.#doorbells.relay !== undefined;
  }

  /** True where its buffers are those of the pool in its options. */
  get sharesBuffers(): boolean {
    return this.#lease !== undefined;
  }

  /** How many queue pairs are used. IavfError ERR_IAVF_CONFIG for more than the device has granted. */
  configure(config: PortConfig): Promise<void> {
    return this.#inTurn(() => {
      this.#require('stopped');
      const most = this.info.maxRxQueues;
      for (const count of [config.rxQueues, config.txQueues]) {
        if (!Number.isInteger(count) || count < 1 || count > most) throw new IavfError('ERR_IAVF_CONFIG', `${this.name}: ${count} queues: want 1 to ${most}`);
      }
      this.#config = config;
    });
  }

  /** Configures and enables the queues; the port has to be stopped. */
  start(): Promise<void> {
    return this.#inTurn(async () => {
      this.#require('stopped');
      await this.#startQueues();
      this.#state = 'started';
    });
  }

  /** Disables the queues. Nothing where the port is not started. */
  stop(): Promise<void> {
    return this.#inTurn(() => this.#stopNow());
  }

  async #stopNow(): Promise<void> {
    if (this.#state !== 'started') return;
    this.#rings.disable();
    this.#state = 'stopped';
    this.#setLink(DOWN);
    await this.#rings.idle();
    await disableQueues(this.#mailbox, this.#granted(), this.#plan());
  }

  /** VF reset (RESET_VF) and everything set up again, under traffic if need be; frames in the rings are lost. */
  reset(): Promise<void> {
    return this.#inTurn(() => {
      if (this.#state !== 'started') this.#require('stopped');
      return this.#recover('driver', () => this.#mailbox.reset());
    });
  }

  async #recover(by: 'driver' | 'device', reset: () => Promise<void>): Promise<void> {
    publish({ type: 'reset', port: this.name, by });
    this.#rings.disable();
    this.#setLink(DOWN);
    try {
      await this.#rings.idle();
      await reset();
      await this.#mailbox.enable();
      this.#grant = await negotiate(this.#mailbox, this.#mayBeShort);
      if (this.#state === 'started') await this.#startQueues();
    } catch (error) {
      // Half a device is of no use to anybody.
      this.#mailbox.fail(error instanceof IavfError ? error : new IavfError('ERR_IAVF_GONE', `${this.name}: reset: ${String(error)}`, { cause: error }));
      throw error;
    }
  }

  /** Frees everything, whatever the device still does; stopping and resetting it is tried first. Closing twice does nothing. */
  close(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === 'closed') return;
      const alive = this.#failure === undefined;
      // Nobody has told the device where buffers are, or it has said that it is done with them.
      let unused = !this.#hasShownBuffers;
      this.#rings.disable();
      try {
        if (alive) {
          await this.#leave();
          unused = true;
        }
      } catch {
        // A device that does not want to be left is left anyway: its socket closes below.
      }
      this.#setLink(DOWN);
      this.#state = 'closed';
      this.#mailbox.close();
      // Memory under an lcore that does not let go of it is better lost than used twice.
      const idle = await this.#rings.idle().then(() => true, () => false);
      await this.#transport.close({ keepDoorbells: !idle });
      if (!idle) return;
      this.#lease?.give(this.#rings.owned(), unused);
      this.#rings[Symbol.dispose]();
      this.#doorbells[Symbol.dispose]();
      this.#memory[Symbol.dispose]();
      this.#window[Symbol.dispose]();
    });
  }

  async #leave(): Promise<void> {
    if (this.#state === 'started') await this.#stopNow();
    await this.#mailbox.reset();
    await this.#mailbox.disable(true);
    await this.#transport.setMiscVector(undefined);
    await this.#transport.dmaUnmap(DMA_BASE, this.#memory.bytes);
    if (this.#lease !== undefined) await this.#transport.dmaUnmap(POOL_BASE, this.#lease.bytes);
  }

  /** What the device last said of its link. */
  link(): LinkStatus {
    return this.#link;
  }

  onLink(observer: (link: LinkStatus) => void): Disposable {
    this.#linkObservers.add(observer);
    return { [Symbol.dispose]: () => void this.#linkObservers.delete(observer) };
  }

  /** Called once, when the port has failed: ERR_IAVF_GONE, ERR_IAVF_BAD_DEVICE, or why a reset did not work. */
  onError(observer: (error: IavfError) => void): Disposable {
    this.#errorObservers.add(observer);
    return { [Symbol.dispose]: () => void this.#errorObservers.delete(observer) };
  }

  /** Takes effect at once on a started port, else when it starts. */
  async setPromiscuous(on: boolean): Promise<void> {
    await this.#inTurn(async () => {
      this.#promiscuous = on;
      if (this.#state === 'started') await setPromiscuous(this.#mailbox, this.#granted(), on);
    });
  }

  /** The device's counters (GET_STATS): what it dropped for want of Rx buffers is only there. */
  deviceStats(): Promise<EthStats> {
    return this.#inTurn(() => readDeviceStats(this.#mailbox, this.#granted()));
  }

  /** Sums over the queues since the last `resetStats`. */
  stats(): PortStats {
    const rx = this.#rxCounters();
    const tx = this.#txCounters();
    const sum = (all: readonly QueueCounters[], field: keyof QueueCounters): bigint => all.reduce((total, one) => total + one[field], 0n);
    return {
      ipackets: sum(rx, 'packets'),
      opackets: sum(tx, 'packets'),
      ibytes: sum(rx, 'bytes'),
      obytes: sum(tx, 'bytes'),
      imissed: 0n,
      ierrors: sum(rx, 'errors'),
      oerrors: sum(tx, 'errors'),
      rxNombuf: sum(rx, 'noRoom'),
    };
  }

  /** `stats` and `xstats` count from zero. */
  resetStats(): void {
    if (this.#state === 'closed') return;
    this.#rxZero = this.#rxZero.map((_, q) => this.#rings.rxCounters(q));
    this.#txZero = this.#txZero.map((_, q) => this.#rings.txCounters(q));
  }

  xstats(): ReadonlyMap<string, bigint> {
    const all = new Map<string, bigint>(basicXstats(this.stats()));
    this.#rxCounters().forEach((counters, q) => {
      all.set(`rx_q${q}_packets`, counters.packets);
      all.set(`rx_q${q}_bytes`, counters.bytes);
      all.set(`rx_q${q}_errors`, counters.errors);
      all.set(`rx_q${q}_multi_buffer`, counters.large);
      all.set(`rx_q${q}_no_arena`, counters.noRoom);
    });
    this.#txCounters().forEach((counters, q) => {
      all.set(`tx_q${q}_packets`, counters.packets);
      all.set(`tx_q${q}_bytes`, counters.bytes);
      all.set(`tx_q${q}_errors`, counters.errors);
      all.set(`tx_q${q}_segmented`, counters.large);
      all.set(`tx_q${q}_ring_full`, counters.noRoom);
    });
    all.set('stale_replies', this.#mailbox.staleReplies);
    return all;
  }

  #rxCounters(): QueueCounters[] {
    return this.#rxZero.map((zero, q) => (this.#state === 'closed' ? NO_COUNTERS : minus(this.#rings.rxCounters(q), zero)));
  }

  #txCounters(): QueueCounters[] {
    return this.#txZero.map((zero, q) => (this.#state === 'closed' ? NO_COUNTERS : minus(this.#rings.txCounters(q), zero)));
  }

  datapath(): DatapathSpec {
    const init: DatapathInit = { rxBlocks: this.#rings.rxBlocks, txBlocks: this.#rings.txBlocks, relay: this.#doorbells.relay };
    return { module: new URL('./datapath.js', import.meta.url).href, init };
  }

  #plan(): QueuePlan {
    if (this.#config === undefined) throw new IavfError('ERR_IAVF_STATE', `${this.name}: configure first`);
    const { rxQueues, txQueues } = this.#config;
    return { rxQueues, txQueues, maxFrameBytes: this.#maxFrame(this.#granted()), vlanStrip: this.#vlanStrip, promiscuous: this.#promiscuous };
  }

  async #startQueues(): Promise<void> {
    const grant = this.#granted();
    const plan = this.#plan();
    // After a reset a device may grant fewer.
    if (Math.max(plan.rxQueues, plan.txQueues) > grant.queuePairs) throw new IavfError('ERR_IAVF_CONFIG', `${this.name}: the device grants ${grant.queuePairs} queue pairs now`);
    await this.#rings.idle();
    this.#hasShownBuffers = true;
    const format = { maxFrameBytes: plan.maxFrameBytes, uso: granted(grant, Capability.USO), shortRxDescriptors: grant.shortRxDescriptors };
    for (let q = 0; q < Math.max(plan.rxQueues, plan.txQueues); q++) this.#rings.prepare(q, format);
    await configureQueues(this.#mailbox, grant, this.#rings, plan);
    // After CONFIG_VSI_QUEUES, which clears the Tx tail; before ENABLE_QUEUES, which looks at both.
    await this.#rings.ringAll(plan.rxQueues, plan.txQueues);
    const linkHeard = new Promise<void>((resolve) => {
      this.#linkHeard = resolve;
    });
    await enableQueues(this.#mailbox, grant, plan);
    await Promise.race([linkHeard, sleep(LINK_EVENT_TIMEOUT_MS)]);
    this.#rings.enable(plan.rxQueues, plan.txQueues);
  }

  #onEvent(payload: Uint8Array): void {
    let event;
    try {
      event = decodeEvent(payload, this.#grant !== undefined && granted(this.#grant, Capability.ADV_LINK_SPEED));
    } catch (error) {
      if (!(error instanceof VirtchnlError)) throw error;
      publish({ type: 'bad-event', port: this.name, bytes: payload.length });
      return;
    }
    if (event.kind === 'link-change') {
      this.#setLink({ up: event.up, speedMbps: event.up ? event.speedMbps : 0 });
      this.#linkHeard?.();
    } else if (event.kind === 'reset-impending') {
      this.#deviceResets();
    }
  }

  #deviceResets(): void {
    this.#rings.disable();
    void this.#inTurn(() => this.#recover('device', () => this.#mailbox.resetByDevice())).catch(() => {
      // #recover has made the port fail and told so.
    });
  }

  #setLink(link: LinkStatus): void {
    if (link.up === this.#link.up && link.speedMbps === this.#link.speedMbps) return;
    this.#link = link;
    publish({ type: 'link', port: this.name, link });
    for (const observer of this.#linkObservers) observer(link);
  }

  #fail(error: IavfError): void {
    if (this.#state === 'closed') return;
    this.#failure = error;
    this.#state = 'failed';
    // Lcores stop at their next burst; a store to a doorbell before that reaches a file nobody reads.
    this.#rings.disable();
    this.#setLink(DOWN);
    publish({ type: 'failed', port: this.name, error });
    for (const observer of this.#errorObservers) observer(error);
  }

  #require(state: 'stopped'): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state !== state) throw new IavfError('ERR_IAVF_STATE', `${this.name} is ${this.#state}: want ${state}`);
  }

  #inTurn<T>(work: () => T | Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

/** Throws ERR_IAVF_CONFIG. */
function ringLengths({ rxDescriptors: rx = DEFAULT_RING_LENGTH, txDescriptors: tx = DEFAULT_RING_LENGTH }: IavfPortOptions): RingLengths {
  for (const length of [rx, tx]) {
    if (!Number.isInteger(length) || length < MIN_RING_LENGTH || length > MAX_RING_LENGTH || length % RING_LENGTH_MULTIPLE !== 0) {
      throw new IavfError('ERR_IAVF_CONFIG', `a ring of ${length} descriptors: want ${MIN_RING_LENGTH} to ${MAX_RING_LENGTH}, a multiple of ${RING_LENGTH_MULTIPLE}`);
    }
  }
  return { rx, tx };
}

/** Of the pool, if there is one and the device can be shown it. */
async function takeBuffers(name: string, transport: IavfTransport, pool: BufferPool | undefined, count: number): Promise<BufferLease | undefined> {
  if (pool === undefined) return undefined;
  const lease = pool.take(count);
  if (lease === undefined) {
    publish({ type: 'own-buffers', port: name, error: undefined });
    return undefined;
  }
  try {
    await transport.dmaMap(pool.memory);
    return lease;
  } catch (error) {
    lease.give(lease.starts, true);
    publish({ type: 'own-buffers', port: name, error });
    return undefined;
  }
}

async function checkIdentity(transport: IavfTransport): Promise<void> {
  const vendor = await transport.readConfig16(PCI_VENDOR_ID);
  const device = await transport.readConfig16(PCI_VENDOR_ID + 2);
  if (vendor !== INTEL || device !== ADAPTIVE_VF) {
    const hex = (id: number): string => id.toString(16).padStart(4, '0');
    throw new IavfError('ERR_IAVF_NOT_IAVF', `the device is ${hex(vendor)}:${hex(device)}: want 8086:1889`);
  }
  const command = await transport.readConfig16(PCI_COMMAND);
  await transport.writeConfig16(PCI_COMMAND, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}
