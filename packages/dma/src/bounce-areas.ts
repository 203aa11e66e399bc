/**
 * Memory of the window that one device sees at addresses of ours: where what a consumer keeps out of the window (a region without a
 * descriptor) is copied to and from, so that kernels find it by the IOTLB like anything else.
 *
 * The addresses are random ones in the upper half of the address space. A guest that guesses one reaches what was on its way to or
 * from itself. A region that is mapped over an area moves the area.
 */
import { randomBytes } from 'node:crypto';
import type { ChunkTable, MappedRange } from './chunk-table.ts';
import { DmaError } from './errors.ts';
import { CHUNK_SHIFT, IOTLB_READ, IOTLB_WRITE, PAGE_BYTES } from './iotlb.ts';
import { BOUNCE_ADDRESS_TRIES, MAX_BOUNCE_BYTES, MIN_BOUNCE_SHARE_BYTES } from './limits.ts';
import type { Window, WindowOffset } from './window.ts';

/** Memory for copies of what a device cannot be shown. Disposed of when no reader uses it any more. */
export interface BounceArea extends Disposable {
  /** Where the device sees it; another after a change of the device's regions (`generation`). The page behind the area is always void. */
  readonly iova: bigint;
  readonly offset: WindowOffset;
  /** Whole pages. */
  readonly sizeBytes: number;
}

interface Area {
  iova: bigint;
  readonly offset: WindowOffset;
  readonly sizeBytes: number;
  isOpen: boolean;
}

/** What all devices of a window have since it was emptied last. */
interface Together {
  readonly epoch: number;
  devices: number;
  /** In areas. */
  bytes: number;
}

const ofWindow = new WeakMap<Window, Together>();

export class BounceAreas implements Disposable {
  readonly #window: Window;
  readonly #table: ChunkTable;
  readonly #isFree: (iova: bigint, end: bigint) => boolean;
  readonly #all: Together;
  readonly #areas = new Set<Area>();
  #bytes = 0;

  /** `isFree`: no region of the device has anything of [iova, end). */
  constructor(window: Window, table: ChunkTable, isFree: (iova: bigint, end: bigint) => boolean) {
    this.#window = window;
    this.#table = table;
    this.#isFree = isFree;
    const known = ofWindow.get(window);
    this.#all = known?.epoch === window.epoch ? known : { epoch: window.epoch, devices: 0, bytes: 0 };
    if (this.#all !== known) ofWindow.set(window, this.#all);
    this.#all.devices++;
  }

  /** ERR_WINDOW_FULL or ERR_DMA_LIMIT where there is none; nothing has changed then. */
  open(lengthBytes: number): BounceArea {
    const sizeBytes = PAGE_BYTES * Math.ceil(lengthBytes / PAGE_BYTES);
    const area = this.#closed(sizeBytes) ?? this.#make(sizeBytes);
    area.isOpen = true;
    let isMine = true;
    return {
      get iova() { return area.iova; },
      offset: area.offset,
      sizeBytes,
      [Symbol.dispose]: () => {
        if (isMine) area.isOpen = false;
        isMine = false;
      },
    };
  }

  /** A region is about to be mapped there: areas move out of its way. Nothing has changed where it throws. */
  avoid(iova: bigint, end: bigint): void {
    for (const area of this.#areas) {
      if (area.iova >= end || endOf(area) <= iova) continue;
      const old = rangeOf(area);
      const next = this.#place(area.sizeBytes, { iova, end });
      this.#table.add(rangeOf({ ...area, iova: next }));
      this.#table.remove(old);
      area.iova = next;
    }
  }

  /**
   * Gives back the areas that nobody has open; no reader of the device runs. They are kept until then because an entry that is taken
   * out of the table beside readers leaves its page table behind.
   */
  sweep(): void {
    for (const area of this.#areas) if (!area.isOpen) this.#remove(area);
  }

  /** Gives back all of them; no reader of the device runs. */
  clear(): void {
    for (const area of this.#areas) this.#remove(area);
  }

  /** The device is gone; no reader of it runs. Once. */
  [Symbol.dispose](): void {
    this.clear();
    this.#all.devices--;
  }

  #closed(sizeBytes: number): Area | undefined {
    for (const area of this.#areas) if (!area.isOpen && area.sizeBytes === sizeBytes) return area;
    return undefined;
  }

  #make(sizeBytes: number): Area {
    const share = Math.max(MIN_BOUNCE_SHARE_BYTES, MAX_BOUNCE_BYTES / this.#all.devices);
    if (this.#bytes + sizeBytes > share) throw new DmaError('ERR_DMA_LIMIT', `the device has ${this.#bytes} bytes of bounce areas, ${share} are its share`);
    if (this.#all.bytes + sizeBytes > MAX_BOUNCE_BYTES) throw new DmaError('ERR_WINDOW_FULL', `the window has ${this.#all.bytes} bytes of bounce areas, ${MAX_BOUNCE_BYTES} at most`);
    const iova = this.#place(sizeBytes);
    const area: Area = { iova, offset: this.#window.alloc(sizeBytes, PAGE_BYTES), sizeBytes, isOpen: true };
    try {
      this.#table.add(rangeOf(area));
    } catch (error) {
      this.#window.free(area.offset);
      throw error;
    }
    this.#all.bytes += sizeBytes;
    this.#bytes += sizeBytes;
    this.#areas.add(area);
    return area;
  }

  /** Where neither a region nor another area is, nor one that is about to come. */
  #place(sizeBytes: number, coming?: { readonly iova: bigint; readonly end: bigint }): bigint {
    for (let n = 0; n < BOUNCE_ADDRESS_TRIES; n++) {
      const iova = (1n << 63n) | ((randomBytes(8).readBigUInt64LE() >> BigInt(CHUNK_SHIFT + 1)) << BigInt(CHUNK_SHIFT));
      const end = iova + BigInt(sizeBytes + PAGE_BYTES);
      if (end > 1n << 64n || !this.#isFree(iova, end) || (coming !== undefined && coming.iova < end && iova < coming.end)) continue;
      if ([...this.#areas].some((area) => area.iova < end && iova < endOf(area))) continue;
      return iova;
    }
    throw new DmaError('ERR_DMA_LIMIT', 'no address is left where the device could see a bounce area');
  }

  #remove(area: Area): void {
    this.#areas.delete(area);
    this.#table.remove(rangeOf(area));
    this.#window.free(area.offset);
    this.#all.bytes -= area.sizeBytes;
    this.#bytes -= area.sizeBytes;
  }
}

/** With the page behind it. */
function endOf(area: Area): bigint {
  return area.iova + BigInt(area.sizeBytes + PAGE_BYTES);
}

function rangeOf({ iova, offset, sizeBytes }: Area): MappedRange {
  return { page: Number(iova / BigInt(PAGE_BYTES)), pages: sizeBytes / PAGE_BYTES, offset, flags: IOTLB_READ | IOTLB_WRITE };
}
