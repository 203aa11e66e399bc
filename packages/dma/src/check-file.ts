/** What a consumer's file must be before its pages come into the window. */
import { channel } from 'node:diagnostics_channel';
import { F_SEAL_SHRINK, S_IFMT, S_IFREG } from '@emudev/linux';
import type { FileStatus, Sys } from '@emudev/linux';
import { DmaError } from './errors.ts';
import type { FileRegion } from './window-cache.ts';

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

/** Seals first, then looks at the size: between the two nobody can shrink a file that took the seal. */
export function checkFile(sys: Sys, range: FileRegion, truncation: Truncation): FileStatus {
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
