import { linux, OwnedFd } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import {
  REGION_INFO_BYTES, VFIO_DEVICE_FLAGS_RESET, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_RESET, VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE,
  DMA_UNMAP_BYTES, IRQ_INFO_BYTES, MAX_FDS_PER_MESSAGE, MAX_IRQ_VECTORS, REGION_ACCESS_BYTES,
  decodeDmaUnmapReply, decodeIrqInfo, decodeRegionInfo, decodeRegionReadReply, decodeRegionWriteReply,
  effectiveCapabilities, encodeDmaMap, encodeDmaUnmap, encodeGetIrqInfo, encodeGetRegionInfo,
  encodeRegionData, encodeRegionRead, encodeSetIrqs, isCommand, isReply,
} from '@emudev/vfio-user-protocol';
import type { DecodedRegionInfo, DeviceInfo, DmaDialect, EffectiveCapabilities, Frame, IrqInfo, SetIrqs } from '@emudev/vfio-user-protocol';
import { Connection } from './connection.ts';
import type { Closed } from './connection.ts';
import { DmaMaps } from './dma-maps.ts';
import type { DmaMapRequest } from './dma-maps.ts';
import { DmaServer } from './dma-server.ts';
import type { DmaHandler } from './dma-server.ts';
import { badArgument, badServer, ClientError } from './errors.ts';
import { events, publish } from './events.ts';
import { MAX_DMA_MAPS, MAX_REGION_INFO_BYTES, REQUEST_TIMEOUT_MS } from './limits.ts';
import { negotiate } from './negotiation.ts';
import { regionOf } from './region.ts';
import type { Region } from './region.ts';
import { mapAreas, notMappable } from './region-mapping.ts';
import type { MapRegionOptions, RegionMapping } from './region-mapping.ts';
import { Requests } from './requests.ts';
import type { RequestOptions } from './requests.ts';

export interface ConnectOptions {
  /** Time-out of each request in milliseconds, 5000 by default. */
  readonly timeoutMs?: number;
  /** Memory that is mapped without a descriptor; the server's DMA messages end up here. */
  readonly dma?: DmaHandler;
  /** How the server writes DMA messages: 'lvu' (libvfio-user, the specification and our server) by default. */
  readonly dmaDialect?: DmaDialect;
  /** false: an open connection does not keep the process alive. */
  readonly ref?: boolean;
  readonly sys?: Sys;
}

const U32 = 0xffff_ffff;

/**
 * A device behind a vfio-user socket. Requests may be issued concurrently; the server executes them in order. Every method
 * rejects with a ClientError; `ERR_VFU_CLIENT_BAD_SERVER` and `ERR_VFU_CLIENT_CLOSED` mean that the connection is gone.
 */
export class VfioUserClient implements AsyncDisposable {
  /** Resolves, never rejects, when the connection has ended and all its descriptors are closed. */
  readonly closed: Promise<Closed>;
  readonly #sys: Sys;
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #dmaServer: DmaServer;
  readonly #maps = new DmaMaps();
  /** The server's file per region. */
  readonly #files = new Map<number, OwnedFd>();
  readonly #regions = new Map<number, Promise<Region>>();
  #info: DeviceInfo = { flags: 0, numRegions: 0, numIrqs: 0 };
  #server: EffectiveCapabilities = effectiveCapabilities(undefined);
  #end: ClientError | undefined;

