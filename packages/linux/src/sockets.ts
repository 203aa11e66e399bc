/** UNIX sockets that pass descriptors. */
import { lstatSync, unlinkSync } from 'node:fs';
import type { PeerCredentials, Received, UnixSocketOptions } from './sys.ts';
import { S_IFMT, S_IFSOCK } from './constants.ts';
import { LinuxError } from './errors.ts';
import { blocked, close, setNonBlocking } from './files.ts';
import {
  EADDRINUSE, EAGAIN, ECONNABORTED, ECONNREFUSED, EINTR, EINVAL, ENAMETOOLONG, ENOENT, ENOTCONN, ENOTSOCK, ETIMEDOUT,
  addressOf, check, errno, libc,
} from './libc.ts';
import { pollIn } from './readiness.ts';
import { CONNECT_TIMEOUT_MS, LISTEN_ATTEMPTS, MAX_FDS_PER_MESSAGE, MAX_SOCKET_PATH_BYTES } from './limits.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const SHUT_WR = 1;
const SCM_RIGHTS = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const MSG_CTRUNC = 0x08;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** struct sockaddr_un: family and the NUL-terminated path, or a NUL and the abstract name, whose end is that of the address. */
function socketAddress(path: string, syscall: string, options: UnixSocketOptions = {}): Uint8Array {
  const bytes = Buffer.from(path, 'utf8');
  if (bytes.byteLength === 0 || bytes.includes(0)) throw new LinuxError(EINVAL, syscall, `'${path}'`, 'a socket path is not empty and has no NUL');
  if (bytes.byteLength > MAX_SOCKET_PATH_BYTES) {
    throw new LinuxError(ENAMETOOLONG, syscall, `'${path}'`, `a UNIX socket path has at most ${MAX_SOCKET_PATH_BYTES} bytes, this one has ${bytes.byteLength}`);
  }
  const address = new Uint8Array(new ArrayBuffer(2 + bytes.byteLength + 1));
  address[0] = AF_UNIX;
  address.set(bytes, options.abstract === true ? 3 : 2);
  return address;
}

const typeOf = (options: UnixSocketOptions): number => (options.type === 'seqpacket' ? SOCK_SEQPACKET : SOCK_STREAM);

function newSocket(flags: number, options: UnixSocketOptions = {}): number {
  return check(libc.socket(AF_UNIX, typeOf(options) | SOCK_CLOEXEC | flags, 0), 'socket', 'AF_UNIX');
}

