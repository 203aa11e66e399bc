import { setTimeout as delay } from 'node:timers/promises';
import { linux } from '@emudev/linux';
import type { SpinOptions, Sys } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import { VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_USER_DEVICE_RESET } from '@emudev/vfio-user-protocol';
import type { DeviceInfo, DmaDialect, EffectiveCapabilities, IrqInfo } from '@emudev/vfio-user-protocol';
import type { Closed } from './connection.ts';
import { DirtyLog } from './dirty-log.ts';
import { DirtyTracker } from './dirty-tracker.ts';
import { Dma } from './dma.ts';
import { DmaMaps } from './dma-maps.ts';
import type { DmaMapRequest } from './dma-maps.ts';
import type { DmaHandler } from './dma-server.ts';
import { badArgument, ClientError } from './errors.ts';
import { events, publish } from './events.ts';
import { Features } from './features.ts';
import type { Interrupt } from './interrupt-subscription.ts';
import { Interrupts } from './interrupts.ts';
import { BACKLOG_RETRY_MS, MAX_TIMEOUT_MS, REQUEST_TIMEOUT_MS } from './limits.ts';
import { HEADER_ONLY } from './link.ts';
import { Migration } from './migration.ts';
import { askDeviceInfo, proposalOf } from './negotiation.ts';
import type { AnnouncedCapabilities } from './negotiation.ts';
import { PciConfig } from './pci-config.ts';
import { checkReconnect, ReconnectingLink } from './reconnect.ts';
import type { ReconnectOptions } from './reconnect.ts';
import type { Region } from './region.ts';
import type { MapRegionOptions, RegionMapping } from './region-mapping.ts';
import { Regions } from './regions.ts';
import type { WriteOptions } from './regions.ts';
import type { CallOptions } from './requests.ts';
import { Session } from './session.ts';

/** How `VfioUserClient.connect` connects, and how the client behaves afterwards. */
export interface ConnectOptions {
  /** Time-out of each request in milliseconds, 5000 by default. */
  readonly timeoutMs?: number;
  /** Gives up connecting, with ERR_VFU_CLIENT_CONNECT or ERR_VFU_CLIENT_ABORTED; nothing to a client that is connected. */
  readonly signal?: AbortSignal;
  /** What to announce: what this side can receive. Bounded by `limits.ts`. */
  readonly capabilities?: AnnouncedCapabilities;
  /** Protocol minor version to propose, 2 (0.2) by default. */
  readonly minor?: number;
  /** Ask for a second socket for the server's DMA messages; `hasTwinSocket` tells whether it was granted. */
  readonly twinSocket?: boolean;
  /** Memory that is mapped without a descriptor and without `memory`; the server's DMA messages end up here. */
  readonly dma?: DmaHandler;
  /** How the server writes DMA messages: 'lvu' (libvfio-user, the specification and our server) by default. */
  readonly dmaDialect?: DmaDialect;
  /** Connects again, to the same path, when the connection is lost. Without it a lost connection is the end. */
  readonly reconnect?: ReconnectOptions;
  /**
   * While requests follow each other closely, look for each answer (for at most 100 microseconds at a time) instead of sleeping until it is there:
   * quicker, at the cost of a busy processor. Off by default; true for the usual bounds.
   */
  readonly spin?: boolean | SpinOptions;
  /** false: an open connection does not keep the process alive. */
  readonly ref?: boolean;
  readonly sys?: Sys;
}

/**
 * A device behind a vfio-user socket. Requests may be issued concurrently; the server executes them in order. Every method
 * rejects with a ClientError; `ERR_VFU_CLIENT_BAD_SERVER` and `ERR_VFU_CLIENT_CLOSED` mean that the connection is gone.
 *
 * Everything is in the parts (`regions`, `irqs`, `dma`, …); the commands that every driver uses are methods here too.
 */
export class VfioUserClient implements AsyncDisposable {
  /** Resolves, never rejects, when the connection has ended for good and all its descriptors are closed. */
  readonly closed: Promise<Closed>;
  readonly regions: Regions;
  readonly irqs: Interrupts;
  readonly dma: Dma;
  readonly features: Features;
  readonly migration: Migration;
  readonly dirtyLog: DirtyLog;
  readonly #link: ReconnectingLink;

