/** TAP devices (drivers/net/tun.c) and the few interface ioctls that go with them (netdevice(7)). */
import type { TapOptions } from './sys.ts';
import { LinuxError } from './errors.ts';
import { close } from './files.ts';
import { EBUSY, EINVAL, ENAMETOOLONG, EPERM, check, errno, libc } from './libc.ts';
import { MAX_INTERFACE_NAME_BYTES } from './limits.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const O_RDWR_NONBLOCK_CLOEXEC = 0o2 | 0o4000 | 0o2000000;

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETVNETLE = 0x400454dc;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCSIFHWADDR = 0x8924;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const ARPHRD_ETHER = 1;
const MAC_BYTES = 6;

/** struct ifreq: 16 bytes of name, then a union of 24. */
const IFREQ_BYTES = 40;
const IFREQ_UNION = 16;

function interfaceRequest(name: string, syscall: string): DataView<ArrayBuffer> {
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.byteLength > MAX_INTERFACE_NAME_BYTES) {
    throw new LinuxError(ENAMETOOLONG, syscall, `'${name}'`, `an interface name has at most ${MAX_INTERFACE_NAME_BYTES} bytes`);
  }
  const request = new Uint8Array(new ArrayBuffer(IFREQ_BYTES));
  request.set(bytes);
  return new DataView(request.buffer);
}

export function tapOpen(name: string, options: TapOptions): { fd: number; name: string } {
  const vnetHeaderBytes = options.vnetHeaderBytes ?? 0;
  const offloads = options.offloads ?? 0;
  if (offloads !== 0 && vnetHeaderBytes === 0) throw new LinuxError(EINVAL, 'tapOpen', `'${name}'`, 'offloads need a virtio-net header to describe them');
  const request = interfaceRequest(name, 'tapOpen');
  const fd = libc.open('/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw new LinuxError(errno(), 'open', `'/dev/net/tun'`, 'TAP needs the tun module and CAP_NET_ADMIN');
  try {
    request.setUint16(IFREQ_UNION, IFF_TAP | IFF_NO_PI | (vnetHeaderBytes === 0 ? 0 : IFF_VNET_HDR) | (options.multiQueue === true ? IFF_MULTI_QUEUE : 0), true);
    if (libc.ioctl(fd, TUNSETIFF, request) < 0) throw attachError(errno(), name);
    if (vnetHeaderBytes !== 0) {
      check(libc.ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(vnetHeaderBytes)), 'ioctl', `TUNSETVNETHDRSZ, ${vnetHeaderBytes}`);
      check(libc.ioctl(fd, TUNSETVNETLE, Int32Array.of(1)), 'ioctl', 'TUNSETVNETLE');
      check(libc.ioctlValue(fd, TUNSETOFFLOAD, offloads), 'ioctl', `TUNSETOFFLOAD, ${offloads}`);
    }
  } catch (error) {
    close(fd);
    throw error;
  }
  const real = Buffer.from(request.buffer, 0, IFREQ_UNION);
  return { fd, name: real.toString('utf8', 0, real.indexOf(0)) };
}

function attachError(e: number, name: string): LinuxError {
  if (e === EPERM) return new LinuxError(e, 'ioctl', `TUNSETIFF, '${name}'`, 'creating a TAP needs CAP_NET_ADMIN, or an interface made for you: ip tuntap add mode tap user …');
  if (e === EBUSY) return new LinuxError(e, 'ioctl', `TUNSETIFF, '${name}'`, 'another process has this TAP open');
  if (e === EINVAL) return new LinuxError(e, 'ioctl', `TUNSETIFF, '${name}'`, 'the interface exists with another mode (not a TAP, or multi-queue differs)');
  return new LinuxError(e, 'ioctl', `TUNSETIFF, '${name}'`);
}

/** Any socket will do for these ioctls; AF_UNIX exists on every kernel we run on. */
function interfaceIoctl(request: DataView<ArrayBuffer>, number: number, what: string, name: string): void {
  const socket = check(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket', 'AF_UNIX');
  try {
    check(libc.ioctl(socket, number, request), 'ioctl', `${what}, '${name}'`);
  } finally {
    close(socket);
  }
}

export function ifUp(name: string, up: boolean): void {
  const request = interfaceRequest(name, 'ifUp');
  interfaceIoctl(request, SIOCGIFFLAGS, 'SIOCGIFFLAGS', name);
  const flags = request.getUint16(IFREQ_UNION, true);
  request.setUint16(IFREQ_UNION, up ? flags | IFF_UP : flags & ~IFF_UP, true);
  interfaceIoctl(request, SIOCSIFFLAGS, 'SIOCSIFFLAGS', name);
}

export function ifFlags(name: string): { up: boolean; running: boolean } {
  const request = interfaceRequest(name, 'ifFlags');
  interfaceIoctl(request, SIOCGIFFLAGS, 'SIOCGIFFLAGS', name);
  const flags = request.getUint16(IFREQ_UNION, true);
  return { up: (flags & IFF_UP) !== 0, running: (flags & IFF_RUNNING) !== 0 };
}

export function ifSetMtu(name: string, mtu: number): void {
  const request = interfaceRequest(name, 'ifSetMtu');
  request.setInt32(IFREQ_UNION, mtu, true);
  interfaceIoctl(request, SIOCSIFMTU, `SIOCSIFMTU ${mtu}`, name);
}

export function ifGetMtu(name: string): number {
  const request = interfaceRequest(name, 'ifGetMtu');
  interfaceIoctl(request, SIOCGIFMTU, 'SIOCGIFMTU', name);
  return request.getInt32(IFREQ_UNION, true);
}

export function ifIndex(name: string): number {
  const request = interfaceRequest(name, 'ifIndex');
  interfaceIoctl(request, SIOCGIFINDEX, 'SIOCGIFINDEX', name);
  return request.getInt32(IFREQ_UNION, true);
}

export function ifSetMac(name: string, mac: Uint8Array): void {
  if (mac.byteLength !== MAC_BYTES) throw new LinuxError(EINVAL, 'ifSetMac', `'${name}'`, `a MAC address has ${MAC_BYTES} bytes, got ${mac.byteLength}`);
  const request = interfaceRequest(name, 'ifSetMac');
  request.setUint16(IFREQ_UNION, ARPHRD_ETHER, true);
  new Uint8Array(request.buffer).set(mac, IFREQ_UNION + 2);
  interfaceIoctl(request, SIOCSIFHWADDR, 'SIOCSIFHWADDR', name);
}

export function ifGetMac(name: string): Uint8Array {
  const request = interfaceRequest(name, 'ifGetMac');
  interfaceIoctl(request, SIOCGIFHWADDR, 'SIOCGIFHWADDR', name);
  return new Uint8Array(request.buffer).slice(IFREQ_UNION + 2, IFREQ_UNION + 2 + MAC_BYTES);
}
