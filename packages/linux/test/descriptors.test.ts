import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { devNull } from 'node:os';
import koffi from 'koffi';
import { describe, expect, test } from 'vitest';
import { LinuxError, OwnedFd, S_IFMT, S_IFREG, countOpenFds, linux } from '../src/index.ts';
import { libc } from '../src/libc.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe('reading and writing', () => {
  test('an empty socket is undefined, a closed one is 0, in between the bytes arrive', () => {
    const [a, b] = linux.unixSocketPair();
    const into = new Uint8Array(8);
    expect(linux.read(b, into)).toBeUndefined();
    expect(linux.write(a, bytes(1, 2, 3))).toBe(3);
    expect(linux.read(b, into)).toBe(3);
    expect([...into.subarray(0, 3)]).toEqual([1, 2, 3]);
    linux.close(a);
    expect(linux.read(b, into)).toBe(0);
    linux.close(b);
  });

  test('a full socket is undefined', () => {
    const [a, b] = linux.unixSocketPair();
    const block = new Uint8Array(65536);
    let writes = 0;
    while (linux.write(a, block) !== undefined) expect(++writes).toBeLessThan(1000);
    expect(writes).toBeGreaterThan(0);
    linux.close(a);
    linux.close(b);
  });

  test('views of shared memory and absolute addresses reach the same bytes', () => {
    const [a, b] = linux.unixSocketPair();
    const shared = new SharedArrayBuffer(256);
    const all = new Uint8Array(shared);
    const address = linux.addressOf(shared);
    all.set([7, 8, 9], 100);
    expect(linux.write(a, all.subarray(100, 103))).toBe(3);
    expect(linux.readAt(b, address + 10n, 16)).toBe(3);
    expect([...all.subarray(9, 14)]).toEqual([0, 7, 8, 9, 0]);
    expect(linux.readAt(b, address, 16)).toBeUndefined();
    expect(linux.writeAt(a, address + 11n, 2)).toBe(2);
    expect(linux.read(b, all.subarray(200, 210))).toBe(2);
    expect([...all.subarray(199, 203)]).toEqual([0, 8, 9, 0]);
    linux.close(a);
    linux.close(b);
  });

  test('positioned reads and writes of a file past 4 GiB', () => {
    const fd = linux.memfdCreate('sparse', { allowSealing: false });
    const far = 5 * 2 ** 30;
    linux.ftruncate(fd, far + 4096);
    expect(linux.pwrite(fd, bytes(42), far)).toBe(1);
    const into = new Uint8Array(2);
    expect(linux.pread(fd, into, far)).toBe(2);
    expect([...into]).toEqual([42, 0]);
    expect(linux.pread(fd, into, far + 4096)).toBe(0);
    linux.close(fd);
  });
});

describe('descriptors', () => {
  test('fstat tells size, kind and identity', () => {
    const fd = linux.memfdCreate('status', { allowSealing: false });
    linux.ftruncate(fd, 3 * 2 ** 32);
    const again = linux.dup(fd);
    const other = linux.memfdCreate('status', { allowSealing: false });
    const status = linux.fstat(fd);
    expect(status.sizeBytes).toBe(3 * 2 ** 32);
    expect(status.mode & S_IFMT).toBe(S_IFREG);
    expect(status.blockBytes).toBeGreaterThanOrEqual(4096);
    expect(linux.fstat(again)).toEqual(status);
    expect(linux.fstat(other).ino).not.toBe(status.ino);
    for (const f of [fd, again, other]) linux.close(f);
  });

  test('what we open is closed on exec', () => {
    // A child would inherit it otherwise; FD_CLOEXEC shows as the 02000000 flag.
    const fd = linux.memfdCreate('cloexec', { allowSealing: false });
    const copy = linux.dup(fd);
    const [a, b] = linux.unixSocketPair();
    const event = linux.eventfd();
    for (const f of [fd, copy, a, b, event]) {
      expect(flagsOf(f) & 0o2000000).not.toBe(0);
      linux.close(f);
    }
  });

  test('non-blocking mode is a switch', () => {
    const [a, b] = linux.unixSocketPair();
    linux.setNonBlocking(a, false);
    expect(flagsOf(a) & 0o4000).toBe(0);
    linux.setNonBlocking(a, true);
    expect(flagsOf(a) & 0o4000).not.toBe(0);
    linux.close(a);
    linux.close(b);
  });

  test('a socket that would linger is closed at once', async () => {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const [AF_INET, SOCK_STREAM, SOL_SOCKET, SO_LINGER, lingerSeconds] = [2, 1, 1, 13, 6];
    const fd = libc.socket(AF_INET, SOCK_STREAM, 0);
    expect(libc.connect(fd, bytes(AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 16)).toBe(0);
    linux.setNonBlocking(fd, true);
    // More than the other end takes.
    const block = new Uint8Array(65536);
    while (linux.write(fd, block) !== undefined);
    expect(libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, Int32Array.of(1, lingerSeconds), 8)).toBe(0);
    const began = performance.now();
    linux.close(fd);
    expect(performance.now() - began).toBeLessThan((lingerSeconds * 1000) / 2);
    server.close();
  });

  test('validity', () => {
    const fd = linux.eventfd();
    expect(linux.isValidFd(fd)).toBe(true);
    linux.close(fd);
    expect(linux.isValidFd(fd)).toBe(false);
    expect(linux.isValidFd(-1)).toBe(false);
  });
});

