/** What a connection consists of besides its control channel: shared memory, rings in it, an eventfd for each. */
import type { OwnedFd } from '@emudev/linux';
import type { WindowView } from '@emudev/dma';
import { MemifError } from './errors.ts';
import { MEMIF_COOKIE, RING_COOKIE, ringBytes } from './layout.ts';
import { MAX_LOG2_RING_SIZE } from './limits.ts';
import type { Direction } from './messages.ts';
import type { Region } from './regions.ts';

/** Where a ring is. */
export interface Ring {
  readonly direction: Direction;
  readonly index: number;
  readonly region: number;
  readonly offset: number;
  readonly log2Size: number;
  /** Signalled by whoever sends on it. */
  readonly eventfd: OwnedFd;
  /** Client: the buffers of its descriptors, in region 0. */
  readonly buffers?: { readonly offset: number; readonly strideBytes: number; readonly bytes: number };
}

/** Shared memory and rings of one connection; owns them. */
export class Attachment implements Disposable {
  readonly regions: Region[] = [];
  readonly rings: Ring[] = [];
  /** What the peer calls itself, and its interface. */
  peerName = '';
  peerInterface = '';

  /** Bytes of shared memory. */
  get sharedBytes(): number {
    return this.regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  has(direction: Direction, index: number): boolean {
    return this.rings.some((ring) => ring.direction === direction && ring.index === index);
  }

  /** Window offset of a ring. Throws ERR_MEMIF_PROTOCOL where its region has none there. */
  ringOffset(window: WindowView, ring: Ring): number {
    const what = `${ring.direction.toUpperCase()} ring ${ring.index}`;
    // CLIENT: numbers from ADD_RING.
    const region = this.regions[ring.region];
    if (region === undefined) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: there is no region ${ring.region}`);
    if (ring.log2Size > MAX_LOG2_RING_SIZE) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: log2 of its size is ${ring.log2Size}: want 0 to ${MAX_LOG2_RING_SIZE}`);
    if (ring.offset % 4 !== 0) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: offset ${ring.offset} is not aligned`);
    const bytes = ringBytes(ring.log2Size);
    if (ring.offset + bytes > region.sizeBytes) {
      throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: ${bytes} bytes at ${ring.offset} do not lie in ${region.sizeBytes}`);
    }
    const offset = region.mapping.offset + ring.offset;
    if (window.u32[(offset + RING_COOKIE) >>> 2] !== MEMIF_COOKIE) throw new MemifError('ERR_MEMIF_PROTOCOL', `${what}: no cookie there`);
    return offset;
  }

  /** No lcore uses any of it any more. */
  [Symbol.dispose](): void {
    for (const { eventfd } of this.rings.splice(0)) eventfd.close();
    for (const { mapping } of this.regions.splice(0)) mapping[Symbol.dispose]();
  }
}
