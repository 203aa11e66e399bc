import { randomBytes } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import { Quiescence, QuiescenceTimeoutError, type Window } from '@emudev/dma';
import { SoftwarePort, type DatapathSpec } from '@emudev/ethdev';
import { LinuxError, linux, type Sys } from '@emudev/linux';
import type { Attachment, Ring } from './attachment.ts';
import { ClientSession, planRegion, type ClientInterface } from './client-session.ts';
import type { MemifInit } from './datapath.ts';
import { MemifError } from './errors.ts';
import { MEMIF_CHANNEL, type MemifEvent } from './events.ts';
import {
  CELL_EVENTS, CELL_QUEUES, CELL_REGIONS, CELL_REGION_TABLE, DESCRIPTOR_BYTES, DESCRIPTOR_LENGTH, DESCRIPTOR_OFFSET, FAULT_BUFFER, QUEUE_BUFFERS, QUEUE_BUFFERS_OFFSET, QUEUE_BUFFER_BYTES, QUEUE_BUFFER_STRIDE, QUEUE_BYTES,
  QUEUE_DOWN, QUEUE_FAULT, QUEUE_FAULTED, QUEUE_IDLE, QUEUE_INDEX, QUEUE_MASK, QUEUE_NUMBER, QUEUE_RING, QUEUE_SERVER, QUEUE_STATE, QUEUE_UP, REGION_ENTRY_BYTES, RING_DESCRIPTORS, RING_FLAGS, RING_HEAD,
  RING_TAIL, cellsBytes,
} from './layout.ts';
import {
  DEFAULT_BUFFER_BYTES, DEFAULT_LOG2_RING_SIZE, MAX_BUFFER_BYTES, MAX_FRAME_BYTES, MAX_LOG2_RING_SIZE, MAX_QUEUES, MAX_SECRET_BYTES, MAX_SHARED_BYTES, MIN_BUFFER_BYTES,
  POLLS_BEFORE_INTERRUPT, RECONNECT_MS,
} from './limits.ts';
import { Listener, socketOptions, type SocketName } from './listener.ts';
import { SECRET_BYTES } from './messages.ts';
import type { ServerInterface } from './server-session.ts';
import type { Session } from './session.ts';

/** Which end of the connection a port is: a server listens, a client connects and brings the memory. */
export type MemifRole = 'server' | 'client';

/** Settings of a port. Both ends need the same socket, id and secret, and different roles. */
export interface MemifOptions {
  readonly role: MemifRole;
  /** Which interface of the socket this is: one connection joins two of the same id. */
  readonly id?: number;
  /** Path or abstract name of the socket. */
  readonly socket: string;
  /** Whether `socket` is a name in Linux's abstract namespace; yes unless said otherwise, as with DPDK. */
  readonly socketAbstract?: boolean;
  /** Client: bytes of a packet buffer. Longer frames take several. */
  readonly bufferBytes?: number;
  /** Client: log2 of the descriptors in a ring. */
  readonly log2RingSize?: number;
  readonly queues?: number;
  /** Of the port; a random one unless given. */
  readonly mac?: Uint8Array;
  /** At most 23 bytes of UTF-8. A server with a secret refuses clients without. */
  readonly secret?: string;
  /** Client: how often it looks for its server, milliseconds. */
  readonly reconnectMs?: number;
}

/** What DPDK's driver claims. */
const SPEED_MBPS = 100_000;
/** The driver's name. */
export const DRIVER_NAME = 'net_memif';

function secretBytes(secret = ''): Uint8Array {
  const text = new TextEncoder().encode(secret);
  if (text.length > MAX_SECRET_BYTES || text.includes(0)) throw new MemifError('ERR_MEMIF_CONFIG', `a secret has at most ${MAX_SECRET_BYTES} bytes, none of them NUL`);
  const bytes = new Uint8Array(SECRET_BYTES);
  bytes.set(text);
  return bytes;
}

function integer(what: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) throw new MemifError('ERR_MEMIF_CONFIG', `${what} ${value}: want ${min} to ${max}`);
  return value;
}

