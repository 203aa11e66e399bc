import { mkdtempSync, rmSync, writeFileSync, readFileSync, readdirSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { OwnedFd, countOpenFds, linux, withFaults } from '../src/index.ts';
import { libc } from '../src/libc.ts';

const failing = (code: string, syscall: string): unknown => expect.objectContaining({ code, syscall });

test('a node is opened as asked: close-on-exec, and never waiting for a FIFO', () => {
  const before = countOpenFds();
  const folder = mkdtempSync(join(tmpdir(), 'node-'));
  const file = join(folder, 'file');
  writeFileSync(file, 'abc');
  const into = new Uint8Array(8);
  {
    using both = new OwnedFd(linux.open(file, { read: true, write: true }));
    expect(linux.pwrite(both.fd, Buffer.from('x'), 1)).toBe(1);
    expect(Buffer.from(into.subarray(0, linux.pread(both.fd, into, 0))).toString()).toBe('axc');
    expect(readFileSync(`/proc/self/fdinfo/${both.fd}`, 'latin1')).toMatch(/^flags:\s+02\d*2\d*/m);
    using reader = new OwnedFd(linux.open(file, { read: true, write: false }));
    expect(() => linux.pwrite(reader.fd, into, 0)).toThrow(failing('EBADF', 'pwrite') as Error);
    using writer = new OwnedFd(linux.open(file, { read: false, write: true }));
    expect(() => linux.pread(writer.fd, into, 0)).toThrow(failing('EBADF', 'pread') as Error);
    expect(spawnSync('mkfifo', [join(folder, 'fifo')]).status).toBe(0);
    using _fifo = new OwnedFd(linux.open(join(folder, 'fifo'), { read: true, write: false }));
    expect(() => linux.open(join(folder, 'fifo\0'), { read: true, write: true })).toThrow(failing('EINVAL', 'open') as Error);
    expect(() => linux.open(file, { read: false, write: false })).toThrow(failing('EINVAL', 'open') as Error);
    expect(() => linux.open(join(folder, 'absent'), { read: true, write: false })).toThrow(/open\('.*absent'\): ENOENT/);
  }
  rmSync(folder, { recursive: true });
  expect(countOpenFds()).toBe(before);
});

test('ioctl takes a value or a structure, and returns what the kernel does', () => {
  const FIONREAD = 0x541b;
  const TIOCGPTPEER = 0x5441;
  const [a, b] = linux.unixSocketPair();
  using near = new OwnedFd(a);
  using far = new OwnedFd(b);
  linux.write(near.fd, new Uint8Array(5));
  const waiting = new Uint8Array(4);
  expect(linux.ioctl(far.fd, FIONREAD, waiting)).toBe(0);
  expect([...waiting]).toEqual([5, 0, 0, 0]);
  using master = new OwnedFd(linux.ptyOpen().master);
  for (const flags of [0o2, 0o2n]) linux.close(linux.ioctl(master.fd, TIOCGPTPEER, flags));
  expect(() => linux.ioctl(far.fd, 0x3b64, 0)).toThrow(/ioctl\(\d+, 0x3b64\): ENOTTY/);
  expect(() => linux.ioctl(-1, 0x3b64, waiting)).toThrow(failing('EBADF', 'ioctl') as Error);
});

test('the kernel announces a device', () => {
  const before = countOpenFds();
  {
    using events = new OwnedFd(linux.ueventOpen());
    const into = new Uint8Array(8192);
    expect(linux.ueventRead(events.fd, into)).toBeUndefined();
    const name = readdirSync('/sys/class/net')[0]!;
    // Asks the kernel to say again that this device is there (root's to ask).
    writeFileSync(`/sys/class/net/${name}/uevent`, 'change');
    // Others may come and go at the same time.
    const seen: string[][] = [];
    while (seen.at(-1)?.[0]?.endsWith(`/net/${name}`) !== true && linux.pollIn(Int32Array.of(events.fd), 1, 5e9) === 1) {
      seen.push(Buffer.from(into.subarray(0, linux.ueventRead(events.fd, into))).toString('latin1').split('\0'));
    }
    expect(seen.at(-1)?.[0]).toMatch(new RegExp(`^change@/devices/.*/net/${name}$`));
    expect(seen.at(-1)).toContain('SUBSYSTEM=net');
  }
  expect(countOpenFds()).toBe(before);
});

test('what a process sends to the group of the kernel is no announcement of the kernel', () => {
  using events = new OwnedFd(linux.ueventOpen());
  using forger = new OwnedFd(linux.ueventOpen());
  // struct sockaddr_nl: its own port is the kernel's choice; everybody in group 1 gets it (root's to do).
  const group = Uint32Array.of(16, 0, 1);
  const forged = Buffer.from('remove@/devices/pci0000:00/0000:00:05.0\0SUBSYSTEM=pci\0');
  expect(libc.connect(forger.fd, group, group.byteLength)).toBe(0);
  expect(linux.write(forger.fd, forged)).toBe(forged.length);
  expect(linux.pollIn(Int32Array.of(events.fd), 1, 5e9)).toBe(1);
  const into = new Uint8Array(8192);
  // Real ones may come at the same time, with text; the forged one is taken, and is nothing.
  const lengths: number[] = [];
  for (let length = linux.ueventRead(events.fd, into); length !== undefined; length = linux.ueventRead(events.fd, into)) {
    lengths.push(length);
    if (length > 0) expect(Buffer.from(into.subarray(0, length)).equals(forged)).toBe(false);
  }
  expect(lengths.filter((length) => length === 0)).toHaveLength(1);
});

test('faults are injected into these calls, too', () => {
  const before = countOpenFds();
  const sys = withFaults(linux, [{ call: 'open', nth: 1, errno: 'EACCES' }, { call: 'ioctl', nth: 1, errno: 'ENODEV' }, { call: 'ueventOpen', nth: 1, errno: 'EMFILE' }]);
  expect(() => sys.open('/dev/null', { read: true, write: false })).toThrow(failing('EACCES', 'open') as Error);
  expect(() => sys.ioctl(0, 0, 0)).toThrow(failing('ENODEV', 'ioctl') as Error);
  expect(() => sys.ueventOpen()).toThrow(failing('EMFILE', 'ueventOpen') as Error);
  expect(countOpenFds()).toBe(before);
});
