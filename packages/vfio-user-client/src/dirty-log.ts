/**
 * Which pages the device has written. Two logs are one here: the server's, of what it wrote itself, and this process's own, of what
 * the device wrote by DMA_WRITE.
 */
import {
  DEVICE_FEATURE_BYTES, DMA_LOGGING_REPORT_BYTES, MAX_ARGSZ_BYTES, MAX_DMA_LOGGING_RANGES,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET,
  decodeDmaLoggingReportReply, encodeDmaLogging, encodeDmaLoggingReport,
} from '@emudev/vfio-user-protocol';
import type { IovaRange } from '@emudev/vfio-user-protocol';
import { DirtyBitmap } from './dirty-bitmap.ts';
import type { DirtyTracker } from './dirty-tracker.ts';
import type { DmaMaps } from './dma-maps.ts';
import { badArgument, badServer } from './errors.ts';
import { sendFeature } from './features.ts';
import type { Features } from './features.ts';
import type { Link, Requester } from './link.ts';
import type { CallOptions } from './requests.ts';

/** No server has smaller pages, and no DMA map other bounds. */
const SMALLEST_PAGE = 4096n;
/** The rest of a reply is the bitmap, in whole words of 8 bytes. */
const MAX_REPLY_BITMAP_BYTES = (MAX_ARGSZ_BYTES - DEVICE_FEATURE_BYTES - DMA_LOGGING_REPORT_BYTES) & ~7;

/**
 * `VfioUserClient.dirtyLog`: which pages the device has written (VFIO's DMA_LOGGING features), whether through a mapping or by
 * DMA_WRITE. What this process writes itself is not in it.
 */
export class DirtyLog {
  readonly #link: Link;
  readonly #features: Features;
  readonly #maps: DmaMaps;
  readonly #tracker: DirtyTracker;
  /** What START was sent with, while the log is on. */
  #started: Uint8Array | undefined;

  constructor(link: Link, features: Features, maps: DmaMaps, tracker: DirtyTracker) {
    this.#link = link;
    this.#features = features;
    this.#maps = maps;
    this.#tracker = tracker;
  }

  /** True between `start` and `stop`. */
  get on(): boolean {
    return this.#started !== undefined;
  }

  /**
   * Begins to log writes to `ranges` (everything without) in pages of `pageSize` bytes, a power of two. ERR_VFU_CLIENT_REFUSED where
   * the device cannot.
   */
  async start(pageSize: number, ranges: readonly IovaRange[] = [], call: CallOptions = {}): Promise<void> {
    if (!isPageSize(pageSize)) throw badArgument(`pages of ${pageSize} bytes`);
    if (ranges.length > MAX_DMA_LOGGING_RANGES) throw badArgument(`${ranges.length} ranges to log, at most ${MAX_DMA_LOGGING_RANGES}`);
    for (const { iova, length } of ranges) if (iova < 0n || length <= 0n || iova + length > 1n << 64n) throw badArgument('a range to log outside the address space');
    const request = encodeDmaLogging({ pageSize: BigInt(pageSize), ranges });
    // Before the server: nothing it writes by message after it has started may be missed.
    const wasOn = this.#tracker.on;
    this.#tracker.start();
    try {
      await this.#features.set(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, request, call);
    } catch (error) {
      if (!wasOn) this.#tracker.stop();
      throw error;
    }
    this.#started = request;
  }

  /** Ends the log; what it held is forgotten. */
  async stop(call: CallOptions = {}): Promise<void> {
    await this.#features.set(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, encodeDmaLogging({ pageSize: SMALLEST_PAGE, ranges: [] }), call);
    this.#tracker.stop();
    this.#started = undefined;
  }

