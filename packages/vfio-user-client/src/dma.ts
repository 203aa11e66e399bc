/** DMA_MAP and DMA_UNMAP: which memory the device may use. */
import {
  DMA_UNMAP_BYTES, MAX_ARGSZ_BYTES, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, VFIO_USER_F_DMA_REGION_FILE_IO, VFIO_USER_F_DMA_REGION_MMAP,
  decodeDmaUnmapReply, dirtyBitmapBytes, encodeDmaMap, encodeDmaUnmap,
} from '@emudev/vfio-user-protocol';
import type { DmaUnmapReply } from '@emudev/vfio-user-protocol';
import { DirtyBitmap } from './dirty-bitmap.ts';
import type { DirtyTracker } from './dirty-tracker.ts';
import type { DmaMapRequest, DmaMaps, DmaRange } from './dma-maps.ts';
import { badArgument, badServer } from './errors.ts';
import { KeptFiles } from './kept-files.ts';
import { MAX_DMA_MAPS, REPLAY_BATCH } from './limits.ts';
import { HEADER_ONLY, hex } from './link.ts';
import type { Link, Requester } from './link.ts';
import type { CallOptions } from './requests.ts';

const BITMAP_HEADER_BYTES = 16;

/**
 * `VfioUserClient.dma`: the memory the device may use. Every method rejects with a ClientError; ERR_VFU_CLIENT_ARGUMENT before
 * anything is sent, ERR_VFU_CLIENT_REFUSED with the server's `errno`.
 */
export class Dma {
  readonly #link: Link;
  readonly #maps: DmaMaps;
  readonly #dirty: DirtyTracker;
  readonly #files: KeptFiles;

  constructor(link: Link, maps: DmaMaps, dirty: DirtyTracker) {
    this.#link = link;
    this.#maps = maps;
    this.#dirty = dirty;
    this.#files = new KeptFiles(link.sys);
  }

  /** Maps the device has at present. */
  get count(): number {
    return this.#maps.count;
  }

  /** Whether exactly this range is mapped. */
  has(iova: bigint, sizeBytes: number): boolean {
    return this.#maps.find(iova, sizeBytes) !== undefined;
  }

