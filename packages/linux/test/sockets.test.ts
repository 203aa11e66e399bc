import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_FDS_PER_MESSAGE, MAX_SOCKET_PATH_BYTES, OwnedFd, countOpenFds, linux } from '../src/index.ts';

describe('messages', () => {
  let a: number;
  let b: number;
  let before: number;
  beforeEach(() => {
    before = countOpenFds();
    [a, b] = linux.unixSocketPair();
  });
  afterEach(() => {
    linux.close(a);
    linux.close(b);
    expect(countOpenFds()).toBe(before);
  });

  test.each([1, 16, 253])('%i descriptors arrive, usable and owned by the receiver', (count) => {
    const files = Array.from({ length: count }, (_, i) => {
      const fd = linux.memfdCreate(`file${i}`, { allowSealing: false });
      linux.ftruncate(fd, i + 1);
      return fd;
    });
    expect(linux.sendmsg(a, Uint8Array.of(1, 2, 3), files)).toBe(3);
    for (const fd of files) linux.close(fd);
    const into = new Uint8Array(16);
    const got = linux.recvmsg(b, into, MAX_FDS_PER_MESSAGE)!;
    expect(got).toMatchObject({ bytes: 3, fdsTruncated: false });
    expect([...into.subarray(0, 4)]).toEqual([1, 2, 3, 0]);
    expect(got.fds.map((fd) => linux.fstat(fd).sizeBytes)).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    for (const fd of got.fds) linux.close(fd);
  });

  test('a half-close ends what is read over there, not what is read here', () => {
    linux.sendmsg(a, Uint8Array.of(7), []);
    linux.shutdownWrite(a);
    expect(linux.recvmsg(b, new Uint8Array(8), 0)!.bytes).toBe(1);
    expect(linux.recvmsg(b, new Uint8Array(8), 0)!.bytes).toBe(0);
    expect(linux.sendmsg(b, Uint8Array.of(8), [])).toBe(1);
    expect(linux.recvmsg(a, new Uint8Array(8), 0)!.bytes).toBe(1);
    expect(() => linux.sendmsg(a, Uint8Array.of(9), [])).toThrow(expect.objectContaining({ code: 'EPIPE' }));
  });

  test('254 descriptors are refused before the kernel sees them', () => {
    expect(() => linux.sendmsg(a, Uint8Array.of(1), Array<number>(254).fill(a))).toThrow(/at most 253/);
    expect(linux.recvmsg(b, new Uint8Array(8), 1)).toBeUndefined();
  });

  test('descriptors without a byte are refused', () => {
    expect(() => linux.sendmsg(a, new Uint8Array(0), [a])).toThrow(/at least one byte/);
  });

  test.each([0, 1, 3, 4])('room for %i of 5: those arrive, the loss is reported, nothing leaks', (room) => {
    linux.sendmsg(a, Uint8Array.of(9), Array<number>(5).fill(a));
    const held = countOpenFds();
    const got = linux.recvmsg(b, new Uint8Array(8), room)!;
    expect(got).toMatchObject({ bytes: 1, fdsTruncated: true });
    expect(got.fds).toHaveLength(room);
    expect(countOpenFds()).toBe(held + room);
    for (const fd of got.fds) linux.close(fd);
  });

  test('bytes behind a message with descriptors are not glued to it', () => {
    linux.sendmsg(a, Uint8Array.of(2, 2), [a]);
    linux.sendmsg(a, Uint8Array.of(3, 3, 3), []);
    const into = new Uint8Array(16);
    const first = linux.recvmsg(b, into, 8)!;
    expect(first).toMatchObject({ bytes: 2, fdsTruncated: false });
    expect(first.fds).toHaveLength(1);
    linux.close(first.fds[0]!);
    expect(linux.recvmsg(b, into, 8)).toEqual({ bytes: 3, fds: [], fdsTruncated: false });
  });

  test('nothing there is undefined, a closed peer is 0 bytes', () => {
    const into = new Uint8Array(4);
    expect(linux.recvmsg(b, into, 4)).toBeUndefined();
    const [c, d] = linux.unixSocketPair();
    linux.close(c);
    expect(linux.recvmsg(d, into, 4)).toEqual({ bytes: 0, fds: [], fdsTruncated: false });
    linux.close(d);
  });

  test('a socket that is full takes a part, then is undefined', () => {
    const block = new Uint8Array(1 << 20);
    let sent = 0;
    for (let n = linux.sendmsg(a, block, []); n !== undefined; n = linux.sendmsg(a, block, [])) {
      sent += n;
      expect(sent).toBeLessThan(1 << 28);
    }
    let received = 0;
    for (let got = linux.recvmsg(b, block, 0); got !== undefined; got = linux.recvmsg(b, block, 0)) received += got.bytes;
    expect(received).toBe(sent);
  });

  test('shared memory is sent from and received into', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(64));
    shared.set([4, 5, 6], 10);
    linux.sendmsg(a, shared.subarray(10, 13), []);
    expect(linux.recvmsg(b, shared.subarray(30, 40), 0)!.bytes).toBe(3);
    expect([...shared.subarray(29, 34)]).toEqual([0, 4, 5, 6, 0]);
  });
});

