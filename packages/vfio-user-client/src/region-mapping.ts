/** Parts of a region mapped into the DMA window: doorbells become plain stores. */
import { F_SEAL_SHRINK } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import type { Window, WindowMapping } from '@emudev/dma';
import type { SparseArea } from '@emudev/vfio-user-protocol';
import { badArgument, ClientError } from './errors.ts';
import type { Region } from './region.ts';
import type { CallOptions } from './requests.ts';

const PAGE_BYTES = 4096;

/** `offset` and `sizeBytes` as the region counts; `windowOffset` is where the area begins in the window. */
export interface MappedArea {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly windowOffset: number;
}

export interface MapRegionOptions extends CallOptions {
  /**
   * A server that truncates the file under a mapping kills this process (SIGBUS), so files that can still shrink are refused
   * unless this says that the server is trusted.
   */
  readonly allowUnsealed?: boolean;
  /** Parts of what the server offers, in multiples of 4096 bytes; everything by default. */
  readonly areas?: readonly SparseArea[];
}

/** Mapped areas of one region. They outlive the connection, until disposed: a store then reaches a file nobody reads. */
export class RegionMapping implements Disposable {
  readonly areas: readonly MappedArea[];
  readonly #mappings: WindowMapping[];

  constructor(areas: readonly MappedArea[], mappings: WindowMapping[]) {
    this.areas = areas;
    this.#mappings = mappings;
  }

  /** Window offset of `bytes` bytes at `offset` of the region; undefined where they are not all inside one mapped area. */
  at(offset: number, bytes: number): number | undefined {
    for (const area of this.areas) {
      const inside = offset - area.offset;
      if (inside >= 0 && inside + bytes <= area.sizeBytes) return area.windowOffset + inside;
    }
    return undefined;
  }

  /** Unmaps all areas: zero pages take their place in the window. */
  [Symbol.dispose](): void {
    for (const mapping of this.#mappings.splice(0)) mapping[Symbol.dispose]();
  }
}

/** Throws ERR_VFU_CLIENT_NOT_MAPPABLE, or the window's DmaError; then nothing stays mapped. */
export function mapAreas(sys: Sys, window: Window, region: Region, fd: number, options: MapRegionOptions): RegionMapping {
  const areas = (options.areas ?? region.areas).filter((area) => area.sizeBytes > 0);
  if (options.areas !== undefined) checkOffered(region, areas);
  // CLIENT: areas, file offset and the file itself are the server's. That areas lie inside the region the decoder has checked.
  const fileBytes = sys.fstat(fd).sizeBytes;
  for (const { offset, sizeBytes } of areas) {
    const fileOffset = region.fileOffset + offset;
    if (offset % PAGE_BYTES !== 0 || sizeBytes % PAGE_BYTES !== 0 || fileOffset % PAGE_BYTES !== 0) throw notMappable(region, `area 0x${offset.toString(16)}+0x${sizeBytes.toString(16)} is not page aligned`);
    if (!Number.isSafeInteger(fileOffset + sizeBytes) || fileOffset + sizeBytes > fileBytes) throw notMappable(region, `area 0x${offset.toString(16)}+0x${sizeBytes.toString(16)} is beyond the end of the file (${fileBytes} bytes)`);
  }
  const seals = sys.getSeals(fd) ?? 0;
  const sealed = (seals & F_SEAL_SHRINK) !== 0 || sys.addSeals(fd, F_SEAL_SHRINK);
  if (!sealed && options.allowUnsealed !== true) throw notMappable(region, 'the server could shrink the file under the mapping (allowUnsealed trusts it)');
  // Once more, now that it cannot shrink: it might have in between.
  if (sys.fstat(fd).sizeBytes < fileBytes) throw notMappable(region, 'the file is shrinking');
  const mappings: WindowMapping[] = [];
  try {
    for (const { offset, sizeBytes } of areas) {
      mappings.push(window.map({ fd, fdOffset: region.fileOffset + offset, lengthBytes: sizeBytes, write: region.writable }));
    }
  } catch (error) {
    for (const mapping of mappings) mapping[Symbol.dispose]();
    throw error;
  }
  return new RegionMapping(areas.map(({ offset, sizeBytes }, i) => ({ offset, sizeBytes, windowOffset: mappings[i]!.offset })), mappings);
}

function checkOffered(region: Region, areas: readonly SparseArea[]): void {
  for (const { offset, sizeBytes } of areas) {
    if (!region.areas.some((offered) => offset >= offered.offset && offset + sizeBytes <= offered.offset + offered.sizeBytes)) {
      throw badArgument(`area 0x${offset.toString(16)}+0x${sizeBytes.toString(16)} of region ${region.index} is not in what the server offers`);
    }
  }
}

export function notMappable(region: Region, why: string): ClientError {
  return new ClientError('ERR_VFU_CLIENT_NOT_MAPPABLE', `region ${region.index} cannot be mapped: ${why}`);
}