  /** Gives the device a range of memory: `fd` for the server to map, or without one by messages. See DmaMapRequest. */
  async map(request: DmaMapRequest, call: CallOptions = {}): Promise<void> {
    const { fd, fdOffset = 0, access } = request;
    const { server } = this.#link;
    if (!Number.isSafeInteger(fdOffset) || fdOffset < 0) throw badArgument(`file offset ${fdOffset}`);
    if (fd !== undefined && server.maxMsgFds === 0) throw badArgument('the server takes no descriptors');
    if (fd === undefined && access !== undefined) throw badArgument(`access '${access}' without a descriptor`);
    if (this.#maps.count >= Math.min(server.maxDmaMaps, MAX_DMA_MAPS)) throw badArgument(`the server takes no more than ${this.#maps.count} DMA maps`);
    this.#link.checkOpen();
    // Before it is sent: the device may use the range before the answer has been looked at.
    const range = this.#maps.add(request);
    try {
      if (fd !== undefined && this.#link.reconnects) range.file = this.#files.keep(fd, request.writable);
      await this.#send(this.#link, range, range.file?.fd ?? fd, call);
      range.accepted = true;
    } catch (error) {
      this.#maps.remove(range);
      throw error;
    }
  }

  /** Takes back exactly one earlier map. When it resolves the device no longer uses the memory. */
  async unmap(iova: bigint, sizeBytes: number, call: CallOptions = {}): Promise<void> {
    const range = this.#mapped(iova, sizeBytes);
    await this.#unmap(0, iova, BigInt(sizeBytes), call);
    this.#maps.remove(range);
  }

  /**
   * As `unmap`, and says which pages of `pageSize` bytes the device has written since the log was last read. Needs a dirty log that
   * is on (`DirtyLog.start`); when the server cannot produce the bitmap it refuses and the memory stays mapped.
   */
  async unmapDirty(iova: bigint, sizeBytes: number, pageSize: number, call: CallOptions = {}): Promise<DirtyBitmap> {
    const range = this.#mapped(iova, sizeBytes);
    const size = BigInt(sizeBytes);
    const pages = { pageSize: BigInt(pageSize), bytes: dirtyBitmapBytes(size, BigInt(pageSize)) };
    const bitmap = new DirtyBitmap(iova, size, pages.pageSize);
    if (BigInt(DMA_UNMAP_BYTES + BITMAP_HEADER_BYTES) + pages.bytes > BigInt(MAX_ARGSZ_BYTES)) throw badArgument(`a bitmap of ${pages.bytes} bytes does not fit a reply: use larger pages`);
    if (range.request.fd === undefined) {
      // Everything the device wrote here came by message: the server has no log of it.
      await this.#unmap(0, iova, size, call);
    } else {
      const { dirty } = await this.#unmap(VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, iova, size, call, pages);
      bitmap.addBits(dirty!);
    }
    this.#dirty.take(bitmap);
    this.#maps.remove(range);
    return bitmap;
  }

  /** Takes all memory back, in one message (DMA_UNMAP with ALL). */
  async unmapAll(call: CallOptions = {}): Promise<void> {
    const ranges = this.#maps.all();
    await this.#unmap(VFIO_DMA_UNMAP_FLAG_ALL, 0n, 0n, call);
    for (const range of ranges) this.#maps.remove(range);
  }

  /**
   * Answers no DMA message for this map any more, whatever the server thinks of it: for memory that is about to go although the
   * server refused to give it back.
   */
  forget(iova: bigint, sizeBytes: number): void {
    this.#maps.remove(this.#mapped(iova, sizeBytes));
  }

  /** Tells another connection of every map the last one had. */
  async replay(to: Requester): Promise<void> {
    const ranges = this.#maps.all().filter((range) => range.accepted);
    for (let at = 0; at < ranges.length; at += REPLAY_BATCH) {
      await Promise.all(ranges.slice(at, at + REPLAY_BATCH).map((range) => this.#send(to, range, range.file?.fd, {})));
    }
  }

  /** Forgets everything; the connection has ended. */
  close(): void {
    for (const range of this.#maps.all()) this.#maps.remove(range);
  }

  #mapped(iova: bigint, sizeBytes: number): DmaRange {
    const range = Number.isSafeInteger(sizeBytes) ? this.#maps.find(iova, sizeBytes) : undefined;
    if (range === undefined) throw badArgument(`no DMA map at ${hex(iova)} of ${sizeBytes} bytes`);
    return range;
  }

  #send(to: Requester, range: DmaRange, fd: number | undefined, call: CallOptions): Promise<void> {
    const { readable, writable, access, fdOffset = 0, iova, sizeBytes } = range.request;
    let flags = (readable ? VFIO_DMA_MAP_FLAG_READ : 0) | (writable ? VFIO_DMA_MAP_FLAG_WRITE : 0);
    if (access === 'mmap') flags |= VFIO_USER_F_DMA_REGION_MMAP;
    if (access === 'file-io') flags |= VFIO_USER_F_DMA_REGION_FILE_IO;
    const payload = encodeDmaMap({ flags, fdOffset: BigInt(fdOffset), address: iova, size: BigInt(sizeBytes) });
    return to.request(VFIO_USER_DMA_MAP, payload, { ...call, ...HEADER_ONLY, fds: fd === undefined ? [] : [fd] });
  }

  #unmap(flags: number, address: bigint, size: bigint, call: CallOptions, bitmap?: { readonly pageSize: bigint; readonly bytes: bigint }): Promise<Partial<DmaUnmapReply>> {
    const unmap = { flags, address, size, ...(bitmap === undefined ? {} : { bitmap }) };
    return this.#link.request(VFIO_USER_DMA_UNMAP, encodeDmaUnmap(unmap), {
      ...call,
      maxReplyBytes: DMA_UNMAP_BYTES + (bitmap === undefined ? 0 : BITMAP_HEADER_BYTES + Number(bitmap.bytes)),
      accept: (payload) => {
        // Some servers leave the echo out; one that is there has to be right, and a bitmap that was asked for has to be there.
        if (payload.length === 0 && bitmap === undefined) return {};
        const reply = decodeDmaUnmapReply(payload);
        if (reply.address !== address || reply.size !== size || reply.flags !== flags) throw badServer('an answer to another DMA_UNMAP');
        if (bitmap !== undefined && (reply.bitmap?.pageSize !== bitmap.pageSize || reply.bitmap.bytes !== bitmap.bytes)) {
          throw badServer(`a dirty bitmap of ${reply.bitmap?.bytes} bytes for pages of ${reply.bitmap?.pageSize}, asked for ${bitmap.bytes} and ${bitmap.pageSize}`);
        }
        return reply;
      },
    });
  }
}
