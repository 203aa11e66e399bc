/**
 * The system calls an emulated device needs, as one interface: everything above talks to `Sys`, tests hand in a fake or a
 * faulting one. The real one is `linux` in `index.ts` (koffi over libc). All calls are synchronous and none of them blocks
 * unless its name or an argument says so; every failure is a `LinuxError`.
 *
 * Descriptors are plain numbers on this interface; `OwnedFd` is the owner that closes one exactly once.
 */

/** One `recvmsg` result. */
export interface Received {
  /** Bytes written to the caller's buffer; 0 = the peer closed. */
  readonly bytes: number;
  /** Descriptors that came along (O_CLOEXEC); the caller owns them. */
  readonly fds: number[];
  /** MSG_CTRUNC: the kernel dropped descriptors that did not fit. */
  readonly fdsTruncated: boolean;
}

/** Who was at the other end of a UNIX socket when it was connected (SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface FileStatus {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly sizeBytes: number;
  /** st_blksize: the huge-page size on hugetlbfs. */
  readonly blockBytes: number;
  readonly mode: number;
}

export interface MapRequest {
  /** Fixed address (MAP_FIXED) or 0n for any. */
  readonly address: bigint;
  readonly lengthBytes: number;
  readonly read: boolean;
  readonly write: boolean;
  /** Shared file mapping of `fd` from `fdOffset`; without `fd` anonymous (private, MAP_NORESERVE). */
  readonly fd?: number;
  readonly fdOffset?: number;
}

export interface TapOptions {
  /** IFF_VNET_HDR: every frame is preceded by a virtio-net header of `vnetHeaderBytes` (10 or 12). */
  readonly vnetHeaderBytes?: 0 | 10 | 12;
  readonly multiQueue?: boolean;
  /** TUN_F_* mask of offloads that frames *read* from the TAP may carry (0: complete, MTU-sized frames). */
  readonly offloads?: number;
}

/** Interest of `ppoll` and `watch`. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;

export interface Sys {
  close(fd: number): void;
  dup(fd: number): number;
  /** undefined = EAGAIN. 0 = end of file. `into` may be a view of shared memory. */
  read(fd: number, into: Uint8Array): number | undefined;
  write(fd: number, from: Uint8Array): number | undefined;
  pread(fd: number, into: Uint8Array, offset: number): number;
  pwrite(fd: number, from: Uint8Array, offset: number): number;
  /** As read/write, on an absolute address (a window base plus offset): no view per frame. undefined = EAGAIN. */
  readAt(fd: number, address: bigint, lengthBytes: number): number | undefined;
  writeAt(fd: number, address: bigint, lengthBytes: number): number | undefined;
  fstat(fd: number): FileStatus;
  ftruncate(fd: number, lengthBytes: number): void;
  setNonBlocking(fd: number, on: boolean): void;
  setCloseOnExec(fd: number, on: boolean): void;
  isValidFd(fd: number): boolean;

  /** Non-blocking, close-on-exec UNIX stream listener. A stale socket file (nobody listens) is replaced; a live one is EADDRINUSE. */
  unixListen(path: string, backlog: number): number;
  /** undefined = EAGAIN. Accepted sockets are non-blocking. */
  unixAccept(listener: number): number | undefined;
  /** Connects (blocking, local), then switches to non-blocking. */
  unixConnect(path: string): number;
  /** As unixConnect, never waiting: undefined where the listener's backlog is full. */
  unixTryConnect(path: string): number | undefined;
  unixSocketPair(): [number, number];
  /** Half-close: the peer reads everything sent so far, then the end of the stream; this side can still receive. */
  shutdownWrite(socket: number): void;
  /** One sendmsg(MSG_NOSIGNAL) of `bytes` with `fds` as SCM_RIGHTS on the first byte; returns bytes sent, undefined = EAGAIN. */
  sendmsg(socket: number, bytes: Uint8Array, fds: readonly number[]): number | undefined;
  /** One recvmsg(MSG_DONTWAIT | MSG_CMSG_CLOEXEC); undefined = EAGAIN. At most `maxFds` descriptors are received (253 is the kernel's limit). */
  recvmsg(socket: number, into: Uint8Array, maxFds: number): Received | undefined;
  /** As `recvmsg`, but sleeps in the kernel until something is there: for threads that have nothing else to do. */
  recvmsgBlocking(socket: number, into: Uint8Array, maxFds: number): Received;
  /** What kind of UNIX stream socket a descriptor is; undefined for any other descriptor (EBADF throws). */
  unixSocketKind(fd: number): 'listening' | 'connected' | undefined;
  peerCredentials(socket: number): PeerCredentials;

  memfdCreate(name: string, options: { allowSealing: boolean }): number;
  /** F_GET_SEALS; undefined where the file does not support seals. */
  getSeals(fd: number): number | undefined;
  /** F_ADD_SEALS; false where refused (EPERM) or unsupported (EINVAL). */
  addSeals(fd: number, seals: number): boolean;

  mmap(request: MapRequest): bigint;
  munmap(address: bigint, lengthBytes: number): void;
  /** MADV_DONTDUMP | MADV_DONTNEED and the like. */
  madvise(address: bigint, lengthBytes: number, advice: number): void;
  /** The address of a buffer's first byte. The caller keeps the buffer referenced as long as anybody uses the address. */
  addressOf(buffer: ArrayBufferLike): bigint;

  /** EFD_NONBLOCK | EFD_CLOEXEC. */
  eventfd(initial?: number): number;
  /** Adds 1; false if the descriptor is no eventfd. Never throws and never blocks, whatever flags it has: usable on the hot path. */
  eventfdSignal(fd: number): boolean;
  /** Reads and clears the counter; 0 when nothing was pending. Never blocks, whatever flags the descriptor has (Linux 5.8). */
  eventfdDrain(fd: number): number;

  /** Blocks the calling thread until one of `fds` has POLLIN (or an error) or `timeoutNs` passed; returns how many are ready. */
  pollIn(fds: Int32Array, count: number, timeoutNs: number): number;
  /**
   * Calls back on this thread's event loop whenever `fd` is readable (level-triggered) until disposed. Must be disposed
   * before the descriptor is closed. `ref: false` lets the process exit while the watch is active.
   */
  watch(fd: number, events: { readable?: boolean; writable?: boolean }, callback: (revents: { readable: boolean; writable: boolean; error: boolean }) => void, options?: { ref?: boolean }): Disposable;

  /** Opens /dev/net/tun in TAP mode (IFF_NO_PI), non-blocking; `name` may be '' for a kernel-chosen one. Returns the real name. */
  tapOpen(name: string, options: TapOptions): { fd: number; name: string };
  ifUp(name: string, up: boolean): void;
  ifSetMtu(name: string, mtu: number): void;
  ifSetMac(name: string, mac: Uint8Array): void;
  ifGetMac(name: string): Uint8Array;
  /** IFF_UP and IFF_RUNNING of an interface. */
  ifFlags(name: string): { up: boolean; running: boolean };
}