  /** Connects to a server's socket, or takes over a connected descriptor; negotiates the version and asks for the device's facts. */
  static async connect(target: string | { readonly fd: number }, options: ConnectOptions = {}): Promise<VfioUserClient> {
    const sys = options.sys ?? linux;
    let fd = typeof target === 'string' ? undefined : target.fd;
    try {
      const proposal = proposalOf(options);
      if (fd !== undefined && options.reconnect !== undefined) throw badArgument('a descriptor cannot be connected to again: reconnect needs a path');
      const { ref = true, timeoutMs = REQUEST_TIMEOUT_MS, dma, dmaDialect = 'lvu', reconnect } = options;
      if (!(timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS)) throw badArgument(`a time-out of ${timeoutMs} ms`);
      if (reconnect !== undefined) checkReconnect(reconnect);
      const spin = options.spin === true ? {} : options.spin === false ? undefined : options.spin;
      const [maps, dirty] = [new DmaMaps(), new DirtyTracker()];
      // The end may come with the last answer, before there is a client to tell.
      let early: Closed | undefined;
      let onEnd = (closed: Closed): void => { early = closed; };
      const link = await ReconnectingLink.open({
        sys, ref, reconnect, own: proposal.capabilities,
        dial: async (onClosed, call) => {
          const socket = fd ?? await dial(sys, target as string, timeoutMs, call.signal);
          fd = undefined;
          return Session.open(socket, { sys, ref, timeoutMs, spin, proposal, maps, dirty, dma, dmaDialect, onClosed }, call);
        },
        onEnd: (closed) => { onEnd(closed); },
      }, options.signal);
      const client = new VfioUserClient(link, maps, dirty, (listener) => {
        onEnd = listener;
        if (early !== undefined) listener(early);
      });
      if (reconnect !== undefined) await client.#arm();
      return client;
    } finally {
      // Not handed over: an argument was wrong.
      if (fd !== undefined) sys.close(fd);
    }
  }

  private constructor(link: ReconnectingLink, maps: DmaMaps, dirty: DirtyTracker, onEnd: (listener: (closed: Closed) => void) => void) {
    this.#link = link;
    this.regions = new Regions(link);
    this.irqs = new Interrupts(link);
    this.dma = new Dma(link, maps, dirty);
    this.features = new Features(link);
    this.migration = new Migration(link, this.features);
    this.dirtyLog = new DirtyLog(link, this.features, maps, dirty);
    const { promise, resolve } = Promise.withResolvers<Closed>();
    this.closed = promise;
    onEnd((closed) => {
      this.regions.close();
      this.irqs.close();
      this.dma.close();
      if (events.hasSubscribers) publish({ type: 'closed', closed });
      // Behind the subscriptions, which close theirs.
      void link.ended.then(() => { resolve(closed); });
    });
  }

  /** DEVICE_GET_INFO: VFIO_DEVICE_FLAGS_*, number of regions and of interrupt indexes. */
  get info(): DeviceInfo {
    return this.#link.info;
  }

  /** What the server said it can receive. */
  get server(): EffectiveCapabilities {
    return this.#link.server;
  }

  /** Protocol minor version agreed upon. */
  get minor(): number {
    return this.#link.minor;
  }

  /** The server's DMA messages come on a socket of their own. */
  get hasTwinSocket(): boolean {
    return this.#link.hasTwin;
  }

  /** false while a lost connection is being made again (requests wait), and after the end. */
  get connected(): boolean {
    return this.#link.isUp;
  }

