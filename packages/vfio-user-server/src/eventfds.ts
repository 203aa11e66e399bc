import { readlinkSync } from 'node:fs';
import { VfioUserServerError } from './errors.ts';

const EINVAL = 22;

/**
 * CLIENT: whichever thread raises an interrupt must not wait. Writing to a pipe or a socket could, so nothing but an eventfd is
 * taken, which `eventfdSignal` and `eventfdDrain` never wait for. Its flags stay as they are: they belong to the client as well,
 * which may want to sleep in read(2) (libvfio-user's sample client does), and which could change them back.
 * @throws VfioUserServerError ERR_SERVER_NOT_EVENTFD
 */
export function requireEventfds(fds: readonly number[]): void {
  for (const fd of fds) {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    if (target !== 'anon_inode:[eventfd]') throw new VfioUserServerError('ERR_SERVER_NOT_EVENTFD', EINVAL, `an interrupt needs an eventfd, got ${target}`);
  }
}
