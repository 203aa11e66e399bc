import { closeSync, openSync } from 'node:fs';
import { devNull } from 'node:os';
import { expect, test } from 'vitest';
import { OwnedFd, countOpenFds, linux, withFaults } from '../src/index.ts';

const text = (bytes: Uint8Array, length = 0): string => Buffer.from(bytes.subarray(0, length)).toString('latin1');

function read(fd: number): string {
  linux.pollIn(Int32Array.of(fd), 1, 2e9);
  const into = new Uint8Array(64);
  return text(into, linux.read(fd, into) ?? 0);
}

test('master and slave, raw: every byte as it is, both ways, and no echo', () => {
  const before = countOpenFds();
  const { master, path } = linux.ptyOpen();
  const slave = linux.ptyOpenSlave(master);
  linux.ttySetRaw(master);
  linux.write(master, Buffer.from('\r\n\x03\x11\x13\x04\xff', 'latin1'));
  expect(read(slave)).toBe('\r\n\x03\x11\x13\x04\xff');
  linux.write(slave, Buffer.from('a\nb\x7f', 'latin1'));
  expect(read(master)).toBe('a\nb\x7f');
  expect(linux.read(master, new Uint8Array(8))).toBeUndefined();
  expect(linux.isHungUp(master)).toBe(false);
  linux.close(slave);
  expect(linux.isHungUp(master)).toBe(true);
  expect(() => linux.read(master, new Uint8Array(8))).toThrow(expect.objectContaining({ code: 'EIO' }));
  // By its path it is the same one, and still raw.
  const again = openSync(path, 'r+');
  linux.write(master, Buffer.from('\r\x03'));
  expect(read(again)).toBe('\r\x03');
  closeSync(again);
  linux.close(master);
  expect(() => linux.isHungUp(master)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(countOpenFds()).toBe(before);
});

test('the settings of before come back', () => {
  const { master } = linux.ptyOpen();
  using _master = new OwnedFd(master);
  using slave = new OwnedFd(linux.ptyOpenSlave(master));
  const settings = linux.ttySetRaw(slave.fd, { processOutput: true });
  linux.write(slave.fd, Buffer.from('a\n'));
  expect(read(master)).toBe('a\r\n');
  const raw = linux.ttySetRaw(slave.fd);
  expect(raw).not.toEqual(settings);
  linux.write(slave.fd, Buffer.from('b\n'));
  expect(read(master)).toBe('b\n');
  linux.ttyRestore(slave.fd, settings);
  linux.write(master, Buffer.from('c'));
  expect(read(master), 'echo is on').toBe('c');
  expect(linux.ttySetRaw(slave.fd)).toEqual(settings);
});

test('what is no terminal, wrong settings, injected faults: typed, and no descriptor is left', () => {
  const before = countOpenFds();
  const file = openSync(devNull, 'r+');
  expect(() => linux.ttySetRaw(file)).toThrow(expect.objectContaining({ code: 'ENOTTY', syscall: 'ioctl' }));
  expect(() => linux.ptyOpenSlave(file)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  expect(() => { linux.ttyRestore(file, new Uint8Array(3)); }).toThrow(/36 bytes/);
  closeSync(file);
  expect(() => withFaults(linux, [{ call: 'ptyOpen', nth: 1, errno: 'ENOSPC' }]).ptyOpen()).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  expect(countOpenFds()).toBe(before);
});