describe('sequenced packets', () => {
  test('one message is one, descriptors with it; what does not fit is cut, not kept', () => {
    const before = countOpenFds();
    const [a, b] = linux.unixSocketPair({ type: 'seqpacket' });
    linux.sendmsg(a, Uint8Array.of(1, 2, 3), [a]);
    linux.sendmsg(a, Uint8Array.of(4, 5), []);
    linux.sendmsg(a, Uint8Array.of(6), []);
    const into = new Uint8Array(16);
    const first = linux.recvmsg(b, into, 4)!;
    expect({ bytes: first.bytes, fds: first.fds.length }).toEqual({ bytes: 3, fds: 1 });
    for (const fd of first.fds) linux.close(fd);
    expect(linux.recvmsg(b, into.subarray(0, 1), 4)).toEqual({ bytes: 1, fds: [], fdsTruncated: false });
    expect(linux.recvmsg(b, into, 4)).toEqual({ bytes: 1, fds: [], fdsTruncated: false });
    expect(into[0]).toBe(6);
    linux.close(a);
    expect(linux.recvmsg(b, into, 4)!.bytes).toBe(0);
    linux.close(b);
    expect(countOpenFds()).toBe(before);
  });

  test('a listener and who connects must be of one kind', () => {
    const folder = mkdtempSync(join(tmpdir(), 'emudev-linux-'));
    const path = join(folder, 's');
    const options = { type: 'seqpacket' } as const;
    {
      using listener = new OwnedFd(linux.unixListen(path, 4, options));
      expect(() => linux.unixConnect(path)).toThrow(expect.objectContaining({ code: 'EPROTOTYPE' }));
      expect(() => linux.unixListen(path, 4)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
      using client = new OwnedFd(linux.unixConnect(path, options));
      using server = new OwnedFd(linux.unixAccept(listener.fd)!);
      linux.sendmsg(client.fd, Uint8Array.of(1), []);
      linux.sendmsg(client.fd, Uint8Array.of(2), []);
      expect(linux.recvmsg(server.fd, new Uint8Array(8), 0)!.bytes).toBe(1);
    }
    // The file is stale now.
    linux.close(linux.unixListen(path, 4, options));
    rmSync(folder, { recursive: true });
  });

  test.each(['stream', 'seqpacket'] as const)('an abstract name is no file, is in use while the %s socket lives, and free afterwards', (type) => {
    const name = `emudev-linux-test-${process.pid}`;
    const options = { type, abstract: true };
    {
      using listener = new OwnedFd(linux.unixListen(name, 4, options));
      expect(existsSync(name)).toBe(false);
      expect(() => linux.unixListen(name, 4, options)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }));
      using _client = new OwnedFd(linux.unixConnect(name, options));
      using _server = new OwnedFd(linux.unixAccept(listener.fd)!);
      expect(() => linux.unixTryConnect(`${name}x`, options)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
    }
    linux.close(linux.unixListen(name, 4, options));
  });
});

