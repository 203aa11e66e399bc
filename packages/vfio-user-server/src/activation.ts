/** Sockets that somebody else has opened: systemd's socket activation (sd_listen_fds(3)), and what an inherited descriptor is. */
import { linux, type Sys } from '@emudev/linux';
import { VfioUserServerError } from './errors.ts';
import { MAX_LISTEN_FDS } from './limits.ts';

/** A descriptor that systemd has passed to this process; whoever takes it closes it. */
export interface InheritedSocket {
  readonly fd: number;
  /** `FileDescriptorName=` of the socket unit; 'unknown' where systemd says none. */
  readonly name: string;
}

const SD_LISTEN_FDS_START = 3;
const EINVAL = 22;
const ENOTSOCK = 88;

/**
 * The sockets systemd has passed to this process, in the order of the unit; none where it has not. They become close-on-exec and
 * LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES leave the environment: children are not meant by them. Call it once.
 * @throws VfioUserServerError ERR_SERVER_SOCKET where the variables are meant for this process and make no sense; LinuxError EBADF
 */
export function listenFds({ env = process.env, pid = process.pid, sys = linux }: { readonly env?: NodeJS.ProcessEnv; readonly pid?: number; readonly sys?: Sys } = {}): InheritedSocket[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: text = '', LISTEN_FDNAMES: names } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) Reflect.deleteProperty(env, name);
  // Variables of a parent that passed them on without the descriptors.
  if (forPid !== String(pid)) return [];
  const count = /^\d{1,4}$/.test(text) ? Number(text) : NaN;
  if (!(count >= 1 && count <= MAX_LISTEN_FDS)) throw new VfioUserServerError('ERR_SERVER_SOCKET', EINVAL, `LISTEN_FDS is '${text}', wanted a number of descriptors, at most ${MAX_LISTEN_FDS}`);
  const named = names?.split(':') ?? [];
  return Array.from({ length: count }, (_, i) => {
    const fd = SD_LISTEN_FDS_START + i;
    sys.setCloseOnExec(fd, true);
    return { fd, name: named[i] ?? 'unknown' };
  });
}

/**
 * What an inherited descriptor (`--fd=N`) is: a listener of socket activation, or a connection that a management layer has made.
 * @throws VfioUserServerError ERR_SERVER_SOCKET for anything that is not a UNIX stream socket; LinuxError EBADF
 */
export function inheritedSocketKind(fd: number, sys: Sys = linux): 'listening' | 'connected' {
  const kind = sys.unixSocketKind(fd);
  if (kind === undefined) throw new VfioUserServerError('ERR_SERVER_SOCKET', ENOTSOCK, `descriptor ${fd} is not a UNIX stream socket`);
  return kind;
}
