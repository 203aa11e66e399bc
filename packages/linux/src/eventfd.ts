import { blocked } from './files.ts';
import { check, libc } from './libc.ts';

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

const one = new BigUint64Array(new ArrayBuffer(8));
one[0] = 1n;
const counter = new DataView(new ArrayBuffer(8));

export function eventfd(initial = 0): number {
  return check(libc.eventfd(initial, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd', initial);
}

export function eventfdSignal(fd: number): boolean {
  return libc.write(fd, one, 8) === 8;
}

export function eventfdDrain(fd: number): number {
  for (;;) {
    const n = libc.read(fd, counter, 8);
    // Anything but eight bytes is a descriptor that is no eventfd (or a closed peer): nothing was pending.
    if (n >= 0) return n === 8 ? counter.getUint32(4, true) * 2 ** 32 + counter.getUint32(0, true) : 0;
    if (blocked('read', fd)) return 0;
  }
}
