/** Regions of the device: what they are, and access to them by messages, by mapping and by descriptors. */
import { OwnedFd } from '@emudev/linux';
import type { Window } from '@emudev/dma';
import {
  REGION_ACCESS_BYTES, REGION_INFO_BYTES, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, VFIO_USER_REGION_WRITE_MULTI,
  decodeRegionInfo, decodeRegionReadReply, decodeRegionWriteMultiReply, decodeRegionWriteReply, encodeGetRegionInfo, encodeRegionData, encodeRegionRead, encodeRegionWriteMulti,
} from '@emudev/vfio-user-protocol';
import type { DecodedRegionInfo } from '@emudev/vfio-user-protocol';
import { badArgument, badServer, ClientError } from './errors.ts';
import { askIoFds } from './io-fds.ts';
import type { IoFds } from './io-fds.ts';
import { MAX_REGION_INFO_BYTES, MAX_WRITES_PER_MESSAGE } from './limits.ts';
import { checkIndex, isIndex } from './link.ts';
import type { Link, Requester } from './link.ts';
import { regionOf } from './region.ts';
import type { Region } from './region.ts';
import { mapAreas, notMappable } from './region-mapping.ts';
import type { MapRegionOptions, RegionMapping } from './region-mapping.ts';
import type { CallOptions } from './requests.ts';

export interface WriteOptions extends CallOptions {
  /**
   * Asks for no answer: resolves when the message is on its way, in order with everything else, and the server's refusal stays
   * unknown.
   */
  readonly posted?: boolean;
}

/** One entry of `Regions.writeMulti`. */
export interface RegionWrite {
  readonly region: number;
  readonly offset: number;
  readonly data: Uint8Array;
}

const U32 = 0xffff_ffff;
/** REGION_WRITE_MULTI: bytes an entry can hold, and what an entry and the message around it take. */
const MULTI_DATA_BYTES = 8;
const MULTI_ENTRY_BYTES = 24;
const MULTI_HEAD_BYTES = 8;

/**
 * `VfioUserClient.regions`: the device's regions by index (0 to 5 BARs, 6 ROM, 7 configuration space, 8 VGA). ERR_VFU_CLIENT_ARGUMENT
 * before anything is sent, ERR_VFU_CLIENT_REFUSED with the server's `errno`.
 */
export class Regions {
  readonly #link: Link;
  /** The server's file per region. */
  readonly #files = new Map<number, OwnedFd>();
  readonly #known = new Map<number, Promise<Region>>();

  constructor(link: Link) {
    this.#link = link;
  }

