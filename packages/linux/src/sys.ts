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

/** What kind of UNIX socket is made, and where its name lives. */
export interface UnixSocketOptions {
  /** 'seqpacket' keeps the boundaries of messages: one `sendmsg` is one `recvmsg`. 'stream' unless said otherwise. */
  readonly type?: 'stream' | 'seqpacket';
  /** The name is in Linux's abstract namespace (unix(7)): no file, gone with the socket. */
  readonly abstract?: boolean;
}

/** Who was at the other end of a UNIX socket when it was connected (SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** What statx(2) says of an open file. */
export interface FileStatus {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly sizeBytes: number;
  /** st_blksize: the huge-page size on hugetlbfs. */
  readonly blockBytes: number;
  readonly mode: number;
}

/** A mapping for `Sys.mmap` (mmap(2)). `fdOffset` and a fixed `address` are multiples of the page size. */
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

/** What kind of TAP `Sys.tapOpen` makes (linux/if_tun.h). */
export interface TapOptions {
  /** IFF_VNET_HDR: every frame is preceded by a virtio-net header of `vnetHeaderBytes` (10 or 12). */
  readonly vnetHeaderBytes?: 0 | 10 | 12;
  readonly multiQueue?: boolean;
  /** TUN_F_* mask of offloads that frames *read* from the TAP may carry (0: complete, MTU-sized frames). */
  readonly offloads?: number;
}

/** How frames are spread over the sockets of a group (packet(7), PACKET_FANOUT_*). */
export const FANOUT_MODES: { readonly hash: 0; readonly lb: 1; readonly cpu: 2; readonly rollover: 3; readonly rnd: 4; readonly qm: 5 } = { hash: 0, lb: 1, cpu: 2, rollover: 3, rnd: 4, qm: 5 };

/** A packet socket for `Sys.packetOpen`. */
export interface PacketSocketOptions {
  /** A virtio-net header of 10 bytes goes before every frame, both ways; frames received may lack checksums or be segments larger than the MTU. */
  readonly vnetHeader: boolean;
  /** Sent frames pass by the interface's queueing discipline. */
  readonly qdiscBypass: boolean;
  /** SO_SNDBUF and SO_RCVBUF, as far as allowed; the latter holds frames that are too long for the ring. */
  readonly bufferBytes: number;
  /** TPACKET_V2 ring of received frames, at offset 0 of the socket for mmap. Bytes are multiples of the page and of 16. */
  readonly ring: { readonly blockBytes: number; readonly blocks: number; readonly frameBytes: number; readonly frames: number };
  /** Frames are spread over the sockets of a group; without `group` a new one (`packetFanoutGroup`). The interface has to be up. */
  readonly fanout?: { readonly mode: number; readonly group?: number };
}

/** poll(2): data to read, a connection to accept, or the end of the stream. */
export const POLLIN = 1;
/** poll(2): a write would take something. */
export const POLLOUT = 4;
/** poll(2): the descriptor failed; reported whether asked for or not. */
export const POLLERR = 8;
/** poll(2): the other end is closed; reported whether asked for or not. */
export const POLLHUP = 16;

/**
 * The system calls an emulated device needs; `linux` is the real implementation, `withFaults` one for tests. No call blocks unless
 * its name or an argument says so. Every call throws `LinuxError` with the errno where the kernel refuses, unless it says otherwise.
 */
