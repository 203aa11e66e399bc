/** Waiting for descriptors: `pollIn` puts the thread to sleep, `watch` calls back from its event loop. */
import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';
import { POLLERR, POLLHUP, POLLIN, POLLOUT } from './sys.ts';
import { LinuxError } from './errors.ts';
import { isValidFd } from './files.ts';
import { EBADF, EEXIST, EINTR, check, errno, libc } from './libc.ts';
import { FALLBACK_WATCH_MS } from './limits.ts';

// struct pollfd: int fd, short events, short revents. struct timespec: two 64-bit words, written as halves (no BigInt).
let pollfds = new Int32Array(new ArrayBuffer(8 * 16));
const timespec = new Int32Array(new ArrayBuffer(16));
const POLLNVAL = 32;

export function pollIn(fds: Int32Array, count: number, timeoutNs: number): number {
  if (2 * count > pollfds.length) pollfds = new Int32Array(new ArrayBuffer(8 * 2 * count));
  for (let i = 0; i < count; i++) {
    pollfds[2 * i] = fds[i]!;
    pollfds[2 * i + 1] = POLLIN;
  }
  const ready = libc.ppoll(pollfds, count, timeout(timeoutNs), 0);
  if (ready >= 0) return ready;
  const e = errno();
  // A signal is a wake-up without anything ready; the caller looks at its clock anyway.
  if (e === EINTR) return 0;
  throw new LinuxError(e, 'ppoll', `${count} descriptors`);
}

export function isHungUp(fd: number): boolean {
  pollfds[0] = fd;
  pollfds[1] = 0;
  check(libc.ppoll(pollfds, 1, timeout(0), 0), 'ppoll', fd);
  const seen = pollfds[1] >>> 16;
  if ((seen & POLLNVAL) !== 0) throw new LinuxError(EBADF, 'ppoll', String(fd));
  return (seen & POLLHUP) !== 0;
}

/** Negative means for ever: a null pointer. */
function timeout(ns: number): Int32Array | null {
  if (!(ns >= 0)) return null;
  const seconds = Math.min(Math.floor(ns / 1e9), 0x7fffffff);
  timespec[0] = seconds;
  timespec[1] = 0;
  timespec[2] = Math.min(Math.floor(ns - seconds * 1e9), 999_999_999);
  timespec[3] = 0;
  return timespec;
}

export interface Interest {
  readable?: boolean;
  writable?: boolean;
}
export interface Readiness {
  readable: boolean;
  writable: boolean;
  error: boolean;
}

/** koffi's readiness watcher (a uv_poll handle) as it really calls back: its own declaration lacks the status. */
interface NativeWatch {
  ref(): void;
  unref(): void;
  close(): void;
}
type NativePoll = (fd: number, options: Interest, callback: (status: number, events: { readable: boolean; writable: boolean }) => void) => NativeWatch;

/**
 * Main thread only. A worker that is terminated runs its loop once more while JavaScript is gone already, and koffi 3.3.4
 * answers the callback it cannot make by aborting the process; nothing of ours runs then that could close the watcher first.
 */
function nativePoll(): NativePoll | undefined {
  if (!isMainThread) return undefined;
  const node = (koffi as unknown as { node?: { poll?: NativePoll } }).node;
  return typeof node?.poll === 'function' ? node.poll : undefined;
}

/** By descriptor. Handles are collected, and stop silently, unless somebody holds them. */
const active = new Map<number, NativeWatch>();
let closesAtExit = false;

/** The main thread's loop runs once more at its end too, but there the exit event comes before. */
function closeAtExit(): void {
  if (closesAtExit) return;
  closesAtExit = true;
  process.once('exit', () => {
    for (const handle of active.values()) handle.close();
    active.clear();
  });
}

/**
 * Calls back whenever `fd` is ready, level-triggered. Only one watch per descriptor and thread (EEXIST); the descriptor becomes
 * non-blocking. `error` is the last call of a watch: the descriptor is in an error state that the next read or write reports.
 */
export function watch(fd: number, events: Interest, callback: (revents: Readiness) => void, options: { ref?: boolean } = {}): Disposable {
  const poll = nativePoll();
  if (poll === undefined) return watchByTimer(fd, events, callback, options);
  if (active.has(fd)) throw new LinuxError(EEXIST, 'watch', String(fd), 'this thread watches it already');
  checkPollable(fd);
  let announced = false;
  const handle = poll(fd, { readable: events.readable === true, writable: events.writable === true }, (status, seen) => {
    if (announced) return;
    announced = true;
    // koffi calls back outside of Node's callback scope: promises that the callback settles would wait for some other event,
    // and what it throws would vanish. The immediates of this same loop iteration have a proper scope.
    setImmediate(() => {
      announced = false;
      if (active.get(fd) !== handle) return;
      if (status < 0) stop();
      callback({ readable: seen.readable, writable: seen.writable, error: status < 0 });
    });
  });
  const stop = (): void => {
    if (active.get(fd) !== handle) return;
    active.delete(fd);
    handle.close();
  };
  active.set(fd, handle);
  closeAtExit();
  if (options.ref === false) handle.unref();
  return { [Symbol.dispose]: stop };
}

/**
 * Throws what epoll says about a descriptor that cannot be watched (EBADF, EPERM for a plain file): koffi 3.3.4 does not throw
 * then but aborts the process.
 */
function checkPollable(fd: number): void {
  if (!isValidFd(fd)) throw new LinuxError(EBADF, 'watch', String(fd));
  if (prober < 0) prober = newProber();
  check(libc.epoll_ctl(prober, EPOLL_CTL_ADD, fd, noEvents), 'watch', fd);
  libc.epoll_ctl(prober, EPOLL_CTL_DEL, fd, noEvents);
}
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CLOEXEC = 0o2000000;
const newProber = (): number => check(libc.epoll_create1(EPOLL_CLOEXEC), 'epoll_create1');
/**
 * From the start and for good: a process that has run out of descriptors must still be able to watch those it has. A worker thread
 * makes its own when it watches at all: nobody would close that of each lcore there ever was.
 */
let prober = isMainThread ? newProber() : -1;
/** struct epoll_event, at most 16 bytes. */
const noEvents = new Uint8Array(new ArrayBuffer(16));

/** The same by asking every few milliseconds: slow, but complete, for worker threads and should koffi ever lose its undocumented watcher. */
export function watchByTimer(fd: number, events: Interest, callback: (revents: Readiness) => void, options: { ref?: boolean } = {}): Disposable {
  const entry = new Int32Array(new ArrayBuffer(8));
  const wanted = (events.readable === true ? POLLIN : 0) | (events.writable === true ? POLLOUT : 0);
  const ask = (): number => {
    entry[0] = fd;
    entry[1] = wanted;
    return check(libc.ppoll(entry, 1, timeout(0), 0), 'ppoll', fd) === 0 ? 0 : entry[1] >>> 16;
  };
  if ((ask() & POLLNVAL) !== 0) throw new LinuxError(EBADF, 'watch', String(fd));
  const timer = setInterval(() => {
    const seen = ask();
    if (seen === 0) return;
    const error = (seen & (POLLERR | POLLNVAL)) !== 0;
    if (error) clearInterval(timer);
    callback({ readable: (seen & (POLLIN | POLLHUP)) !== 0, writable: (seen & POLLOUT) !== 0, error });
  }, FALLBACK_WATCH_MS);
  if (options.ref === false) timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
