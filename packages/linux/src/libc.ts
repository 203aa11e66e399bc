/**
 * libc by koffi: the one file that binds foreign functions. Structures are laid out by hand in preallocated buffers by the
 * files that use them, so no koffi type is ever registered and any number of threads may load this module.
 *
 * Pointers to memory that JavaScript owns are `void *` and get the typed array itself (koffi keeps it for the duration of the
 * call, also over a SharedArrayBuffer); pointers that are just addresses are `uintptr_t` and get a bigint.
 */
import { endianness } from 'node:os';
import koffi from 'koffi';
import { LinuxError } from './errors.ts';

/** asm-generic numbers and layouts (O_*, struct statx, msghdr) hold on these; other architectures need a look first. */
const SYS_STATX: Readonly<Record<string, number>> = { x64: 332, arm64: 291, riscv64: 291, loong64: 291 };

if (process.platform !== 'linux' || endianness() !== 'LE' || SYS_STATX[process.arch] === undefined) {
  throw new Error(
    `@emudev/linux needs 64-bit little-endian Linux on ${Object.keys(SYS_STATX).join(', ')}; this is ${process.platform} ${process.arch} ${endianness()}`,
  );
}
export const SYSCALL_STATX: number = SYS_STATX[process.arch]!;
/** No wrappers in libc. The second row is asm-generic's. */
export const SYSCALLS_AIO: { readonly setup: number; readonly destroy: number; readonly getEvents: number; readonly submit: number } =
  process.arch === 'x64' ? { setup: 206, destroy: 207, getEvents: 208, submit: 209 } : { setup: 0, destroy: 1, getEvents: 4, submit: 2 };

/** The wrapper is missing in older musl. */
export const SYS_PREADV2: number = process.arch === 'x64' ? 327 : 286;

const lib = koffi.load(null);
type Address = bigint | number;
type Bytes = NodeJS.ArrayBufferView | null;

