/** Nodes below /dev and their ioctls, and the kernel's announcements of devices (NETLINK_KOBJECT_UEVENT). */
import { LinuxError } from './errors.ts';
import { blocked, close } from './files.ts';
import { EINVAL, check, errno, libc } from './libc.ts';
import { O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from './open-flags.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_KOBJECT_UEVENT = 15;
/** The group that the kernel itself sends to; udev's daemon has another. */
const KERNEL_EVENTS = 1;

export function open(path: string, { read, write }: { read: boolean; write: boolean }): number {
  if (!read && !write) throw new LinuxError(EINVAL, 'open', `'${path}'`, 'for reading, for writing, or both');
  if (path.includes('\0')) throw new LinuxError(EINVAL, 'open', `'${path.replaceAll('\0', '\\0')}'`, 'a path has no NUL');
  const access = read && write ? O_RDWR : write ? O_WRONLY : O_RDONLY;
  // Non-blocking: whatever is at the path, a FIFO say, does not hold the caller.
  return check(libc.open(path, access | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0), 'open', `'${path}'`);
}

export function ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): number {
  const result = typeof argument === 'object' ? libc.ioctl(fd, request, argument) : libc.ioctlValue(fd, request, argument);
  return check(result, 'ioctl', `${fd}, 0x${request.toString(16)}`);
}

export function ueventOpen(): number {
  const fd = check(libc.socket(AF_NETLINK, SOCK_RAW | O_CLOEXEC | O_NONBLOCK, NETLINK_KOBJECT_UEVENT), 'socket', 'AF_NETLINK, NETLINK_KOBJECT_UEVENT');
  // struct sockaddr_nl: family, padding, port (0: the kernel chooses one), groups.
  const address = Uint32Array.of(AF_NETLINK, 0, KERNEL_EVENTS);
  if (libc.bind(fd, address, address.byteLength) === 0) return fd;
  const number = errno();
  close(fd);
  throw new LinuxError(number, 'bind', 'NETLINK_KOBJECT_UEVENT');
}

/** struct sockaddr_nl, and its length. */
const sender = new Uint32Array(new ArrayBuffer(12));
const senderBytes = new Uint32Array(new ArrayBuffer(4));

export function ueventRead(socket: number, into: Uint8Array): number | undefined {
  for (;;) {
    senderBytes[0] = sender.byteLength;
    const n = libc.recvfrom(socket, into, into.byteLength, 0, sender, senderBytes);
    if (n >= 0) return isFromKernel() ? n : 0;
    if (blocked('recvfrom', socket)) return undefined;
  }
}

/** The kernel's port is 0; a process that may configure the network can send to the kernel's group, too. */
function isFromKernel(): boolean {
  return senderBytes[0] === sender.byteLength && (sender[0]! & 0xffff) === AF_NETLINK && sender[1] === 0;
}