  /** Size, access and mappable parts of a region; asked once. */
  info(index: number, call: CallOptions = {}): Promise<Region> {
    const known = this.#known.get(index);
    if (known !== undefined) return known;
    const asked = this.#learn(index, call);
    // Who gives up gives up for himself.
    if (call.signal !== undefined || call.timeoutMs !== undefined) return asked;
    this.#known.set(index, asked);
    asked.catch(() => this.#known.delete(index));
    return asked;
  }

  /** Reads `length` bytes; more than the server takes at a time go in pieces. ERR_VFU_CLIENT_SHORT when it transfers fewer. */
  async read(region: number, offset: number, length: number, call: CallOptions = {}): Promise<Uint8Array> {
    checkAccess(region, offset, length);
    const step = this.#link.server.maxDataXferSize;
    if (length <= step) return this.#readOnce(region, offset, length, call);
    const all = new Uint8Array(length);
    for (let at = 0; at < length; at += step) all.set(await this.#readOnce(region, offset + at, Math.min(length - at, step), call), at);
    return all;
  }

  /** Writes `bytes` (copied); more than the server takes at a time go in pieces. ERR_VFU_CLIENT_SHORT when it transfers fewer. */
  async write(region: number, offset: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    checkAccess(region, offset, bytes.length);
    const step = this.#link.server.maxDataXferSize;
    for (let at = 0; at === 0 || at < bytes.length; at += step) {
      const piece = bytes.length <= step ? bytes : bytes.subarray(at, at + step);
      if (options.posted === true) await this.#link.post(VFIO_USER_REGION_WRITE, encodeRegionData(offset + at, region, piece), options);
      else await this.#writeOnce(region, offset + at, piece, options);
    }
  }

  /**
   * Several small writes, executed strictly in order: in few messages where the server takes REGION_WRITE_MULTI and the data of an
   * entry has at most 8 bytes, else one by one. Stops at the first that fails; those before it are done.
   */
  async writeMulti(writes: readonly RegionWrite[], options: WriteOptions = {}): Promise<void> {
    for (const { region, offset, data } of writes) checkAccess(region, offset, data.length);
    const { writeMultiple, maxDataXferSize } = this.#link.server;
    const most = writeMultiple ? Math.min(MAX_WRITES_PER_MESSAGE, Math.floor((maxDataXferSize - MULTI_HEAD_BYTES) / MULTI_ENTRY_BYTES)) : 0;
    for (let at = 0; at < writes.length;) {
      let end = at;
      while (end < writes.length && end - at < most && writes[end]!.data.length <= MULTI_DATA_BYTES) end++;
      if (end - at < 2) {
        const { region, offset, data } = writes[at++]!;
        await this.write(region, offset, data, options);
      } else {
        await this.#writeBatch(writes.slice(at, end), options);
        at = end;
      }
    }
  }

  /** A register of 1 byte. Offsets are bytes from the start of the region. */
  async read8(region: number, offset: number, call: CallOptions = {}): Promise<number> {
    return viewOf(await this.read(region, offset, 1, call)).getUint8(0);
  }

  /** A little-endian register of 2 bytes. */
  async read16(region: number, offset: number, call: CallOptions = {}): Promise<number> {
    return viewOf(await this.read(region, offset, 2, call)).getUint16(0, true);
  }

  /** A little-endian register of 4 bytes, unsigned. */
  async read32(region: number, offset: number, call: CallOptions = {}): Promise<number> {
    return viewOf(await this.read(region, offset, 4, call)).getUint32(0, true);
  }

  /** A little-endian register of 8 bytes, unsigned. */
  async read64(region: number, offset: number, call: CallOptions = {}): Promise<bigint> {
    return viewOf(await this.read(region, offset, 8, call)).getBigUint64(0, true);
  }

  /** Writes a register of 1 byte; higher bits of `value` are cut off, as in all of these. */
  write8(region: number, offset: number, value: number, options: WriteOptions = {}): Promise<void> {
    return this.write(region, offset, Uint8Array.of(value), options);
  }

  /** Writes a little-endian register of 2 bytes. */
  write16(region: number, offset: number, value: number, options: WriteOptions = {}): Promise<void> {
    return this.write(region, offset, Uint8Array.of(value, value >>> 8), options);
  }

  /** Writes a little-endian register of 4 bytes. */
  write32(region: number, offset: number, value: number, options: WriteOptions = {}): Promise<void> {
    return this.write(region, offset, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24), options);
  }

  /** Writes a little-endian register of 8 bytes. */
  write64(region: number, offset: number, value: bigint, options: WriteOptions = {}): Promise<void> {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, value, true);
    return this.write(region, offset, bytes, options);
  }

