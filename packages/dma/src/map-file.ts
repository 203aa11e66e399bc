/** What a consumer's file must be before its pages come into the window. */
import { channel } from 'node:diagnostics_channel';
import { F_SEAL_SHRINK, S_IFMT, S_IFREG } from '@emudev/linux';
import type { FileStatus, Sys } from '@emudev/linux';
import { DmaError } from './errors.ts';
import { CHUNK_BYTES } from './iotlb.ts';
import type { Window, WindowMapping } from './window.ts';

/**
 * A consumer that truncates a mapped file kills us with SIGBUS at the next access, so:
 * `seal` adds F_SEAL_SHRINK where the file takes it, else warns and maps; `warn` never adds one; `refuse` maps only
 * what is or can be sealed.
 */
export type Truncation = 'seal' | 'warn' | 'refuse';

/** Published on `emudev:dma:unsealed` when a file is mapped that its owner could truncate. */
export interface UnsealedEvent {
  readonly iova: bigint;
  readonly sizeBytes: number;
  /** The file's seals; undefined where it supports none. */
  readonly seals: number | undefined;
}
/** Name of the node:diagnostics_channel that `UnsealedEvent`s are published on. */
export const UNSEALED_CHANNEL = 'emudev:dma:unsealed';
const unsealed = channel(UNSEALED_CHANNEL);

export interface FileRange {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly fd: number;
  readonly fdOffset: number;
  /** The device may write: then the file must be mappable for writing. */
  readonly writable: boolean;
}

/** Seals first, then looks at the size: between the two nobody can shrink a file that took the seal. */
export function checkFile(sys: Sys, range: FileRange, truncation: Truncation): FileStatus {
  const seals = protectFromShrinking(sys, range.fd, truncation);
  const status = sys.fstat(range.fd);
  // CLIENT: any descriptor may come along. Only a regular file (memfd, tmpfs, hugetlbfs, disk) has a size that bounds it.
  if ((status.mode & S_IFMT) !== S_IFREG) throw new DmaError('ERR_DMA_FILE', `descriptor ${range.fd} is not a regular file (mode 0${status.mode.toString(8)})`);
  if (range.fdOffset + range.sizeBytes > status.sizeBytes) {
    throw new DmaError('ERR_DMA_FILE', `the file has ${status.sizeBytes} bytes, the region wants [${range.fdOffset}, ${range.fdOffset + range.sizeBytes})`);
  }
  if (!seals.safe && unsealed.hasSubscribers) unsealed.publish({ iova: range.iova, sizeBytes: range.sizeBytes, seals: seals.seals } satisfies UnsealedEvent);
  return status;
}

function protectFromShrinking(sys: Sys, fd: number, truncation: Truncation): { safe: boolean; seals: number | undefined } {
  const seals = sys.getSeals(fd);
  if (seals !== undefined && (seals & F_SEAL_SHRINK) !== 0) return { safe: true, seals };
  if (truncation !== 'warn' && seals !== undefined && sys.addSeals(fd, F_SEAL_SHRINK)) return { safe: true, seals };
  if (truncation === 'refuse') {
    throw new DmaError('ERR_DMA_UNSEALED', `descriptor ${fd} can be truncated under us and does not take F_SEAL_SHRINK; use a memfd with sealing allowed`);
  }
  return { safe: false, seals };
}

const EPERM = 1;
const EACCES = 13;

/** A file range in the window that several devices see: the cards of one guest map the same memory, which need not take its room twice. */
interface SharedMapping {
  readonly mapping: WindowMapping;
  users: number;
}
const sharedOf = new WeakMap<Window, Map<string, SharedMapping>>();

/** `file`: the status of the range's descriptor. Ranges that agree in everything share one mapping; the last to dispose ends it. */
export function mapFile(window: Window, range: FileRange, file: FileStatus, congruentTo: bigint | undefined): WindowMapping {
  const shared = sharedOf.get(window) ?? new Map<string, SharedMapping>();
  sharedOf.set(window, shared);
  // The epoch: mappings of a window that was emptied are gone. The residue: where an IOVA chunk must be a window chunk.
  const residue = congruentTo === undefined ? '' : String(congruentTo & BigInt(CHUNK_BYTES - 1));
  const key = [window.epoch, file.dev, file.ino, range.fdOffset, range.sizeBytes, range.writable, residue].join(':');
  let entry = shared.get(key);
  if (entry === undefined) {
    entry = { mapping: mapAsPermitted(window, range, congruentTo), users: 0 };
    shared.set(key, entry);
  }
  const { mapping } = entry;
  entry.users++;
  let disposed = false;
  return {
    offset: mapping.offset,
    lengthBytes: mapping.lengthBytes,
    [Symbol.dispose](): void {
      if (disposed) return;
      disposed = true;
      if (--entry.users > 0) return;
      shared.delete(key);
      mapping[Symbol.dispose]();
    },
  };
}

/**
 * Maps for writing even where the device may only read, so that a stray store harms the guest and not us, and for reading
 * only where the descriptor does not permit more. Who stores must check the WRITE permission first in either case.
 */
function mapAsPermitted(window: Window, range: FileRange, congruentTo: bigint | undefined): WindowMapping {
  const request = { fd: range.fd, fdOffset: range.fdOffset, lengthBytes: range.sizeBytes, ...(congruentTo === undefined ? {} : { congruentTo }) };
  try {
    return window.map({ ...request, write: true });
  } catch (error) {
    if (range.writable || !(error instanceof DmaError) || (error.errno !== EACCES && error.errno !== EPERM)) throw error;
    return window.map({ ...request, write: false });
  }
}