/** Runs `use` on a fresh descriptor and closes it if `use` throws. */
function guarded(fd: number, use: () => void): number {
  try {
    use();
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

export function unixListen(path: string, backlog: number, options: UnixSocketOptions = {}): number {
  const address = socketAddress(path, 'bind', options);
  const fd = newSocket(SOCK_NONBLOCK, options);
  return guarded(fd, () => {
    for (let attempt = 1; libc.bind(fd, address, address.byteLength) < 0; attempt++) {
      const e = errno();
      // An abstract name goes with its socket: one that is there is in use.
      if (e !== EADDRINUSE || options.abstract === true || attempt === LISTEN_ATTEMPTS) throw new LinuxError(e, 'bind', `'${path}'`);
      removeStaleSocket(path, address, options);
    }
    check(libc.listen(fd, backlog), 'listen', `'${path}'`);
  });
}

/** Removes a socket file nobody listens on; EADDRINUSE if somebody does, or if it is not a socket. */
function removeStaleSocket(path: string, address: Uint8Array, options: UnixSocketOptions): void {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  // connect() refuses on any other kind of file too: that must not cost anybody a file.
  if ((status.mode & S_IFMT) !== S_IFSOCK) throw new LinuxError(EADDRINUSE, 'bind', `'${path}'`, 'the path exists and is not a socket');
  const probe = newSocket(SOCK_NONBLOCK, options);
  let e = 0;
  try {
    if (libc.connect(probe, address, address.byteLength) < 0) e = errno();
  } finally {
    close(probe);
  }
  if (e === ENOENT) return;
  // Connected, or EAGAIN (a full backlog): a live listener. Anything but a refusal is no proof that it is dead.
  if (e !== ECONNREFUSED) throw new LinuxError(EADDRINUSE, 'bind', `'${path}'`, 'another process listens there');
  unlinkSync(path);
}

export function unixAccept(listener: number): number | undefined {
  for (;;) {
    const fd = libc.accept4(listener, 0n, 0n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    const e = errno();
    if (e === EAGAIN) return undefined;
    if (e !== EINTR && e !== ECONNABORTED) throw new LinuxError(e, 'accept4', String(listener));
  }
}

export function unixConnect(path: string, options: UnixSocketOptions = {}): number {
  const address = socketAddress(path, 'connect', options);
  const fd = newSocket(0, options);
  return guarded(fd, () => {
    // connect() on a full backlog waits for the send timeout, for ever without one.
    const timeout = new BigInt64Array(new ArrayBuffer(16));
    timeout[0] = BigInt(Math.floor(CONNECT_TIMEOUT_MS / 1000));
    timeout[1] = BigInt((CONNECT_TIMEOUT_MS % 1000) * 1000);
    check(libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeout, 16), 'setsockopt', 'SO_SNDTIMEO');
    while (libc.connect(fd, address, address.byteLength) < 0) {
      const e = errno();
      if (e === EAGAIN) throw new LinuxError(ETIMEDOUT, 'connect', `'${path}'`, `its backlog stayed full for ${CONNECT_TIMEOUT_MS} ms`);
      if (e !== EINTR) throw new LinuxError(e, 'connect', `'${path}'`, e === ECONNREFUSED || e === ENOENT ? 'is the device process running?' : '');
    }
    setNonBlocking(fd, true);
  });
}

export function unixTryConnect(path: string, options: UnixSocketOptions = {}): number | undefined {
  const address = socketAddress(path, 'connect', options);
  const fd = newSocket(SOCK_NONBLOCK, options);
  let full = false;
  guarded(fd, () => {
    while (!full && libc.connect(fd, address, address.byteLength) < 0) {
      const e = errno();
      if (e === EAGAIN) full = true;
      else if (e !== EINTR) throw new LinuxError(e, 'connect', `'${path}'`, e === ECONNREFUSED || e === ENOENT ? 'is the device process running?' : '');
    }
  });
  if (!full) return fd;
  close(fd);
  return undefined;
}

const pair = new Int32Array(new ArrayBuffer(8));

export function unixSocketPair(options: Pick<UnixSocketOptions, 'type'> = {}): [number, number] {
  check(libc.socketpair(AF_UNIX, typeOf(options) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 'socketpair');
  return [pair[0]!, pair[1]!];
}

/** SHUT_WR: what was sent still arrives, then the peer reads the end; this side goes on receiving. ENOTCONN (the peer is gone) is fine. */
export function shutdownWrite(socket: number): void {
  if (libc.shutdown(socket, SHUT_WR) >= 0) return;
  const e = errno();
  if (e !== ENOTCONN) throw new LinuxError(e, 'shutdown', String(socket));
}

const option = new Int32Array(new ArrayBuffer(12));
const optionBytes = new Int32Array(new ArrayBuffer(4));

/** 0, or -1 as the kernel said it; the value is in `option`. */
function getSocketOption(fd: number, name: number): number {
  option.fill(0);
  optionBytes[0] = option.byteLength;
  return libc.getsockopt(fd, SOL_SOCKET, name, option, optionBytes);
}

export function unixSocketKind(fd: number): 'listening' | 'connected' | undefined {
  const wanted: readonly (readonly [number, number])[] = [[SO_DOMAIN, AF_UNIX], [SO_TYPE, SOCK_STREAM]];
  for (const [name, value] of wanted) {
    if (getSocketOption(fd, name) < 0) {
      const e = errno();
      if (e === ENOTSOCK) return undefined;
      throw new LinuxError(e, 'getsockopt', String(fd));
    }
    if (option[0] !== value) return undefined;
  }
  check(getSocketOption(fd, SO_ACCEPTCONN), 'getsockopt', `${fd}, SO_ACCEPTCONN`);
  return option[0] === 0 ? 'connected' : 'listening';
}

export function peerCredentials(socket: number): PeerCredentials {
  check(getSocketOption(socket, SO_PEERCRED), 'getsockopt', `${socket}, SO_PEERCRED`);
  // struct ucred. An id that no process has is (uid_t)-1.
  return { pid: option[0]!, uid: option[1]! >>> 0, gid: option[2]! >>> 0 };
}

/*
 * Message headers for all calls of this thread, one for each direction, in buffers that are never collected: struct msghdr (56 bytes) at 0,
 * struct iovec (16) at 64, the control message (cmsghdr 16 + 4 per descriptor) at 80. Lengths are written as 64 bits; musl
 * has 32 bits and padding there, which is the same on little-endian machines.
 */
const IOVEC = 64;
const CONTROL = 80;
const CMSG_HEADER = 16;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const MSG_FLAGS = 48;

class MessageHeader {
  readonly bytes: Uint8Array = new Uint8Array(new ArrayBuffer(CONTROL + CMSG_HEADER + 4 * (MAX_FDS_PER_MESSAGE + 1)));
  readonly view: DataView = new DataView(this.bytes.buffer);
  readonly #address = addressOf(this.bytes);

  prepare(data: Uint8Array, controlBytes: number): void {
    const { view } = this;
    view.setBigUint64(IOVEC, addressOf(data), true);
    view.setBigUint64(IOVEC + 8, BigInt(data.byteLength), true);
    view.setBigUint64(MSG_IOV, this.#address + BigInt(IOVEC), true);
    view.setBigUint64(MSG_IOVLEN, 1n, true);
    view.setBigUint64(MSG_CONTROL, controlBytes === 0 ? 0n : this.#address + BigInt(CONTROL), true);
    view.setBigUint64(MSG_CONTROLLEN, BigInt(controlBytes), true);
    view.setInt32(MSG_FLAGS, 0, true);
  }
}

const outgoing = new MessageHeader();
const incoming = new MessageHeader();

export function sendmsg(socket: number, bytes: Uint8Array, fds: readonly number[]): number | undefined {
  if (fds.length > MAX_FDS_PER_MESSAGE) throw new LinuxError(EINVAL, 'sendmsg', String(socket), `at most ${MAX_FDS_PER_MESSAGE} descriptors fit, got ${fds.length}`);
  if (fds.length > 0 && bytes.byteLength === 0) throw new LinuxError(EINVAL, 'sendmsg', String(socket), 'descriptors travel with at least one byte');
  if (fds.length > 0) {
    // CMSG_LEN, not CMSG_SPACE: one message needs no trailing padding.
    const controlBytes = CMSG_HEADER + 4 * fds.length;
    outgoing.prepare(bytes, controlBytes);
    const { view } = outgoing;
    view.setBigUint64(CONTROL, BigInt(controlBytes), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    for (let i = 0; i < fds.length; i++) view.setInt32(CONTROL + CMSG_HEADER + 4 * i, fds[i]!, true);
  }
  for (;;) {
    // Without descriptors the same thing with less to prepare: the usual case, and the reply to every register access.
    const n = fds.length === 0 ? libc.send(socket, bytes, bytes.byteLength, MSG_NOSIGNAL | MSG_DONTWAIT) : libc.sendmsg(socket, outgoing.bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) return n;
    if (blocked('sendmsg', socket)) return undefined;
  }
}

/** What `incoming` is prepared for: a thread that looks again and again does so with the same buffer. Held, so its address stays what it is. */
let preparedInto: Uint8Array | undefined;
let preparedLength = 0;
let preparedControl = 0;

function receive(socket: number, into: Uint8Array, maxFds: number, flags: number): Received | undefined {
  const room = Math.max(0, Math.min(maxFds, MAX_FDS_PER_MESSAGE));
  // An exact CMSG_LEN: the kernel would fill the padding of CMSG_SPACE with one descriptor more.
  const controlBytes = room === 0 ? 0 : CMSG_HEADER + 4 * room;
  for (;;) {
    if (preparedInto !== into || preparedLength !== into.byteLength || preparedControl !== controlBytes) {
      incoming.prepare(into, controlBytes);
      preparedInto = into;
      preparedLength = into.byteLength;
      preparedControl = controlBytes;
    }
    const bytes = libc.recvmsg(socket, incoming.bytes, flags | MSG_CMSG_CLOEXEC);
    if (bytes >= 0) {
      const truncated = (incoming.view.getInt32(MSG_FLAGS, true) & MSG_CTRUNC) !== 0;
      const fds = receivedFds();
      // The kernel has written the lengths it used; a call that fails leaves the header alone.
      incoming.view.setInt32(MSG_CONTROLLEN, controlBytes, true);
      return { bytes, fds, fdsTruncated: truncated };
    }
    if (blocked('recvmsg', socket)) return undefined;
  }
}

export function recvmsg(socket: number, into: Uint8Array, maxFds: number): Received | undefined {
  return receive(socket, into, maxFds, MSG_DONTWAIT);
}

const forEver = new Int32Array(1);

/** The descriptor may be non-blocking (all of ours are): then the wait is a poll, else it is recvmsg's own. */
export function recvmsgBlocking(socket: number, into: Uint8Array, maxFds: number): Received {
  for (;;) {
    const got = receive(socket, into, maxFds, 0);
    if (got !== undefined) return got;
    forEver[0] = socket;
    pollIn(forEver, 1, -1);
  }
}

function receivedFds(): number[] {
  const fds: number[] = [];
  const message = incoming.view;
  const end = CONTROL + message.getUint32(MSG_CONTROLLEN, true);
  let at = CONTROL;
  while (at + CMSG_HEADER <= end) {
    const length = message.getUint32(at, true);
    if (length < CMSG_HEADER) break;
    if (message.getInt32(at + 8, true) === SOL_SOCKET && message.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let p = at + CMSG_HEADER; p + 4 <= Math.min(at + length, end); p += 4) fds.push(message.getInt32(p, true));
    }
    at += (length + 7) & ~7;
  }
  return fds;
}