/** A local address nobody else has, most probably. */
function randomMac(): Uint8Array {
  const mac = Uint8Array.from(randomBytes(6));
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

/**
 * The control half. The link is up while a peer is connected; peers come and go without the port being restarted.
 *
 * | state      | peer connects (server), found (client) | CONNECT done | peer gone, fault, protocol error | stop         |
 * | ---------- | -------------------------------------- | ------------ | -------------------------------- | ------------ |
 * | stopped    | refused; not looked for                | –            | –                                | nothing      |
 * | alone      | → joining                              | –            | –                                | → stopped    |
 * | joining    | refused                                | → connected  | → leaving                        | → leaving, stopped |
 * | connected  | refused                                | –            | → leaving, link down             | → leaving, stopped |
 * | leaving    | waits for the end, if its peer is gone | –            | –                                | → stopped    |
 *
 * Leaving lasts until every lcore has let go of the shared memory.
 */
export class MemifPort extends SoftwarePort implements ServerInterface, ClientInterface {
  readonly role: MemifRole;
  readonly id: number;
  readonly secret: Uint8Array;
  readonly bufferBytes: number;
  readonly log2RingSize: number;
  readonly #sys: Sys;
  readonly #socket: SocketName;
  readonly #reconnectMs: number;
  readonly #cells: number;
  /** What the descriptors of unconnected queues are: those lcores sleep on, and those they signal. */
  readonly #restingFds: number[] = [];
  readonly #rxFds: number[] = [];
  readonly #txFds: number[] = [];
  #listener: Listener | undefined;
  #session: Session | undefined;
  #retry: NodeJS.Timeout | undefined;
  #unreachable: string | undefined;
  #attached = false;

  /** Throws ERR_MEMIF_CONFIG for settings that cannot be, and LinuxError where a server's socket cannot be made. */
  static open(name: string, options: MemifOptions, sys: Sys = linux): MemifPort {
    const port = new MemifPort(name, options, sys);
    try {
      port.#open();
      return port;
    } catch (error) {
      port.#closeFds();
      port.release();
      throw error;
    }
  }

  private constructor(name: string, options: MemifOptions, sys: Sys) {
    const queues = integer('queues', options.queues ?? 1, 1, MAX_QUEUES);
    const id = integer('id', options.id ?? 0, 0, 0xffffffff);
    const bufferBytes = integer('bsize', options.bufferBytes ?? DEFAULT_BUFFER_BYTES, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES);
    const log2RingSize = integer('rsize', options.log2RingSize ?? DEFAULT_LOG2_RING_SIZE, 1, MAX_LOG2_RING_SIZE);
    const { sizeBytes } = planRegion(queues, queues, log2RingSize, bufferBytes);
    if (sizeBytes > MAX_SHARED_BYTES) {
      throw new MemifError('ERR_MEMIF_CONFIG', `${queues} queues with 2^${log2RingSize} buffers of ${bufferBytes} bytes each way are ${sizeBytes} bytes of shared memory: the limit is ${MAX_SHARED_BYTES}`);
    }
    const secret = secretBytes(options.secret);
    super({ name, driver: DRIVER_NAME, maxRxQueues: queues, maxTxQueues: queues, txCapabilities: 0, maxFrameBytes: MAX_FRAME_BYTES, mac: options.mac ?? randomMac() }, SPEED_MBPS);
    this.role = options.role;
    this.id = id;
    this.secret = secret;
    this.bufferBytes = bufferBytes;
    this.log2RingSize = log2RingSize;
    this.#sys = sys;
    this.#socket = { path: options.socket, abstract: options.socketAbstract ?? true };
    this.#reconnectMs = options.reconnectMs ?? RECONNECT_MS;
    try {
      this.#cells = this.own(this.window.alloc(cellsBytes(queues, queues)));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  #open(): void {
    const { maxRxQueues, maxTxQueues } = this.info;
    for (let i = 0; i < 2; i++) this.#restingFds.push(this.#sys.eventfd());
    for (let queue = 0; queue < maxRxQueues; queue++) this.#rxFds.push(this.#sys.dup(this.#restingFds[0]!));
    for (let queue = 0; queue < maxTxQueues; queue++) this.#txFds.push(this.#sys.dup(this.#restingFds[1]!));
    if (this.role === 'server') this.#listener = Listener.add(this.#sys, this.#socket, this);
  }

  /** @internal */
  get dmaWindow(): Window {
    return this.window;
  }

  /** As configured. */
  get rxQueues(): number {
    return this.config?.rxQueues ?? this.info.maxRxQueues;
  }

  /** As configured. */
  get txQueues(): number {
    return this.config?.txQueues ?? this.info.maxTxQueues;
  }

  /** Whether clients may come. */
  get accepting(): boolean {
    return this.role === 'server' && this.started;
  }

  /** @internal */
  get session(): Session | undefined {
    return this.#session;
  }

  /** The module that lcores load, and what it is started with. The eventfds stay the same whoever is connected. */
  datapath(): DatapathSpec {
    const init: MemifInit = {
      cells: this.#cells,
      rxQueues: this.info.maxRxQueues,
      rxFds: this.#rxFds,
      txFds: this.#txFds,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
    };
    return { module: new URL('./datapath.js', import.meta.url).href, init, wakeFds: this.#rxFds };
  }

  protected override linkWhenStarted(): boolean {
    if (this.role === 'client') this.#lookForServer();
    return false;
  }

  protected override async onStop(): Promise<void> {
    clearTimeout(this.#retry);
    await this.#session?.end(new MemifError('ERR_MEMIF_REFUSED', 'the interface is stopped'));
  }

  protected override async onClose(): Promise<void> {
    await this.#listener?.remove(this);
    this.#closeFds();
  }

  #closeFds(): void {
    for (const fds of [this.#restingFds, this.#rxFds, this.#txFds]) for (const fd of fds.splice(0)) this.#sys.close(fd);
  }

  #publish(event: MemifEvent): void {
    channel(MEMIF_CHANNEL).publish(event);
  }

  #lookForServer(): void {
    this.#retry = undefined;
    if (!this.started || this.#session !== undefined) return;
    try {
      const socket = this.#sys.unixTryConnect(this.#socket.path, socketOptions(this.#socket));
      if (socket === undefined) throw new MemifError('ERR_MEMIF_TIMEOUT', 'the server does not accept');
      this.#unreachable = undefined;
      this.#session = new ClientSession(this.#sys, socket, this);
    } catch (error) {
      if (!(error instanceof LinuxError) && !(error instanceof MemifError)) throw error;
      if (this.#unreachable !== error.message) this.#publish({ kind: 'unreachable', port: this.name, reason: error.message });
      this.#unreachable = error.message;
      this.#lookLater();
    }
  }

  #lookLater(): void {
    if (this.role === 'client' && this.started) this.#retry ??= setTimeout(() => { this.#lookForServer(); }, this.#reconnectMs).unref();
  }

  /** @internal */
  claim(session: Session): void {
    this.#session = session;
  }

  #queueCell(ring: Ring): number {
    const receives = (ring.direction === 'c2s') === (this.role === 'server');
    return (this.#cells + CELL_QUEUES + ((receives ? 0 : this.info.maxRxQueues) + ring.index) * QUEUE_BYTES) >>> 2;
  }

  #allQueueCells(): number[] {
    return Array.from({ length: this.info.maxRxQueues + this.info.maxTxQueues }, (_, i) => (this.#cells + CELL_QUEUES + i * QUEUE_BYTES) >>> 2);
  }

  /** @internal Checks the rings, and tells the cells about them. */
  prepare(attachment: Attachment): void {
    const { u32 } = this.window;
    if (attachment.rings.length === 0) throw new MemifError('ERR_MEMIF_PROTOCOL', 'no ring');
    const offsets = attachment.rings.map((ring) => attachment.ringOffset(this.window, ring));
    u32[(this.#cells + CELL_REGIONS) >>> 2] = attachment.regions.length;
    for (const [i, { mapping, sizeBytes }] of attachment.regions.entries()) {
      const entry = (this.#cells + CELL_REGION_TABLE + i * REGION_ENTRY_BYTES) >>> 2;
      u32[entry] = mapping.offset;
      u32[entry + 1] = sizeBytes;
    }
    this.#attached = true;
    for (const [i, ring] of attachment.rings.entries()) this.#prepareRing(ring, offsets[i]!, attachment);
  }

  #prepareRing(ring: Ring, at: number, attachment: Attachment): void {
    const { u32 } = this.window;
    const u16 = new Uint16Array(this.window.memory.buffer);
    const size = 2 ** ring.log2Size;
    const receives = (ring.direction === 'c2s') === (this.role === 'server');
    const cell = this.#queueCell(ring);
    u32.fill(0, cell, cell + QUEUE_BYTES / 4);
    u32[cell + QUEUE_RING / 4] = at;
    u32[cell + QUEUE_MASK / 4] = size - 1;
    u32[cell + QUEUE_SERVER / 4] = this.role === 'server' ? 1 : 0;
    u32[cell + QUEUE_NUMBER / 4] = ring.index;
    let index = 0;
    if (ring.buffers !== undefined) {
      const { offset, strideBytes, bytes } = ring.buffers;
      u32[cell + QUEUE_BUFFERS / 4] = attachment.regions[0]!.mapping.offset + offset;
      u32[cell + QUEUE_BUFFERS_OFFSET / 4] = offset;
      u32[cell + QUEUE_BUFFER_STRIDE / 4] = strideBytes;
      u32[cell + QUEUE_BUFFER_BYTES / 4] = bytes;
      // A client that receives supplies all its buffers: the server may begin before an lcore looks.
      for (; receives && index < size; index++) {
        const descriptor = (at + RING_DESCRIPTORS + index * DESCRIPTOR_BYTES) >>> 2;
        u32[descriptor + DESCRIPTOR_LENGTH / 4] = bytes;
        u32[descriptor + DESCRIPTOR_OFFSET / 4] = offset + index * strideBytes;
      }
    }
    u32[cell + QUEUE_INDEX / 4] = index;
    // Its lcore may be about to sleep: then the first frame is to wake it.
    u32[cell + QUEUE_IDLE / 4] = POLLS_BEFORE_INTERRUPT;
    if (receives) Atomics.store(u16, (at + RING_FLAGS) >>> 1, 0);
    Atomics.store(u16, (at + (this.role === 'server' ? RING_TAIL : RING_HEAD)) >>> 1, index);
    // The descriptor that lcores know becomes this ring's.
    this.#sys.dupOnto(ring.eventfd.fd, (receives ? this.#rxFds : this.#txFds)[ring.index]!);
  }

  /** @internal */
  up(session: Session, attachment: Attachment): void {
    for (const ring of attachment.rings) Atomics.store(this.window.i32, this.#queueCell(ring) + QUEUE_STATE / 4, QUEUE_UP);
    void this.#watchFaults(session);
    this.#publish({ kind: 'connected', port: this.name, peer: attachment.peerName, peerInterface: attachment.peerInterface });
    this.setLink(true);
  }

  /** An lcore that cannot go on with a queue says so in the cells. */
  async #watchFaults(session: Session): Promise<void> {
    const { i32 } = this.window;
    const events = (this.#cells + CELL_EVENTS) >>> 2;
    while (this.#attached && this.#session === session) {
      const seen = Atomics.load(i32, events);
      const faulted = this.#allQueueCells().find((cell) => Atomics.load(i32, cell + QUEUE_STATE / 4) === QUEUE_FAULTED);
      if (faulted !== undefined) {
        const what = i32[faulted + QUEUE_FAULT / 4] === FAULT_BUFFER ? 'a buffer lies outside its region' : 'an index is farther away than the ring is long';
        await session.end(new MemifError('ERR_MEMIF_PROTOCOL', what));
        return;
      }
      await Atomics.waitAsync(i32, events, seen).value;
    }
  }

  /** @internal Resolves when no lcore uses the rings. */
  async down(): Promise<void> {
    if (!this.#attached) return;
    this.setLink(false);
    const { i32, u32 } = this.window;
    for (const cell of this.#allQueueCells()) Atomics.store(i32, cell + QUEUE_STATE / 4, QUEUE_DOWN);
    await this.#quiesce();
    this.#attached = false;
    u32[(this.#cells + CELL_REGIONS) >>> 2] = 0;
    for (const fd of this.#rxFds) this.#sys.dupOnto(this.#restingFds[0]!, fd);
    for (const fd of this.#txFds) this.#sys.dupOnto(this.#restingFds[1]!, fd);
    const events = (this.#cells + CELL_EVENTS) >>> 2;
    Atomics.add(i32, events, 1);
    Atomics.notify(i32, events);
  }

  async #quiesce(): Promise<void> {
    for (;;) {
      try {
        await Quiescence.of(this.window).synchronize();
        return;
      } catch (error) {
        if (!(error instanceof QuiescenceTimeoutError)) throw error;
        this.#publish({ kind: 'lcore-late', port: this.name, reason: error.message });
      }
    }
  }

  /** @internal */
  over(session: Session, error: MemifError | undefined): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#publish({ kind: 'disconnected', port: this.name, reason: error?.message });
    this.#lookLater();
  }
}