export interface Sys {
  /** close(2). Throws EBADF for a number that is not open, and nothing else: whatever close reports, Linux has released the descriptor. */
  close(fd: number): void;
  /** F_DUPFD_CLOEXEC (fcntl(2)): a new descriptor of the same file, the caller's to close. */
  dup(fd: number): number;
  /** dup3(2) with O_CLOEXEC: `onto` becomes another number of `fd`'s file, and what it was is closed. Threads that use `onto` never see it closed. */
  dupOnto(fd: number, onto: number): void;
  /** undefined = EAGAIN. 0 = end of file. `into` may be a view of shared memory. */
  read(fd: number, into: Uint8Array): number | undefined;
  /** write(2): bytes written, possibly fewer than given; undefined = EAGAIN. */
  write(fd: number, from: Uint8Array): number | undefined;
  /** pread(2) at byte `offset`: bytes read, fewer than asked for at the end of the file. */
  pread(fd: number, into: Uint8Array, offset: number): number;
  /** pwrite(2) at byte `offset`: bytes written. */
  pwrite(fd: number, from: Uint8Array, offset: number): number;
  /** As read/write, on an absolute address (a window base plus offset): no view per frame. undefined = EAGAIN. */
  readAt(fd: number, address: bigint, lengthBytes: number): number | undefined;
  /** As `readAt`, the other way. */
  writeAt(fd: number, address: bigint, lengthBytes: number): number | undefined;
  /** writev(2) of `count` struct iovec at an absolute address, one after the other; undefined = EAGAIN. */
  writevAt(fd: number, address: bigint, count: number): number | undefined;
  /** statx(2) of an open descriptor: type, size, block size and identity. */
  fstat(fd: number): FileStatus;
  /** ftruncate(2): the file is `lengthBytes` long afterwards; EPERM where a seal forbids it. */
  ftruncate(fd: number, lengthBytes: number): void;
  /** O_NONBLOCK of the open file description (fcntl(2)): it holds for every descriptor that shares it. */
  setNonBlocking(fd: number, on: boolean): void;
  /** FD_CLOEXEC of this descriptor (fcntl(2)). */
  setCloseOnExec(fd: number, on: boolean): void;
  /** True if the number is an open descriptor of this process. Never throws. */
  isValidFd(fd: number): boolean;

  /** Non-blocking, close-on-exec UNIX listener. A stale socket file (nobody listens) is replaced; a live one is EADDRINUSE. */
  unixListen(path: string, backlog: number, options?: UnixSocketOptions): number;
  /** undefined = EAGAIN. Accepted sockets are non-blocking. */
  unixAccept(listener: number): number | undefined;
  /** Connects (blocking, local), then switches to non-blocking. */
  unixConnect(path: string, options?: UnixSocketOptions): number;
  /** As unixConnect, never waiting: undefined where the listener's backlog is full. */
  unixTryConnect(path: string, options?: UnixSocketOptions): number | undefined;
  /** socketpair(2): two connected UNIX sockets, non-blocking and close-on-exec, both the caller's. */
  unixSocketPair(options?: Pick<UnixSocketOptions, 'type'>): [number, number];
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
  /** SO_PEERCRED (unix(7)). */
  peerCredentials(socket: number): PeerCredentials;

  /** memfd_create(2), close-on-exec, 0 bytes long. `name` shows in /proc/self/fd only; `allowSealing`: MFD_ALLOW_SEALING. */
  memfdCreate(name: string, options: { allowSealing: boolean }): number;
  /** F_GET_SEALS; undefined where the file does not support seals. */
  getSeals(fd: number): number | undefined;
  /** F_ADD_SEALS; false where refused (EPERM) or unsupported (EINVAL). */
  addSeals(fd: number, seals: number): boolean;

  /** mmap(2): the address of the mapping. With a fixed address (MAP_FIXED) whatever was there is replaced, and may be gone where the call fails. */
  mmap(request: MapRequest): bigint;
  /** munmap(2) of whole pages. */
  munmap(address: bigint, lengthBytes: number): void;
  /** MADV_DONTDUMP | MADV_DONTNEED and the like. */
  madvise(address: bigint, lengthBytes: number, advice: number): void;
  /** The address of a buffer's first byte. The caller keeps the buffer referenced as long as anybody uses the address. */
  addressOf(buffer: ArrayBufferLike): bigint;

  /** EFD_NONBLOCK | EFD_CLOEXEC. */
  eventfd(initial?: number): number;
  /** Whether a descriptor is an eventfd, for one that a peer says is. False where /proc is not mounted, too. Never throws. */
  isEventfd(fd: number): boolean;
  /** Adds 1; false if the descriptor is no eventfd. Never throws and never blocks, whatever flags it has: usable on the hot path. */
  eventfdSignal(fd: number): boolean;
  /** Reads and clears the counter; 0 when nothing was pending. Never blocks, whatever flags the descriptor has (Linux 5.8). */
  eventfdDrain(fd: number): number;

  /** Blocks the calling thread until one of `fds` has POLLIN (or an error) or `timeoutNs` passed; returns how many are ready. */
  pollIn(fds: Int32Array, count: number, timeoutNs: number): number;
  /** Lets others have the calling thread's processor first, if any wait for it (sched_yield(2)). Never throws. */
  yieldProcessor(): void;
  /**
   * Calls back on this thread's event loop whenever `fd` is readable (level-triggered) until disposed. Must be disposed
   * before the descriptor is closed. `ref: false` lets the process exit while the watch is active.
   */
  watch(fd: number, events: { readable?: boolean; writable?: boolean }, callback: (revents: { readable: boolean; writable: boolean; error: boolean }) => void, options?: { ref?: boolean }): Disposable;