  /** Connects to a server's socket, or takes over a connected descriptor; negotiates the version and asks for the device's facts. */
  static async connect(target: string | { readonly fd: number }, options: ConnectOptions = {}): Promise<VfioUserClient> {
    const sys = options.sys ?? linux;
    const client = new VfioUserClient(sys, typeof target === 'string' ? dial(sys, target) : target.fd, options);
    try {
      ({ server: client.#server, info: client.#info } = await negotiate((command, payload, reply) => client.#request(command, payload, reply)));
    } catch (error) {
      client.#connection.close({ reason: 'disposed', error });
      throw error;
    }
    return client;
  }

  private constructor(sys: Sys, fd: number, options: ConnectOptions) {
    this.#sys = sys;
    let closed: (closed: Closed) => void = () => {};
    this.closed = new Promise((resolve) => (closed = resolve));
    this.#connection = new Connection(sys, fd, { frame: (frame) => this.#frame(frame), closed: (why) => this.#onClosed(why, closed) }, options.ref ?? true);
    this.#requests = new Requests(this.#connection, options.timeoutMs ?? REQUEST_TIMEOUT_MS);
    this.#dmaServer = new DmaServer(this.#connection, this.#maps, options.dma, options.dmaDialect ?? 'lvu');
  }

  /** DEVICE_GET_INFO: VFIO_DEVICE_FLAGS_*, number of regions and of interrupt indexes. */
  get info(): DeviceInfo {
    return this.#info;
  }

  /** What the server said it can receive. */
  get server(): EffectiveCapabilities {
    return this.#server;
  }

  /** True if `reset` does something. */
  get resettable(): boolean {
    return (this.#info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0;
  }

  /** Closes the connection; what is in flight rejects with ERR_VFU_CLIENT_CLOSED. Region mappings stay until they are disposed. */
  close(): void {
    this.#connection.close({ reason: 'disposed' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  /** Size, access and mappable parts of a region; asked once. */
  regionInfo(index: number): Promise<Region> {
    const known = this.#regions.get(index);
    if (known !== undefined) return known;
    const asked = this.#queryRegion(index);
    this.#regions.set(index, asked);
    asked.catch(() => this.#regions.delete(index));
    return asked;
  }

  /** Vectors of an interrupt index and VFIO_IRQ_INFO_* flags. */
  async irqInfo(index: number): Promise<IrqInfo> {
    if (!isIndex(index, this.#info.numIrqs)) throw badArgument(`no interrupt index ${index}`);
    return this.#request(VFIO_USER_DEVICE_GET_IRQ_INFO, encodeGetIrqInfo(index), {
      maxReplyBytes: IRQ_INFO_BYTES,
      accept: (payload) => {
        const info = decodeIrqInfo(payload);
        if (info.index !== index || info.count > MAX_IRQ_VECTORS) throw badServer(`interrupt index ${info.index} with ${info.count} vectors in answer to ${index}`);
        return info;
      },
    });
  }

  /** Reads `length` bytes; more than the server takes at a time go in pieces. ERR_VFU_CLIENT_SHORT when it transfers fewer. */
  async read(region: number, offset: number, length: number): Promise<Uint8Array> {
    this.#checkAccess(region, offset, length);
    if (length <= this.#server.maxDataXferSize) return this.#readOnce(region, offset, length);
    const all = new Uint8Array(length);
    for (let at = 0; at < length; at += this.#server.maxDataXferSize) {
      all.set(await this.#readOnce(region, offset + at, Math.min(length - at, this.#server.maxDataXferSize)), at);
    }
    return all;
  }

  /**
   * Writes `bytes` (copied). `posted` asks for no answer: resolves when the message is on its way, in order with everything else,
   * and the server's refusal stays unknown.
   */
  async write(region: number, offset: number, bytes: Uint8Array, options: { readonly posted?: boolean } = {}): Promise<void> {
    this.#checkAccess(region, offset, bytes.length);
    const step = this.#server.maxDataXferSize;
    for (let at = 0; at === 0 || at < bytes.length; at += step) {
      const piece = bytes.length <= step ? bytes : bytes.subarray(at, at + step);
      if (options.posted === true) await this.#post(VFIO_USER_REGION_WRITE, encodeRegionData(offset + at, region, piece));
      else await this.#writeOnce(region, offset + at, piece);
    }
  }

  /** A 32-bit register, little endian. */
  async read32(region: number, offset: number): Promise<number> {
    const b = await this.read(region, offset, 4);
    return (b[0]! | (b[1]! << 8) | (b[2]! << 16) | (b[3]! << 24)) >>> 0;
  }

  async write32(region: number, offset: number, value: number, options: { readonly posted?: boolean } = {}): Promise<void> {
    await this.write(region, offset, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24), options);
  }

  /**
   * Lets the device signal eventfds: `fds[i]` for vector `start + i`. They stay the caller's and must stay open until the promise
   * settles. More than the server takes at a time go in several messages; when one is refused, the earlier ones hold.
   */
  async setIrqEventfds(index: number, start: number, fds: readonly number[]): Promise<void> {
    if (fds.length === 0) throw badArgument('no descriptors: removeIrqEventfds takes them away');
    const step = Math.min(this.#server.maxMsgFds, MAX_FDS_PER_MESSAGE);
    if (step === 0) throw badArgument('the server takes no descriptors');
    for (let at = 0; at < fds.length; at += step) {
      const some = fds.slice(at, at + step);
      await this.#setIrqs({ action: 'trigger', index, start: start + at, count: some.length, data: 'eventfd' }, some);
    }
  }

  /** Disconnects vectors [start, start + count). */
  removeIrqEventfds(index: number, start: number, count: number): Promise<void> {
    return this.#setIrqs({ action: 'trigger', index, start, count, data: 'eventfd' });
  }

  /** Disables a whole index: no vector of it has an eventfd any more. */
  clearIrqs(index: number): Promise<void> {
    return this.#setIrqs({ action: 'trigger', index, start: 0, count: 0, data: 'none' });
  }

  /** Fires vectors as if the device had (loopback test). */
  triggerIrq(index: number, start: number, count = 1): Promise<void> {
    return this.#setIrqs({ action: 'trigger', index, start, count, data: 'none' });
  }

  maskIrq(index: number, start: number, count = 1): Promise<void> {
    return this.#setIrqs({ action: 'mask', index, start, count, data: 'none' });
  }

  unmaskIrq(index: number, start: number, count = 1): Promise<void> {
    return this.#setIrqs({ action: 'unmask', index, start, count, data: 'none' });
  }

  /** Gives the device a range of memory: `fd` for the server to map, or without one through the `dma` option's handler. */
  async dmaMap(map: DmaMapRequest): Promise<void> {
    const { fd, fdOffset = 0 } = map;
    if (!Number.isSafeInteger(fdOffset) || fdOffset < 0) throw badArgument(`file offset ${fdOffset}`);
    if (fd !== undefined && this.#server.maxMsgFds === 0) throw badArgument('the server takes no descriptors');
    if (this.#maps.count >= Math.min(this.#server.maxDmaMaps, MAX_DMA_MAPS)) throw badArgument(`the server takes no more than ${this.#maps.count} DMA maps`);
    this.#checkOpen();
    // Before it is sent: the device may use the range before the answer has been looked at.
    this.#maps.add(map);
    const flags = (map.readable ? VFIO_DMA_MAP_FLAG_READ : 0) | (map.writable ? VFIO_DMA_MAP_FLAG_WRITE : 0);
    const payload = encodeDmaMap({ flags, fdOffset: BigInt(fdOffset), address: map.iova, size: BigInt(map.sizeBytes) });
    try {
      await this.#request(VFIO_USER_DMA_MAP, payload, { fds: fd === undefined ? [] : [fd], maxReplyBytes: 0, accept: () => {} });
    } catch (error) {
      this.#maps.remove(map.iova);
      throw error;
    }
  }

  /** Takes back exactly one earlier map. When it resolves the device no longer uses the memory. */
  async dmaUnmap(iova: bigint, sizeBytes: number): Promise<void> {
    if (!this.#maps.has(iova, sizeBytes)) throw badArgument(`no DMA map at 0x${iova.toString(16)} of ${sizeBytes} bytes`);
    await this.#unmap(0, iova, BigInt(sizeBytes));
    this.#maps.remove(iova);
  }

  async dmaUnmapAll(): Promise<void> {
    await this.#unmap(VFIO_DMA_UNMAP_FLAG_ALL, 0n, 0n);
    this.#maps.clear();
  }

  /** Function reset: registers to power-on, DMA maps and eventfds stay. */
  reset(): Promise<void> {
    return this.#request(VFIO_USER_DEVICE_RESET, new Uint8Array(0), { maxReplyBytes: 0, accept: () => {} });
  }

  /**
   * Maps a region's mappable parts into the window. ERR_VFU_CLIENT_NOT_MAPPABLE where there are none or they are not safe to
   * map; the window's DmaError where it is full. Dispose of the result to unmap.
   */
  async mapRegion(index: number, window: Window, options: MapRegionOptions = {}): Promise<RegionMapping> {
    const region = await this.regionInfo(index);
    this.#checkOpen();
    if (region.areas.length === 0) throw notMappable(region, 'the server offers no part of it');
    const file = this.#files.get(index);
    if (file === undefined) throw notMappable(region, 'the server passed no file');
    return mapAreas(this.#sys, window, region, file.fd, options);
  }

  async #queryRegion(index: number): Promise<Region> {
    if (!isIndex(index, this.#info.numRegions)) throw badArgument(`no region ${index}`);
    let info = await this.#askRegion(index, REGION_INFO_BYTES);
    // Once: a server whose need keeps growing gets no third question.
    if (info.argsz > REGION_INFO_BYTES) info = await this.#askRegion(index, info.argsz);
    return regionOf(info);
  }

  #askRegion(index: number, argsz: number): Promise<DecodedRegionInfo> {
    return this.#request(VFIO_USER_DEVICE_GET_REGION_INFO, encodeGetRegionInfo(index, argsz), {
      maxReplyBytes: argsz,
      accept: (payload, takeFds) => {
        const info = decodeRegionInfo(payload);
        if (info.index !== index || info.argsz > MAX_REGION_INFO_BYTES) throw badServer(`region ${info.index} with argsz ${info.argsz} in answer to ${index}`);
        const [fd, ...more] = takeFds();
        this.#connection.closeFds(more);
        if (fd !== undefined) {
          const earlier = this.#files.get(index);
          if (earlier !== undefined) this.#connection.closeFds([earlier.take()]);
          this.#files.set(index, new OwnedFd(fd, this.#sys));
        }
        // The specification would allow one per area; nobody sends that, and guessing which is which maps the wrong pages.
        if (more.length > 0) throw badServer(`${more.length + 1} descriptors for region ${index}`);
        return info;
      },
    });
  }

  #readOnce(region: number, offset: number, length: number): Promise<Uint8Array> {
    return this.#request(VFIO_USER_REGION_READ, encodeRegionRead({ offset, region, count: length }), {
      maxReplyBytes: REGION_ACCESS_BYTES + length,
      accept: (payload) => {
        // libvfio-user answers a read of 0 bytes with a header.
        if (length === 0) return payload.subarray(0, 0);
        const reply = decodeRegionReadReply(payload);
        this.#checkEcho(reply, offset, region, length);
        return reply.data;
      },
    });
  }

  #writeOnce(region: number, offset: number, bytes: Uint8Array): Promise<void> {
    const length = bytes.length;
    return this.#request(VFIO_USER_REGION_WRITE, encodeRegionData(offset, region, bytes), {
      maxReplyBytes: REGION_ACCESS_BYTES,
      accept: (payload) => {
        if (length > 0) this.#checkEcho(decodeRegionWriteReply(payload), offset, region, length);
      },
    });
  }

  #checkEcho(reply: { readonly offset: number; readonly region: number; readonly count: number }, offset: number, region: number, count: number): void {
    if (reply.offset !== offset || reply.region !== region || reply.count > count) {
      throw badServer(`an answer for ${reply.count} bytes at ${reply.offset} of region ${reply.region}, asked for ${count} at ${offset} of ${region}`);
    }
    if (reply.count < count) throw new ClientError('ERR_VFU_CLIENT_SHORT', `${reply.count} of ${count} bytes at ${offset} of region ${region}`);
  }

  #unmap(flags: number, address: bigint, size: bigint): Promise<void> {
    return this.#request(VFIO_USER_DMA_UNMAP, encodeDmaUnmap({ flags, address, size }), {
      maxReplyBytes: DMA_UNMAP_BYTES,
      accept: (payload) => {
        // Some servers leave the echo out; one that is there has to be right.
        if (payload.length === 0) return;
        const reply = decodeDmaUnmapReply(payload);
        if (reply.address !== address || reply.size !== size) throw badServer('an answer to another DMA_UNMAP');
      },
    });
  }

  async #setIrqs(request: SetIrqs, fds: readonly number[] = []): Promise<void> {
    const { index, start, count } = request;
    if (!isIndex(index, this.#info.numIrqs) || !isIndex(start, MAX_IRQ_VECTORS) || !isIndex(count, MAX_IRQ_VECTORS + 1)) {
      throw badArgument(`vectors ${start}+${count} of interrupt index ${index}`);
    }
    await this.#request(VFIO_USER_DEVICE_SET_IRQS, encodeSetIrqs(request), { fds, maxReplyBytes: 0, accept: () => {} });
  }

  #checkAccess(region: number, offset: number, length: number): void {
    if (!isIndex(region, U32) || !Number.isSafeInteger(offset) || offset < 0 || !isIndex(length, U32) || !Number.isSafeInteger(offset + length)) {
      throw badArgument(`${length} bytes at ${offset} of region ${region}`);
    }
  }

  #checkOpen(): void {
    if (this.#end !== undefined) throw this.#end;
  }

  async #request<T>(command: number, payload: Uint8Array, options: RequestOptions<T>): Promise<T> {
    this.#checkOpen();
    if (events.hasSubscribers) publish({ type: 'request', command, payloadBytes: payload.length, fds: options.fds?.length ?? 0, posted: false });
    return this.#requests.request(command, payload, options);
  }

  async #post(command: number, payload: Uint8Array): Promise<void> {
    this.#checkOpen();
    if (events.hasSubscribers) publish({ type: 'request', command, payloadBytes: payload.length, fds: 0, posted: true });
    return this.#requests.post(command, payload);
  }

  #frame(frame: Frame): void {
    if (events.hasSubscribers) {
      const { id, command, flags, error, payload, fds } = frame;
      publish({ type: 'frame', id, command, flags, error, payloadBytes: payload.length, fds: fds.length });
    }
    if (isReply(frame.flags)) this.#requests.reply(frame);
    else if (isCommand(frame.flags)) this.#dmaServer.command(frame);
    else {
      this.#connection.closeFds(frame.fds);
      throw badServer(`a message of type ${frame.flags & 15}`);
    }
  }

  #onClosed(closed: Closed, resolve: (closed: Closed) => void): void {
    const { reason, error } = closed;
    const text = error instanceof Error ? `: ${error.message}` : '';
    this.#end =
      reason === 'bad-server'
        ? new ClientError('ERR_VFU_CLIENT_BAD_SERVER', `the server broke the protocol${text}`, { cause: error })
        : new ClientError('ERR_VFU_CLIENT_CLOSED', `the connection is closed (${reason})${text}`, { cause: error });
    this.#connection.closeFds([...this.#files.values()].map((file) => file.take()));
    this.#files.clear();
    this.#dmaServer.close();
    this.#requests.close(this.#end);
    if (events.hasSubscribers) publish({ type: 'closed', closed });
    resolve(closed);
  }
}

function isIndex(value: number, below: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < below;
}

function dial(sys: Sys, path: string): number {
  try {
    return sys.unixConnect(path);
  } catch (error) {
    const { message, errno } = error as Error & { errno?: number };
    throw new ClientError('ERR_VFU_CLIENT_CONNECT', `cannot connect to ${path}: ${message}`, { cause: error, ...(errno === undefined ? {} : { errno }) });
  }
}