  /**
   * Maps a region's mappable parts into the window. ERR_VFU_CLIENT_NOT_MAPPABLE where there are none or they are not safe to
   * map; the window's DmaError where it is full. Dispose of the result to unmap.
   */
  async map(index: number, window: Window, options: MapRegionOptions = {}): Promise<RegionMapping> {
    // After a reconnect the file is another; while there is no connection this waits for it.
    const region = await (this.#link.reconnects ? this.#learn(index, options) : this.info(index, options));
    this.#link.checkOpen();
    if (region.areas.length === 0) throw notMappable(region, 'the server offers no part of it');
    const file = this.#files.get(index);
    if (file === undefined) throw notMappable(region, 'the server passed no file');
    return mapAreas(this.#link.sys, window, region, file.fd, options);
  }

  /** Descriptors that stand for writes into a region (for KVM). Dispose of the result to close them. */
  async ioFds(index: number, call: CallOptions = {}): Promise<IoFds> {
    return askIoFds(this.#link, await this.info(index, call), call);
  }

  /** The server's file behind a region that `info` has been asked about; undefined where it passed none. Borrowed: valid until the connection ends. */
  fileDescriptor(index: number): number | undefined {
    return this.#files.get(index)?.fd;
  }

  /** What another connection says about every region; its files are the caller's. */
  async describe(to: Requester, files: Map<number, OwnedFd>): Promise<Region[]> {
    const regions: Region[] = [];
    for (let index = 0; index < this.#link.info.numRegions; index++) regions.push(await this.#query(to, index, files, {}));
    return regions;
  }

  /** Takes the files of another connection in the place of the earlier ones. */
  adopt(files: ReadonlyMap<number, OwnedFd>): void {
    this.close();
    for (const [index, file] of files) this.#files.set(index, file);
  }

  /** Closes the server's files. Mappings of them stay. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  async #learn(index: number, call: CallOptions): Promise<Region> {
    checkIndex(index, this.#link.info.numRegions, 'region');
    return this.#query(this.#link, index, this.#files, call);
  }

  async #query(to: Requester, index: number, files: Map<number, OwnedFd>, call: CallOptions): Promise<Region> {
    let info = await this.#ask(to, index, REGION_INFO_BYTES, files, call);
    // Once: a server whose need keeps growing gets no third question.
    if (info.argsz > REGION_INFO_BYTES) {
      const needed = info.argsz;
      info = await this.#ask(to, index, needed, files, call);
      if (info.argsz > needed) throw new ClientError('ERR_VFU_CLIENT_SHORT', `region ${index} needs ${needed} bytes of answer, and then ${info.argsz}`);
    }
    return regionOf(info);
  }

  #ask(to: Requester, index: number, argsz: number, files: Map<number, OwnedFd>, call: CallOptions): Promise<DecodedRegionInfo> {
    const { sys } = this.#link;
    return to.request(VFIO_USER_DEVICE_GET_REGION_INFO, encodeGetRegionInfo(index, argsz), {
      ...call,
      maxReplyBytes: argsz,
      accept: (payload, takeFds) => {
        const info = decodeRegionInfo(payload);
        if (info.index !== index || info.argsz > MAX_REGION_INFO_BYTES) throw badServer(`region ${info.index} with argsz ${info.argsz} in answer to ${index}`);
        const fds = takeFds().map((fd) => new OwnedFd(fd, sys));
        // The specification would allow one per area; nobody sends that, and guessing which is which maps the wrong pages.
        if (fds.length > 1) {
          for (const fd of fds) fd.close();
          throw badServer(`${fds.length} descriptors for region ${index}`);
        }
        if (fds[0] !== undefined) {
          files.get(index)?.close();
          files.set(index, fds[0]);
        }
        return info;
      },
    });
  }

  #readOnce(region: number, offset: number, length: number, call: CallOptions): Promise<Uint8Array> {
    return this.#link.request(VFIO_USER_REGION_READ, encodeRegionRead({ offset, region, count: length }), {
      ...call,
      maxReplyBytes: REGION_ACCESS_BYTES + length,
      accept: (payload) => {
        // libvfio-user answers a read of 0 bytes with a header.
        if (length === 0) return payload.subarray(0, 0);
        const reply = decodeRegionReadReply(payload);
        checkEcho(reply, offset, region, length);
        return reply.data;
      },
    });
  }

  #writeOnce(region: number, offset: number, bytes: Uint8Array, call: CallOptions): Promise<void> {
    const length = bytes.length;
    return this.#link.request(VFIO_USER_REGION_WRITE, encodeRegionData(offset, region, bytes), {
      ...call,
      maxReplyBytes: REGION_ACCESS_BYTES,
      accept: (payload) => {
        if (length > 0) checkEcho(decodeRegionWriteReply(payload), offset, region, length);
      },
    });
  }

  async #writeBatch(writes: readonly RegionWrite[], options: WriteOptions): Promise<void> {
    const payload = encodeRegionWriteMulti(writes);
    if (options.posted === true) return this.#link.post(VFIO_USER_REGION_WRITE_MULTI, payload, options);
    await this.#link.request(VFIO_USER_REGION_WRITE_MULTI, payload, {
      ...options,
      maxReplyBytes: MULTI_HEAD_BYTES,
      accept: (reply) => {
        const executed = decodeRegionWriteMultiReply(reply);
        if (executed > writes.length) throw badServer(`${executed} writes executed of ${writes.length}`);
        if (executed < writes.length) throw new ClientError('ERR_VFU_CLIENT_SHORT', `${executed} of ${writes.length} writes were executed`);
      },
    });
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function checkAccess(region: number, offset: number, length: number): void {
  if (!isIndex(region, U32) || !Number.isSafeInteger(offset) || offset < 0 || !isIndex(length, U32) || !Number.isSafeInteger(offset + length)) {
    throw badArgument(`${length} bytes at ${offset} of region ${region}`);
  }
}

function checkEcho(reply: { readonly offset: number; readonly region: number; readonly count: number }, offset: number, region: number, count: number): void {
  if (reply.offset !== offset || reply.region !== region || reply.count > count) {
    throw badServer(`an answer for ${reply.count} bytes at ${reply.offset} of region ${reply.region}, asked for ${count} at ${offset} of ${region}`);
  }
  if (reply.count < count) throw new ClientError('ERR_VFU_CLIENT_SHORT', `${reply.count} of ${count} bytes at ${offset} of region ${region}`);
}
