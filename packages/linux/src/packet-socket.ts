/** Packet sockets (packet(7), net/packet/af_packet.c): every frame of a network interface, received through a ring that is shared with the kernel. */
import type { PacketSocketOptions } from './sys.ts';
import { LinuxError } from './errors.ts';
import { blocked, close } from './files.ts';
import { EINVAL, check, errno, libc } from './libc.ts';
import { ifIndex } from './tap.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
/** ETH_P_ALL in network order. */
const ALL_PROTOCOLS = 0x0300;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_COPY_THRESH = 7;
const PACKET_VERSION = 10;
const PACKET_VNET_HDR = 15;
const PACKET_FANOUT = 18;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const TPACKET_V2 = 1;
const PACKET_MR_PROMISC = 1;
/** The kernel chooses the number of a new group. */
const FANOUT_FLAG_UNIQUE_ID = 0x2000;
const SOCKADDR_LL_BYTES = 20;
const MSG_DONTWAIT = 0x40;

function set(fd: number, option: number, value: Int32Array, what: string, hint = ''): void {
  if (libc.setsockopt(fd, SOL_PACKET, option, value, value.byteLength) < 0) throw new LinuxError(errno(), 'setsockopt', `${fd}, ${what}`, hint);
}

export function packetOpen(iface: string, options: PacketSocketOptions): number {
  const index = ifIndex(iface);
  // Protocol 0: nothing is received before everything is set.
  const fd = libc.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw new LinuxError(errno(), 'socket', 'AF_PACKET', 'packet sockets need CAP_NET_RAW');
  try {
    const { ring, fanout } = options;
    set(fd, PACKET_VERSION, Int32Array.of(TPACKET_V2), 'PACKET_VERSION');
    if (options.vnetHeader) set(fd, PACKET_VNET_HDR, Int32Array.of(1), 'PACKET_VNET_HDR');
    set(fd, PACKET_IGNORE_OUTGOING, Int32Array.of(1), 'PACKET_IGNORE_OUTGOING');
    set(fd, PACKET_COPY_THRESH, Int32Array.of(1), 'PACKET_COPY_THRESH');
    if (options.qdiscBypass) set(fd, PACKET_QDISC_BYPASS, Int32Array.of(1), 'PACKET_QDISC_BYPASS');
    // Best effort, needs CAP_NET_ADMIN: with less room more is dropped, and counted.
    for (const option of [SO_SNDBUFFORCE, SO_RCVBUFFORCE]) libc.setsockopt(fd, SOL_SOCKET, option, Int32Array.of(options.bufferBytes), 4);
    set(fd, PACKET_RX_RING, Int32Array.of(ring.blockBytes, ring.blocks, ring.frameBytes, ring.frames), 'PACKET_RX_RING', `${ring.blocks} blocks of ${ring.blockBytes} bytes, ${ring.frames} frames of ${ring.frameBytes}`);
    const address = new DataView(new ArrayBuffer(SOCKADDR_LL_BYTES));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, ALL_PROTOCOLS, true);
    address.setInt32(4, index, true);
    check(libc.bind(fd, address, SOCKADDR_LL_BYTES), 'bind', `'${iface}'`);
    if (fanout !== undefined) {
      const first = fanout.group === undefined;
      set(fd, PACKET_FANOUT, Int32Array.of((fanout.group ?? 0) | ((fanout.mode | (first ? FANOUT_FLAG_UNIQUE_ID : 0)) << 16)), 'PACKET_FANOUT', `queues share what '${iface}' receives only while it is up`);
    }
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

const value = new Int32Array(new ArrayBuffer(8));
const valueBytes = new Int32Array(new ArrayBuffer(4));

function get(fd: number, level: number, option: number, bytes: number, what: string): void {
  valueBytes[0] = bytes;
  check(libc.getsockopt(fd, level, option, value, valueBytes), 'getsockopt', `${fd}, ${what}`);
}

export function packetFanoutGroup(fd: number): number {
  get(fd, SOL_PACKET, PACKET_FANOUT, 4, 'PACKET_FANOUT');
  return value[0]! & 0xffff;
}

export function packetStatistics(fd: number): { packets: number; drops: number } {
  get(fd, SOL_PACKET, PACKET_STATISTICS, 8, 'PACKET_STATISTICS');
  return { packets: value[0]! >>> 0, drops: value[1]! >>> 0 };
}

export function socketError(fd: number): number {
  get(fd, SOL_SOCKET, SO_ERROR, 4, 'SO_ERROR');
  return value[0]!;
}

export function packetPromiscuous(fd: number, iface: string, on: boolean): void {
  // struct packet_mreq: int ifindex, u16 type, u16 address length, 8 bytes of address.
  set(fd, on ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, Int32Array.of(ifIndex(iface), PACKET_MR_PROMISC, 0, 0), 'PACKET_MR_PROMISC');
}

export function sendMessagesAt(fd: number, address: bigint, count: number): number | undefined {
  if (count === 0) throw new LinuxError(EINVAL, 'sendmmsg', String(fd), 'no messages');
  for (;;) {
    const sent = libc.sendmmsg(fd, address, count, MSG_DONTWAIT);
    if (sent >= 0) return sent;
    if (blocked('sendmmsg', fd)) return undefined;
  }
}