  /** True if `reset` does something. */
  get resettable(): boolean {
    return (this.info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0;
  }

  /** Closes the connection; what is in flight rejects with ERR_VFU_CLIENT_CLOSED. Region mappings stay until they are disposed. */
  close(): void {
    this.#link.close();
  }

  /** As `close`, and waits for `closed`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  /** Asks for `info` once more. */
  deviceInfo(call: CallOptions = {}): Promise<DeviceInfo> {
    return askDeviceInfo(this.#link, call);
  }

  /** Function reset: registers to power-on, DMA maps and eventfds stay. */
  reset(call: CallOptions = {}): Promise<void> {
    return this.#link.request(VFIO_USER_DEVICE_RESET, new Uint8Array(0), { ...call, ...HEADER_ONLY });
  }

  /** Header, BARs and capabilities out of region 7. ERR_VFU_CLIENT_ARGUMENT where the device has none. */
  async pciConfig(): Promise<PciConfig> {
    const index = VFIO_PCI_CONFIG_REGION_INDEX;
    const { sizeBytes } = await this.regions.info(index);
    if (sizeBytes === 0) throw badArgument('the device has no configuration space');
    return new PciConfig({ sizeBytes, read: (offset, length) => this.regions.read(index, offset, length), write: (offset, bytes) => this.regions.write(index, offset, bytes) });
  }

  /** Interrupts as they come, until the loop is left. */
  interrupts(index: number, ...vectors: readonly number[]): AsyncGenerator<Interrupt, void, undefined> {
    return this.irqs.interrupts(index, ...vectors);
  }

  // The commands every driver uses, as in the parts.

  /** Size, access and mappable parts of a region: as `Regions.info`. */
  regionInfo(index: number, call?: CallOptions): Promise<Region> { return this.regions.info(index, call); }
  /** Reads `length` bytes of a region: as `Regions.read`. */
  read(region: number, offset: number, length: number, call?: CallOptions): Promise<Uint8Array> { return this.regions.read(region, offset, length, call); }
  /** Writes `bytes` into a region: as `Regions.write`. */
  write(region: number, offset: number, bytes: Uint8Array, options?: WriteOptions): Promise<void> { return this.regions.write(region, offset, bytes, options); }
  /** Reads a little-endian register of 4 bytes: as `Regions.read32`. */
  read32(region: number, offset: number, call?: CallOptions): Promise<number> { return this.regions.read32(region, offset, call); }
  /** Writes a little-endian register of 4 bytes: as `Regions.write32`. */
  write32(region: number, offset: number, value: number, options?: WriteOptions): Promise<void> { return this.regions.write32(region, offset, value, options); }
  /** Maps a region's mappable parts into the window: as `Regions.map`. */
  mapRegion(index: number, window: Window, options?: MapRegionOptions): Promise<RegionMapping> { return this.regions.map(index, window, options); }
  /** Vectors and flags of an interrupt index: as `Interrupts.info`. */
  irqInfo(index: number, call?: CallOptions): Promise<IrqInfo> { return this.irqs.info(index, call); }
  /** Lets the device signal eventfds: as `Interrupts.setEventfds`. */
  setIrqEventfds(index: number, start: number, fds: readonly number[], call?: CallOptions): Promise<void> { return this.irqs.setEventfds(index, start, fds, call); }
  /** Disconnects vectors from their eventfds: as `Interrupts.removeEventfds`. */
  removeIrqEventfds(index: number, start: number, count: number, call?: CallOptions): Promise<void> { return this.irqs.removeEventfds(index, start, count, call); }
  /** Disables a whole interrupt index: as `Interrupts.disable`. */
  clearIrqs(index: number, call?: CallOptions): Promise<void> { return this.irqs.disable(index, call); }
  /** Fires vectors as if the device had: as `Interrupts.trigger`. */
  triggerIrq(index: number, start: number, count = 1, call?: CallOptions): Promise<void> { return this.irqs.trigger(index, start, count, call); }
  /** Holds vectors back: as `Interrupts.mask`. */
  maskIrq(index: number, start: number, count = 1, call?: CallOptions): Promise<void> { return this.irqs.mask(index, start, count, call); }
  /** Lets vectors through again: as `Interrupts.unmask`. */
  unmaskIrq(index: number, start: number, count = 1, call?: CallOptions): Promise<void> { return this.irqs.unmask(index, start, count, call); }
  /** Gives the device memory: as `Dma.map`. */
  dmaMap(map: DmaMapRequest, call?: CallOptions): Promise<void> { return this.dma.map(map, call); }
  /** Takes one map back: as `Dma.unmap`. */
  dmaUnmap(iova: bigint, sizeBytes: number, call?: CallOptions): Promise<void> { return this.dma.unmap(iova, sizeBytes, call); }
  /** Takes all memory back: as `Dma.unmapAll`. */
  dmaUnmapAll(call?: CallOptions): Promise<void> { return this.dma.unmapAll(call); }

  async #arm(): Promise<void> {
    try {
      await this.#link.arm({
        identify: async (session, files) => ({ info: session.info, regions: await this.regions.describe(session, files), irqs: await this.irqs.describe(session) }),
        replay: async (session) => {
          await this.dma.replay(session);
          await this.dirtyLog.replay(session);
          await this.irqs.replay(session);
        },
        adopt: (files) => { this.regions.adopt(files); },
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }
}

/** Waits, without blocking the thread, while the server is too busy to take another connection. */
async function dial(sys: Sys, path: string, timeoutMs: number, signal: AbortSignal | undefined): Promise<number> {
  const deadline = performance.now() + timeoutMs;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const fd = sys.unixTryConnect(path);
      if (fd !== undefined) return fd;
      if (performance.now() > deadline) break;
      await delay(BACKLOG_RETRY_MS);
    }
  } catch (error) {
    const { message, errno } = error as Error & { errno?: number };
    throw new ClientError('ERR_VFU_CLIENT_CONNECT', `cannot connect to ${path}: ${message}`, { cause: error, ...(typeof errno === 'number' ? { errno } : {}) });
  }
  throw new ClientError('ERR_VFU_CLIENT_TIMEOUT', `the server at ${path} takes no connection within ${timeoutMs} ms: its backlog is full`);
}
