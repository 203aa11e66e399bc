/** Calls on any descriptor, and memory files. */
import type { FileStatus } from './sys.ts';
import { EAGAIN, EBADF, EINTR, EINVAL, EPERM, SYSCALL_STATX, check, errno, libc } from './libc.ts';
import { LinuxError } from './errors.ts';
import { O_CLOEXEC, O_NONBLOCK } from './open-flags.ts';

const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const AT_EMPTY_PATH = 0x1000;
const SOL_SOCKET = 1;
const SO_LINGER = 13;
const STATX_BASIC_STATS = 0x7ff;

/** struct linger: off, 0 seconds. */
const NO_LINGER = new Int32Array(new ArrayBuffer(8));

/**
 * Throws for a descriptor that is not open, and for nothing else: whatever close(2) reports, Linux has released the number, and
 * closing it again could hit somebody else's. What a file that a peer handed over says on its way out (EIO of a network file
 * system, of FUSE) is not our failure.
 *
 * Nor may it make us wait: a socket with SO_LINGER, and data that its other end does not take, would hold whoever closes it last.
 */
export function close(fd: number): void {
  // Anything but a socket is ENOTSOCK.
  libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, NO_LINGER, 8);
  if (libc.close(fd) < 0 && errno() === EBADF) throw new LinuxError(EBADF, 'close', String(fd));
}

export function dup(fd: number): number {
  return check(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0), 'dup', fd);
}

export function dupOnto(fd: number, onto: number): void {
  // EBUSY: a race with an open(2) that is being given the same number, which cannot be as long as `onto` is open.
  while (libc.dup3(fd, onto, O_CLOEXEC) < 0) if (errno() !== EINTR) throw new LinuxError(errno(), 'dup3', `${fd}, ${onto}`);
}

export function read(fd: number, into: Uint8Array): number | undefined {
  for (;;) {
    const n = libc.read(fd, into, into.byteLength);
    if (n >= 0) return n;
    if (blocked('read', fd)) return undefined;
  }
}

export function write(fd: number, from: Uint8Array): number | undefined {
  for (;;) {
    const n = libc.write(fd, from, from.byteLength);
    if (n >= 0) return n;
    if (blocked('write', fd)) return undefined;
  }
}

export function readAt(fd: number, address: bigint, lengthBytes: number): number | undefined {
  for (;;) {
    const n = libc.readAddress(fd, address, lengthBytes);
    if (n >= 0) return n;
    if (blocked('read', fd)) return undefined;
  }
}

export function writeAt(fd: number, address: bigint, lengthBytes: number): number | undefined {
  for (;;) {
    const n = libc.writeAddress(fd, address, lengthBytes);
    if (n >= 0) return n;
    if (blocked('write', fd)) return undefined;
  }
}

export function writevAt(fd: number, address: bigint, count: number): number | undefined {
  for (;;) {
    const n = libc.writevAddress(fd, address, count);
    if (n >= 0) return n;
    if (blocked('writev', fd)) return undefined;
  }
}

/** True for EAGAIN, false for EINTR (try again), throws everything else. Call it right after the failed call. */
export function blocked(syscall: string, fd: number): boolean {
  const e = errno();
  if (e === EAGAIN) return true;
  if (e === EINTR) return false;
  throw new LinuxError(e, syscall, String(fd));
}

export function pread(fd: number, into: Uint8Array, offset: number): number {
  return check(libc.pread(fd, into, into.byteLength, offset), 'pread', `${fd}, offset ${offset}`);
}

export function pwrite(fd: number, from: Uint8Array, offset: number): number {
  return check(libc.pwrite(fd, from, from.byteLength, offset), 'pwrite', `${fd}, offset ${offset}`);
}

export function ftruncate(fd: number, lengthBytes: number): void {
  check(libc.ftruncate(fd, lengthBytes), 'ftruncate', `${fd}, ${lengthBytes}`);
}

export function setNonBlocking(fd: number, on: boolean): void {
  const flags = check(libc.fcntl(fd, F_GETFL, 0), 'fcntl', `${fd}, F_GETFL`);
  const wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted !== flags) check(libc.fcntl(fd, F_SETFL, wanted), 'fcntl', `${fd}, F_SETFL`);
}

export function setCloseOnExec(fd: number, on: boolean): void {
  check(libc.fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0), 'fcntl', `${fd}, F_SETFD`);
}

export function isValidFd(fd: number): boolean {
  return libc.fcntl(fd, F_GETFD, 0) >= 0;
}

// struct statx (include/uapi/linux/stat.h), 256 bytes.
const statBytes = new Uint8Array(new ArrayBuffer(256));
const statView = new DataView(statBytes.buffer);

export function fstat(fd: number): FileStatus {
  check(libc.statx(SYSCALL_STATX, fd, '', AT_EMPTY_PATH, STATX_BASIC_STATS, statBytes), 'fstat', fd);
  return {
    blockBytes: statView.getUint32(4, true),
    mode: statView.getUint16(28, true),
    ino: statView.getBigUint64(32, true),
    sizeBytes: Number(statView.getBigUint64(40, true)),
    dev: (BigInt(statView.getUint32(136, true)) << 32n) | BigInt(statView.getUint32(140, true)),
  };
}

export function memfdCreate(name: string, options: { allowSealing: boolean }): number {
  return check(libc.memfd_create(name, MFD_CLOEXEC | (options.allowSealing ? MFD_ALLOW_SEALING : 0)), 'memfd_create', `'${name}'`);
}

export function getSeals(fd: number): number | undefined {
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  if (seals >= 0) return seals;
  const e = errno();
  if (e === EINVAL) return undefined;
  throw new LinuxError(e, 'fcntl', `${fd}, F_GET_SEALS`);
}

export function addSeals(fd: number, seals: number): boolean {
  if (libc.fcntl(fd, F_ADD_SEALS, seals) >= 0) return true;
  const e = errno();
  if (e === EPERM || e === EINVAL) return false;
  throw new LinuxError(e, 'fcntl', `${fd}, F_ADD_SEALS, ${seals}`);
}