describe('listening', () => {
  let folder: string;
  let before: number;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'emudev-linux-'));
    before = countOpenFds();
  });
  afterEach(() => {
    expect(countOpenFds()).toBe(before);
    rmSync(folder, { recursive: true });
  });

  test('accept is undefined until somebody connects', () => {
    const path = join(folder, 's');
    using listener = new OwnedFd(linux.unixListen(path, 4));
    expect(linux.unixAccept(listener.fd)).toBeUndefined();
    using client = new OwnedFd(linux.unixConnect(path));
    using server = new OwnedFd(linux.unixAccept(listener.fd)!);
    expect(linux.read(server.fd, new Uint8Array(1))).toBeUndefined();
    expect(linux.read(client.fd, new Uint8Array(1))).toBeUndefined();
    linux.write(client.fd, Uint8Array.of(7));
    const into = new Uint8Array(1);
    expect(linux.read(server.fd, into)).toBe(1);
    expect(into[0]).toBe(7);
  });

  test('a live socket is in use', () => {
    const path = join(folder, 's');
    using listener = new OwnedFd(linux.unixListen(path, 4));
    expect(() => linux.unixListen(path, 4)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }));
    expect(linux.isValidFd(listener.fd)).toBe(true);
    using client = new OwnedFd(linux.unixConnect(path));
    expect(client.closed).toBe(false);
  });

  test('a live socket with a full backlog is in use', () => {
    const path = join(folder, 's');
    using _listener = new OwnedFd(linux.unixListen(path, 0));
    using _waiting = new OwnedFd(linux.unixConnect(path));
    expect(() => linux.unixListen(path, 4)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
  });

  test('a stale socket file is replaced', () => {
    const path = join(folder, 's');
    linux.close(linux.unixListen(path, 4));
    expect(existsSync(path)).toBe(true);
    using listener = new OwnedFd(linux.unixListen(path, 4));
    using _client = new OwnedFd(linux.unixConnect(path));
    linux.close(linux.unixAccept(listener.fd)!);
  });

  test('a file that is no socket is left alone', () => {
    const path = join(folder, 'precious');
    writeFileSync(path, 'data');
    expect(() => linux.unixListen(path, 4)).toThrow(/not a socket/);
    expect(existsSync(path)).toBe(true);
  });

  test('connecting to a stale socket is refused', () => {
    const path = join(folder, 's');
    linux.close(linux.unixListen(path, 4));
    expect(() => linux.unixConnect(path)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
  });

  test('a connection that must not wait is made at once, or not at all where the backlog is full', () => {
    const path = join(folder, 's');
    using listener = new OwnedFd(linux.unixListen(path, 0));
    using first = new OwnedFd(linux.unixTryConnect(path)!);
    const before = countOpenFds();
    expect(linux.unixTryConnect(path)).toBeUndefined();
    expect(countOpenFds()).toBe(before);
    using _accepted = new OwnedFd(linux.unixAccept(listener.fd)!);
    using _second = new OwnedFd(linux.unixTryConnect(path)!);
    expect(linux.recvmsg(first.fd, new Uint8Array(1), 0)).toBeUndefined();
    expect(() => linux.unixTryConnect(join(folder, 'nobody'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(countOpenFds()).toBe(before + 2);
  });

  test('the longest path works, one byte more is ENAMETOOLONG', () => {
    const longest = join(folder, 'x'.repeat(MAX_SOCKET_PATH_BYTES - folder.length - 1));
    using _listener = new OwnedFd(linux.unixListen(longest, 4));
    expect(existsSync(longest)).toBe(true);
    for (const call of [() => linux.unixListen(`${longest}x`, 4), () => linux.unixConnect(`${longest}x`)]) {
      expect(call).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG', message: expect.stringContaining('at most 107 bytes') as string }));
    }
  });

  test('a path with a NUL or without a byte is EINVAL', () => {
    expect(() => linux.unixListen('', 4)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => linux.unixListen(join(folder, 'a\0b'), 4)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});

describe('what a socket is', () => {
  test('listening, connected, or none of these', () => {
    const folder = mkdtempSync(join(tmpdir(), 'emudev-linux-'));
    const listener = linux.unixListen(join(folder, 's'), 1);
    const [a, b] = linux.unixSocketPair();
    const file = linux.eventfd();
    try {
      expect([listener, a, file].map((fd) => linux.unixSocketKind(fd))).toEqual(['listening', 'connected', undefined]);
      expect(() => linux.unixSocketKind(9999)).toThrow(expect.objectContaining({ code: 'EBADF' }) as Error);
    } finally {
      for (const fd of [listener, a, b, file]) linux.close(fd);
      rmSync(folder, { recursive: true });
    }
  });

  test('who is at the other end', () => {
    const [a, b] = linux.unixSocketPair();
    expect(linux.peerCredentials(a)).toEqual({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() });
    for (const fd of [a, b]) linux.close(fd);
  });
});

describe('recvmsgBlocking', () => {
  test('takes what is there, on blocking and non-blocking sockets, and sees the end', () => {
    const [a, b] = linux.unixSocketPair();
    const into = new Uint8Array(8);
    linux.sendmsg(a, Uint8Array.of(1), [a]);
    const got = linux.recvmsgBlocking(b, into, 1);
    expect([got.bytes, got.fds.length, into[0]]).toEqual([1, 1, 1]);
    linux.close(got.fds[0]!);
    linux.setNonBlocking(b, false);
    linux.sendmsg(a, Uint8Array.of(2, 3), []);
    expect(linux.recvmsgBlocking(b, into, 0).bytes).toBe(2);
    linux.close(a);
    expect(linux.recvmsgBlocking(b, into, 0).bytes).toBe(0);
    linux.close(b);
  });
});
