/** Shared memory: a peer's, checked before it comes into the window, and our own. */
import { DmaError, type Window, type WindowMapping } from '@emudev/dma';
import { F_SEAL_GROW, F_SEAL_SHRINK, LinuxError, OwnedFd, S_IFMT, S_IFREG, type Sys } from '@emudev/linux';
import { MemifError } from './errors.ts';
import { MAX_SHARED_BYTES } from './limits.ts';

const PAGE_BYTES = 4096;
const wholePages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** Shared memory in the window. */
export interface Region {
  readonly mapping: WindowMapping;
  /** As the peer was told, or told us: the mapping may be longer by a part of a page. */
  readonly sizeBytes: number;
}

function mapped(window: Window, fd: number, sizeBytes: number): Region {
  return { mapping: window.map({ fd, fdOffset: 0, lengthBytes: wholePages(sizeBytes), write: true }), sizeBytes };
}

/**
 * Maps what a peer calls shared memory; the descriptor may be closed afterwards. A file that could be truncated is refused: the next
 * access would be SIGBUS. Throws ERR_MEMIF_REGION.
 */
export function mapPeerRegion(window: Window, fd: number, sizeBytes: number, roomBytes: number = MAX_SHARED_BYTES): Region {
  const { sys } = window;
  // CLIENT: any descriptor and any size may come along.
  if (sizeBytes === 0 || sizeBytes > roomBytes) throw new MemifError('ERR_MEMIF_REGION', `region of ${sizeBytes} bytes: want 1 to ${roomBytes}`);
  try {
    // The seal first, then the size: between the two nobody can shrink it.
    const seals = sys.getSeals(fd);
    if (seals === undefined || ((seals & F_SEAL_SHRINK) === 0 && !sys.addSeals(fd, F_SEAL_SHRINK))) {
      throw new MemifError('ERR_MEMIF_REGION', 'region could be truncated: it is no memfd that takes F_SEAL_SHRINK');
    }
    const file = sys.fstat(fd);
    if ((file.mode & S_IFMT) !== S_IFREG || file.sizeBytes < sizeBytes) throw new MemifError('ERR_MEMIF_REGION', `region of ${sizeBytes} bytes in a file of ${file.sizeBytes}`);
    return mapped(window, fd, sizeBytes);
  } catch (error) {
    if (error instanceof DmaError || error instanceof LinuxError) throw new MemifError('ERR_MEMIF_REGION', `region cannot be mapped (${error.code})`, { cause: error });
    throw error;
  }
}

/** New memory to share, zero-filled, whose size nobody can change. Throws LinuxError or DmaError; nothing stays open then. */
export function createRegion(window: Window, sys: Sys, sizeBytes: number): { region: Region; fd: OwnedFd } {
  const fd = new OwnedFd(sys.memfdCreate('memif', { allowSealing: true }), sys);
  try {
    sys.ftruncate(fd.fd, wholePages(sizeBytes));
    sys.addSeals(fd.fd, F_SEAL_SHRINK | F_SEAL_GROW);
    return { region: mapped(window, fd.fd, sizeBytes), fd };
  } catch (error) {
    fd.close();
    throw error;
  }
}