  /** Opens /dev/net/tun in TAP mode (IFF_NO_PI), non-blocking; `name` may be '' for a kernel-chosen one. Returns the real name. */
  tapOpen(name: string, options: TapOptions): { fd: number; name: string };
  /** Sets or clears IFF_UP of an interface (netdevice(7)); needs CAP_NET_ADMIN. */
  ifUp(name: string, up: boolean): void;
  /** SIOCSIFMTU (netdevice(7)), bytes; needs CAP_NET_ADMIN. */
  ifSetMtu(name: string, mtu: number): void;
  /** SIOCSIFHWADDR (netdevice(7)): 6 bytes, or EINVAL; needs CAP_NET_ADMIN. */
  ifSetMac(name: string, mac: Uint8Array): void;
  /** SIOCGIFHWADDR (netdevice(7)): the interface's 6 bytes. */
  ifGetMac(name: string): Uint8Array;
  /** IFF_UP and IFF_RUNNING of an interface. */
  ifFlags(name: string): { up: boolean; running: boolean };
  /** SIOCGIFMTU (netdevice(7)), bytes. */
  ifGetMtu(name: string): number;
  /** SIOCGIFINDEX (netdevice(7)): the number of an interface, which no later one of the same name has. */
  ifIndex(name: string): number;

  /** A non-blocking, close-on-exec packet socket (packet(7)) that receives what comes in at an interface, not what goes out; needs CAP_NET_RAW. */
  packetOpen(iface: string, options: PacketSocketOptions): number;
  /** The group (PACKET_FANOUT) that a packet socket is in. */
  packetFanoutGroup(fd: number): number;
  /** PACKET_STATISTICS since the last call: frames for the socket, and those of them that found no room. */
  packetStatistics(fd: number): { packets: number; drops: number };
  /** Whether the interface receives frames for other addresses, too, as far as this socket is concerned. */
  packetPromiscuous(fd: number, iface: string, on: boolean): void;
  /** SO_ERROR: a socket's pending error as an errno, cleared; 0 = none. */
  socketError(fd: number): number;
  /** sendmmsg(2) of `count` struct mmsghdr at an absolute address, whatever they point at included: how many were sent. undefined = EAGAIN for the first one. */
  sendMessagesAt(fd: number, address: bigint, count: number): number | undefined;

  /** Opens a new pseudo terminal: its master (non-blocking, close-on-exec) and the path of its slave, which is unlocked. */
  ptyOpen(): { master: number; path: string };
  /** Opens a master's slave, blocking and not as controlling terminal, also where /dev/pts is another mount (TIOCGPTPEER, Linux 4.13). */
  ptyOpenSlave(master: number): number;
  /** POLLHUP, right now: of a pseudo terminal's master that no slave is open, of a socket that the peer has gone. */
  isHungUp(fd: number): boolean;
  /**
   * Makes a terminal pass bytes as they are, eight bits wide, without echo, signals or flow control. On a master it acts on the slave.
   * `processOutput`: what is written is still given carriage returns. Returns the settings of before; ENOTTY for what is no terminal.
   */
  ttySetRaw(fd: number, options?: { processOutput?: boolean }): Uint8Array;
  /** Sets what `ttySetRaw` has returned; EINVAL for anything else. */
  ttyRestore(fd: number, settings: Uint8Array): void;

  /** open(2) of what is there already, a device's node say: close-on-exec, O_NONBLOCK, never the controlling terminal. */
  open(path: string, access: { read: boolean; write: boolean }): number;
  /**
   * ioctl(2): what it returns, not negative. `argument` is a value, or a structure that the kernel reads and fills in. The caller answers for the structure being as
   * long as the request wants, and for every address in it. How long a call takes is the device's affair.
   */
  ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): number;
  /**
   * A non-blocking, close-on-exec socket on which the kernel announces devices that come, go and change (NETLINK_KOBJECT_UEVENT), for
   * `ueventRead`.
   */
  ueventOpen(): number;
  /**
   * The next event, as strings that end with a zero byte; undefined = EAGAIN. 0: somebody else has sent a message as if it were the kernel, which is dropped.
   * ENOBUFS, once, where events were lost.
   */
  ueventRead(socket: number, into: Uint8Array): number | undefined;
}
