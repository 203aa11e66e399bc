import type { Sys } from './sys.ts';
import * as nodes from './device-node.ts';
import * as eventfds from './eventfd.ts';
import * as files from './files.ts';
import { addressOf } from './libc.ts';
import * as memory from './memory.ts';
import * as pty from './pty.ts';
import * as readiness from './readiness.ts';
import * as sockets from './sockets.ts';
import * as packet from './packet-socket.ts';
import * as tap from './tap.ts';
import { yieldProcessor } from './thread.ts';

/** The real system calls, for this thread. */
export const linux: Sys = {
  close: files.close,
  dup: files.dup,
  dupOnto: files.dupOnto,
  read: files.read,
  write: files.write,
  pread: files.pread,
  pwrite: files.pwrite,
  readAt: files.readAt,
  writeAt: files.writeAt,
  writevAt: files.writevAt,
  fstat: files.fstat,
  ftruncate: files.ftruncate,
  setNonBlocking: files.setNonBlocking,
  setCloseOnExec: files.setCloseOnExec,
  isValidFd: files.isValidFd,
  unixListen: sockets.unixListen,
  unixAccept: sockets.unixAccept,
  unixConnect: sockets.unixConnect,
  unixTryConnect: sockets.unixTryConnect,
  unixSocketPair: sockets.unixSocketPair,
  shutdownWrite: sockets.shutdownWrite,
  sendmsg: sockets.sendmsg,
  recvmsg: sockets.recvmsg,
  recvmsgBlocking: sockets.recvmsgBlocking,
  unixSocketKind: sockets.unixSocketKind,
  peerCredentials: sockets.peerCredentials,
  memfdCreate: files.memfdCreate,
  getSeals: files.getSeals,
  addSeals: files.addSeals,
  mmap: memory.mmap,
  munmap: memory.munmap,
  madvise: memory.madvise,
  addressOf,
  eventfd: eventfds.eventfd,
  isEventfd: eventfds.isEventfd,
  eventfdSignal: eventfds.eventfdSignal,
  eventfdDrain: eventfds.eventfdDrain,
  pollIn: readiness.pollIn,
  yieldProcessor,
  watch: readiness.watch,
  tapOpen: tap.tapOpen,
  ifUp: tap.ifUp,
  ifSetMtu: tap.ifSetMtu,
  ifSetMac: tap.ifSetMac,
  ifGetMac: tap.ifGetMac,
  ifFlags: tap.ifFlags,
  ifGetMtu: tap.ifGetMtu,
  ifIndex: tap.ifIndex,
  packetOpen: packet.packetOpen,
  packetFanoutGroup: packet.packetFanoutGroup,
  packetStatistics: packet.packetStatistics,
  packetPromiscuous: packet.packetPromiscuous,
  socketError: packet.socketError,
  sendMessagesAt: packet.sendMessagesAt,
  ptyOpen: pty.ptyOpen,
  ptyOpenSlave: pty.ptyOpenSlave,
  isHungUp: readiness.isHungUp,
  ttySetRaw: pty.ttySetRaw,
  ttyRestore: pty.ttyRestore,
  open: nodes.open,
  ioctl: nodes.ioctl,
  ueventOpen: nodes.ueventOpen,
  ueventRead: nodes.ueventRead,
};
