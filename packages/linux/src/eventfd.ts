import { readlinkSync } from 'node:fs';
import { blocked } from './files.ts';
import { NativeSignal } from './native-signal.ts';
import { POLLOUT } from './sys.ts';
import { EOPNOTSUPP, SYS_PREADV2, addressOf, check, errno, libc } from './libc.ts';

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

const one = new BigUint64Array(new ArrayBuffer(8));
one[0] = 1n;
const counter = new DataView(new ArrayBuffer(8));

export function eventfd(initial = 0): number {
  return check(libc.eventfd(initial, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd', initial);
}

/** This thread's; null where the kernel offers none. */
let native: NativeSignal | null | undefined;

/** The kernel's own name for it (fs/eventfd.c); no file system can have a file of that name. */
export function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}

/**
 * Must not block, whoever else holds the descriptor: O_NONBLOCK belongs to the open file, so a peer that shares it can take the
 * flag away again and fill the counter, and a write(2) would sleep for as long as the peer likes.
 */
export function eventfdSignal(fd: number): boolean {
  native ??= NativeSignal.open();
  return native === null ? signalIfRoom(fd) : native.signal(fd);
}

const pollfd = new Int32Array(new ArrayBuffer(8));
const NO_TIME = new Int32Array(new ArrayBuffer(16));

/** The second best: a peer that fills the counter between the look and the write still stops this thread. */
export function signalIfRoom(fd: number): boolean {
  pollfd[0] = fd;
  pollfd[1] = POLLOUT;
  if (libc.ppoll(pollfd, 1, NO_TIME, 0) !== 1 || pollfd[1] >>> 16 !== POLLOUT) return false;
  return libc.write(fd, one, 8) === 8;
}

const RWF_NOWAIT = 8;
/** struct iovec for `counter`. */
const counterVector = new BigUint64Array(new ArrayBuffer(16));
counterVector[0] = addressOf(counter);
counterVector[1] = 8n;

/** As with signals: a peer that shares the descriptor can make it blocking and read it empty first. Before Linux 5.8 the flag is not known here. */
export function eventfdDrain(fd: number): number {
  for (;;) {
    let n = libc.preadv2(SYS_PREADV2, fd, counterVector, 1, -1, -1, RWF_NOWAIT);
    if (n < 0 && errno() === EOPNOTSUPP) n = libc.read(fd, counter, 8);
    // Anything but eight bytes is a descriptor that is no eventfd (or a closed peer): nothing was pending.
    if (n >= 0) return n === 8 ? counter.getUint32(4, true) * 2 ** 32 + counter.getUint32(0, true) : 0;
    if (blocked('read', fd)) return 0;
  }
}
