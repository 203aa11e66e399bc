import { accessSync, constants } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { OwnedFd, TUN_F_CSUM, countOpenFds, linux } from '../src/index.ts';

function mayOpenTap(): boolean {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

test('misuse is refused before any device is opened', () => {
  const before = countOpenFds();
  expect(() => linux.tapOpen('x'.repeat(16), {})).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
  expect(() => linux.tapOpen('', { offloads: TUN_F_CSUM })).toThrow(/virtio-net header/);
  expect(countOpenFds()).toBe(before);
});

describe.runIf(mayOpenTap())('a TAP device', () => {
  test('settings are read back', () => {
    const { fd, name } = open();
    using _tap = new OwnedFd(fd);
    const mac = Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
    linux.ifSetMac(name, mac);
    expect(linux.ifGetMac(name)).toEqual(mac);
    linux.ifSetMtu(name, 1400);
    expect(linux.ifFlags(name)).toMatchObject({ up: false });
    linux.ifUp(name, true);
    expect(linux.ifFlags(name)).toEqual({ up: true, running: true });
    linux.ifUp(name, false);
    expect(linux.ifFlags(name).up).toBe(false);
    expect(() => linux.ifSetMac(name, Uint8Array.of(1, 2))).toThrow(/6 bytes/);
    expect(() => linux.ifSetMtu(name, -1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('a frame of the kernel carries the virtio-net header', () => {
    const { fd, name } = linux.tapOpen('', { vnetHeaderBytes: 12, offloads: TUN_F_CSUM });
    using _tap = new OwnedFd(fd);
    linux.ifUp(name, true);
    // An interface that comes up announces itself (IPv6 multicast listener, router solicitation).
    const frame = new Uint8Array(2048);
    expect(linux.pollIn(Int32Array.of(fd), 1, 10e9)).toBe(1);
    const length = linux.read(fd, frame)!;
    expect(length).toBeGreaterThan(12 + 14);
    expect([...frame.subarray(12, 14)]).toEqual([0x33, 0x33]);
    // A frame of ours is taken whole, header included.
    const sent = new Uint8Array(12 + 60);
    sent.fill(0xff, 12, 18);
    expect(linux.write(fd, sent)).toBe(sent.byteLength);
  });

  test('a second owner is EBUSY, says so, and leaks nothing', () => {
    const { fd, name } = open();
    using _tap = new OwnedFd(fd);
    const before = countOpenFds();
    expect(() => linux.tapOpen(name, {})).toThrow(expect.objectContaining({ code: 'EBUSY', message: expect.stringContaining('another process') as string }));
    expect(countOpenFds()).toBe(before);
  });
});

function open(): { fd: number; name: string } {
  const tap = linux.tapOpen('', {});
  expect(tap.name).toMatch(/^tap\d+$/);
  return tap;
}