export const libc: {
  close(fd: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  dup3(fd: number, onto: number, flags: number): number;
  read(fd: number, into: Bytes, length: number): number;
  write(fd: number, from: Bytes, length: number): number;
  pread(fd: number, into: Bytes, length: number, offset: number): number;
  pwrite(fd: number, from: Bytes, length: number, offset: number): number;
  readAddress(fd: number, address: Address, length: number): number;
  writeAddress(fd: number, address: Address, length: number): number;
  writevAddress(fd: number, vector: Address, count: number): number;
  preadv2(number: number, fd: number, vector: Bytes, count: number, offsetLow: number, offsetHigh: number, flags: number): number;
  ftruncate(fd: number, length: number): number;
  statx(number: number, fd: number, path: string, flags: number, mask: number, into: Bytes): number;
  open(path: string, flags: number, mode: number): number;
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, into: Bytes): number;
  setsockopt(fd: number, level: number, option: number, value: Bytes, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Bytes, length: Bytes): number;
  bind(fd: number, address: Bytes, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Bytes, length: number): number;
  accept4(fd: number, address: Address, length: Address, flags: number): number;
  shutdown(fd: number, how: number): number;
  send(fd: number, from: Bytes, length: number, flags: number): number;
  sendmsg(fd: number, message: Bytes, flags: number): number;
  recvmsg(fd: number, message: Bytes, flags: number): number;
  recvfrom(fd: number, into: Bytes, length: number, flags: number, address: Bytes, addressLength: Bytes): number;
  sendmmsg(fd: number, messages: Address, count: number, flags: number): number;
  memfd_create(name: string, flags: number): number;
  mmap(address: Address, length: number, protection: number, flags: number, fd: number, offset: number): Address;
  munmap(address: Address, length: number): number;
  madvise(address: Address, length: number, advice: number): number;
  eventfd(initial: number, flags: number): number;
  aioSetup(number: number, completions: number, into: Bytes): number;
  aioDestroy(number: number, context: Address): number;
  aioSubmit(number: number, context: Address, count: number, iocbs: Bytes): number;
  aioGetEvents(number: number, context: Address, least: number, most: number, into: Bytes, timeout: Bytes): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Bytes): number;
  ppoll(fds: Bytes, count: number, timeout: Bytes, sigmask: Address): number;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  sched_yield(): number;
  sched_setaffinity(thread: number, length: number, set: Bytes): number;
  sched_getaffinity(thread: number, length: number, set: Bytes): number;
  ioctl(fd: number, request: number, argument: Bytes): number;
  ioctlValue(fd: number, request: number, argument: Address): number;
} = {
  close: lib.func('close', 'int', ['int']),
  fcntl: lib.func('fcntl', 'int', ['int', 'int', 'int64']),
  dup3: lib.func('dup3', 'int', ['int', 'int', 'int']),
  read: lib.func('read', 'int64', ['int', 'void *', 'size_t']),
  write: lib.func('write', 'int64', ['int', 'void *', 'size_t']),
  pread: lib.func('pread', 'int64', ['int', 'void *', 'size_t', 'int64']),
  pwrite: lib.func('pwrite', 'int64', ['int', 'void *', 'size_t', 'int64']),
  preadv2: lib.func('syscall', 'int64', ['int64', 'int64', 'void *', 'int64', 'int64', 'int64', 'int64']),
  readAddress: lib.func('read', 'int64', ['int', 'uintptr_t', 'size_t']),
  writeAddress: lib.func('write', 'int64', ['int', 'uintptr_t', 'size_t']),
  writevAddress: lib.func('writev', 'int64', ['int', 'uintptr_t', 'int']),
  ftruncate: lib.func('ftruncate', 'int', ['int', 'int64']),
  // By number: the wrapper is missing in older musl; unlike struct stat its result is laid out alike on every architecture.
  statx: lib.func('syscall', 'int64', ['int64', 'int64', 'str', 'int64', 'int64', 'void *']),
  open: lib.func('open', 'int', ['str', 'int', 'int']),
  socket: lib.func('socket', 'int', ['int', 'int', 'int']),
  socketpair: lib.func('socketpair', 'int', ['int', 'int', 'int', 'void *']),
  setsockopt: lib.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint']),
  getsockopt: lib.func('getsockopt', 'int', ['int', 'int', 'int', 'void *', 'void *']),
  bind: lib.func('bind', 'int', ['int', 'void *', 'uint']),
  listen: lib.func('listen', 'int', ['int', 'int']),
  connect: lib.func('connect', 'int', ['int', 'void *', 'uint']),
  accept4: lib.func('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']),
  shutdown: lib.func('shutdown', 'int', ['int', 'int']),
  send: lib.func('send', 'int64', ['int', 'void *', 'size_t', 'int']),
  sendmsg: lib.func('sendmsg', 'int64', ['int', 'void *', 'int']),
  recvmsg: lib.func('recvmsg', 'int64', ['int', 'void *', 'int']),
  recvfrom: lib.func('recvfrom', 'int64', ['int', 'void *', 'size_t', 'int', 'void *', 'void *']),
  sendmmsg: lib.func('sendmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int']),
  memfd_create: lib.func('memfd_create', 'int', ['str', 'uint']),
  mmap: lib.func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64']),
  munmap: lib.func('munmap', 'int', ['uintptr_t', 'size_t']),
  madvise: lib.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']),
  eventfd: lib.func('eventfd', 'int', ['uint', 'int']),
  aioSetup: lib.func('syscall', 'int64', ['int64', 'int64', 'void *']),
  aioDestroy: lib.func('syscall', 'int64', ['int64', 'uintptr_t']),
  aioSubmit: lib.func('syscall', 'int64', ['int64', 'uintptr_t', 'int64', 'void *']),
  aioGetEvents: lib.func('syscall', 'int64', ['int64', 'uintptr_t', 'int64', 'int64', 'void *', 'void *']),
  epoll_create1: lib.func('epoll_create1', 'int', ['int']),
  epoll_ctl: lib.func('epoll_ctl', 'int', ['int', 'int', 'int', 'void *']),
  prctl: lib.func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']),
  sched_yield: lib.func('sched_yield', 'int', []),
  sched_setaffinity: lib.func('sched_setaffinity', 'int', ['int', 'size_t', 'void *']),
  sched_getaffinity: lib.func('sched_getaffinity', 'int', ['int', 'size_t', 'void *']),
  ppoll: lib.func('ppoll', 'int', ['void *', 'ulong', 'void *', 'uintptr_t']),
  ioctl: lib.func('ioctl', 'int', ['int', 'ulong', 'void *']),
  ioctlValue: lib.func('ioctl', 'int', ['int', 'ulong', 'int64']),
};

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EBUSY = 16;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENAMETOOLONG = 36;
export const EOPNOTSUPP = 95;
export const ENOTSOCK = 88;
export const EADDRINUSE = 98;
export const ECONNABORTED = 103;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;

/** The calling thread's errno; valid until the next foreign call. */
export function errno(): number {
  return koffi.errno();
}

/** Throws the errno of the call that just returned -1; passes every other result on. */
export function check(result: number, syscall: string, attempted: string | number = ''): number {
  if (result < 0) throw new LinuxError(koffi.errno(), syscall, String(attempted));
  return result;
}

/** The address of what a buffer or view points at. Keep the buffer referenced as long as anybody uses the address. */
export function addressOf(buffer: ArrayBufferLike | NodeJS.ArrayBufferView): bigint {
  return koffi.address(buffer);
}