describe('OwnedFd', () => {
  test('closes once, when its scope ends', () => {
    const before = countOpenFds();
    let number: number;
    {
      using owned = new OwnedFd(linux.eventfd());
      number = owned.fd;
      expect(countOpenFds()).toBe(before + 1);
    }
    expect(linux.isValidFd(number)).toBe(false);
    expect(countOpenFds()).toBe(before);
  });

  test('closing twice does not hit the number’s next owner', () => {
    const owned = new OwnedFd(linux.eventfd());
    const number = owned.fd;
    owned.close();
    const next = openSync(devNull, 'r');
    expect(next).toBe(number);
    owned.close();
    owned[Symbol.dispose]();
    expect(linux.isValidFd(next)).toBe(true);
    closeSync(next);
  });

  test('a taken number stays open and the owner is unusable', () => {
    const owned = new OwnedFd(linux.eventfd());
    const fd = owned.take();
    owned.close();
    expect(linux.isValidFd(fd)).toBe(true);
    expect(() => owned.fd).toThrow(LinuxError);
    expect(() => owned.take()).toThrow(/after it was closed or taken/);
    linux.close(fd);
  });
});

function flagsOf(fd: number): number {
  const into = new Uint8Array(256);
  const info = openSync(`/proc/self/fdinfo/${fd}`, 'r');
  const length = linux.read(info, into) ?? 0;
  closeSync(info);
  return Number.parseInt(/flags:\s*(\d+)/.exec(Buffer.from(into.subarray(0, length)).toString())![1]!, 8);
}

test('close fails for a descriptor that is not open, not for what a file says on its way out', () => {
  const fd = linux.eventfd();
  const real = libc.close;
  try {
    libc.close = (n) => {
      real(n);
      koffi.errno(5);
      return -1;
    };
    linux.close(fd);
  } finally {
    libc.close = real;
  }
  expect(linux.isValidFd(fd)).toBe(false);
  expect(() => { linux.close(fd); }).toThrow(expect.objectContaining({ code: 'EBADF' }));
});

describe('another number for a file', () => {
  test('dupOnto: the number stays open and is the other file from then on', () => {
    const before = countOpenFds();
    const [a, b] = linux.unixSocketPair();
    const event = linux.eventfd(1);
    linux.dupOnto(event, a);
    // The socket that `a` was is closed.
    expect(linux.read(b, new Uint8Array(1))).toBe(0);
    expect(linux.eventfdDrain(a)).toBe(1);
    expect(linux.eventfdDrain(event)).toBe(0);
    expect(() => { linux.dupOnto(event, 1 << 30); }).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'dup3' }));
    for (const fd of [a, b, event]) linux.close(fd);
    expect(() => { linux.dupOnto(event, 0); }).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(countOpenFds()).toBe(before);
  });

  test('isEventfd tells eventfds from everything else', () => {
    using event = new OwnedFd(linux.eventfd());
    using copy = new OwnedFd(linux.dup(event.fd));
    using file = new OwnedFd(linux.memfdCreate('[eventfd]', { allowSealing: false }));
    expect([event.fd, copy.fd, file.fd, 1 << 30, -1].map((fd) => linux.isEventfd(fd))).toEqual([true, true, false, false, false]);
  });
});

test('parts that lie apart are written as one', () => {
  const bytes = new Uint8Array(new ArrayBuffer(256));
  const view = new DataView(bytes.buffer);
  const base = linux.addressOf(bytes.buffer);
  bytes.set([1, 2, 3], 100);
  bytes.set([4, 5], 200);
  for (const [i, [at, length]] of [[100, 3], [150, 0], [200, 2]].entries()) {
    view.setBigUint64(16 * i, base + BigInt(at!), true);
    view.setBigUint64(16 * i + 8, BigInt(length!), true);
  }
  const [near, far] = linux.unixSocketPair({ type: 'seqpacket' });
  expect(linux.writevAt(near, base, 3)).toBe(5);
  const into = new Uint8Array(16);
  expect(linux.read(far, into)).toBe(5);
  expect([...into.subarray(0, 5)]).toEqual([1, 2, 3, 4, 5]);
  linux.close(near);
  linux.close(far);
});
