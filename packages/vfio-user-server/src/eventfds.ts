import { readlinkSync } from 'node:fs';
import type { Sys } from '@emudev/linux';
import { VfioUserServerError } from './errors.ts';

const EINVAL = 22;

/**
 * CLIENT: whichever thread raises an interrupt must not wait. Writing to a pipe or a socket could, so nothing but an eventfd is
 * taken, which `eventfdSignal` never waits for; it is made non-blocking for kernels where that takes a write.
 * @throws VfioUserServerError ERR_SERVER_NOT_EVENTFD
 */
export function requireEventfds(sys: Sys, fds: readonly number[]): void {
  for (const fd of fds) {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    if (target !== 'anon_inode:[eventfd]') throw new VfioUserServerError('ERR_SERVER_NOT_EVENTFD', EINVAL, `an interrupt needs an eventfd, got ${target}`);
    sys.setNonBlocking(fd, true);
  }
}