  /**
   * The pages of [iova, iova + length) that were written since the last report of them; reading clears. `pageSize` may be another
   * than the log's. Addresses that are not mapped are clean. When it rejects half way, what the server had reported is lost: treat
   * the whole range as dirty.
   */
  async report(iova: bigint, length: bigint, pageSize: number, call: CallOptions = {}): Promise<DirtyBitmap> {
    if (!isPageSize(pageSize)) throw badArgument(`pages of ${pageSize} bytes`);
    if (!this.on) throw badArgument('the dirty log is off');
    const result = new DirtyBitmap(iova, length, BigInt(pageSize));
    for (const { start, end, request } of this.#maps.within(result.iova, result.end)) {
      // Without a descriptor everything comes by message; and libvfio-user refuses to report such a region.
      if (request.fd === undefined || !request.writable) continue;
      // Region by region: libvfio-user does not report across their bounds.
      const from = start > result.iova ? start : result.iova;
      const to = end < result.end ? end : result.end;
      await this.#askServer(from, to, result, call);
    }
    // Last: what the device wrote by message while the server was asked counts as well.
    this.#tracker.take(result);
    return result;
  }

  /** The dirty pages of all that is mapped for writing, map by map, as ranges of addresses. */
  async *dirtyPages(pageSize: number, call: CallOptions = {}): AsyncGenerator<IovaRange, void, undefined> {
    const size = BigInt(pageSize);
    for (const { start, end, request } of this.#maps.all()) {
      if (!request.writable) continue;
      const first = start - (start % size);
      const last = end + ((size - (end % size)) % size);
      yield* await this.report(first, last - first, pageSize, call);
    }
  }

  /** Starts the log of another connection. What the lost one held is unknown, so everything is dirty once. */
  async replay(to: Requester): Promise<void> {
    if (this.#started === undefined) return;
    this.#tracker.markEverything();
    await sendFeature(to, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET, this.#started, {});
  }

  /** In pages that divide the range, and pieces whose bitmaps fit a reply. */
  async #askServer(from: bigint, to: bigint, result: DirtyBitmap, call: CallOptions): Promise<void> {
    const pageSize = largestPage(from, to, result.pageSize);
    const first = from - (from % pageSize);
    const last = to + ((pageSize - (to % pageSize)) % pageSize);
    const step = pageSize * 8n * BigInt(this.#bitmapBytes);
    for (let at = first; at < last; at += step) {
      const length = last - at < step ? last - at : step;
      const piece = new DirtyBitmap(at, length, pageSize);
      piece.addBits(await this.#ask(piece, call));
      result.add(piece);
    }
  }

  get #bitmapBytes(): number {
    const announced = this.#link.server.migration?.maxBitmapSize ?? MAX_REPLY_BITMAP_BYTES;
    return Math.max(Math.min(announced & ~7, MAX_REPLY_BITMAP_BYTES), 8);
  }

  #ask({ iova, length, pageSize, pages }: DirtyBitmap, call: CallOptions): Promise<Uint8Array> {
    const maxBytes = DMA_LOGGING_REPORT_BYTES + 8 * Math.ceil(pages / 64);
    const data = encodeDmaLoggingReport({ iova, length, pageSize });
    return this.#features.ask(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, { ...call, data, maxBytes }, (answer) => {
      // The decoder checks that the bitmap is as long as the range in the answer says.
      const reply = decodeDmaLoggingReportReply(answer);
      if (reply.iova !== iova || reply.length !== length || reply.pageSize !== pageSize) throw badServer('a dirty bitmap of another range');
      return reply.bitmap;
    });
  }
}

function isPageSize(pageSize: number): boolean {
  return Number.isSafeInteger(pageSize) && pageSize > 0 && (BigInt(pageSize) & (BigInt(pageSize) - 1n)) === 0n;
}

/** The largest page up to `wanted` that both ends are multiples of; not below what servers have. */
function largestPage(from: bigint, to: bigint, wanted: bigint): bigint {
  let page = wanted;
  while (page > SMALLEST_PAGE && (from % page !== 0n || to % page !== 0n)) page >>= 1n;
  return page;
}
