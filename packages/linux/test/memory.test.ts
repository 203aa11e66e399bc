import { describe, expect, test } from 'vitest';
import {
  F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, MADV_DONTNEED,
  countMappings, linux,
} from '../src/index.ts';

describe('memory files', () => {
  test('seals are added, reported and enforced', () => {
    const fd = linux.memfdCreate('sealed', { allowSealing: true });
    linux.ftruncate(fd, 8192);
    expect(linux.getSeals(fd)).toBe(0);
    expect(linux.addSeals(fd, F_SEAL_SHRINK)).toBe(true);
    expect(linux.getSeals(fd)).toBe(F_SEAL_SHRINK);
    expect(() => linux.ftruncate(fd, 4096)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    linux.ftruncate(fd, 16384);
    expect(linux.addSeals(fd, F_SEAL_GROW | F_SEAL_SEAL)).toBe(true);
    expect(linux.addSeals(fd, F_SEAL_WRITE)).toBe(false);
    linux.close(fd);
  });

  test('a file that does not allow seals says so', () => {
    const fd = linux.memfdCreate('unsealable', { allowSealing: false });
    expect(linux.addSeals(fd, F_SEAL_SHRINK)).toBe(false);
    expect(linux.getSeals(fd)).toBe(F_SEAL_SEAL);
    const event = linux.eventfd();
    expect(linux.getSeals(event)).toBeUndefined();
    expect(linux.addSeals(event, F_SEAL_SHRINK)).toBe(false);
    linux.close(event);
    linux.close(fd);
  });
});

describe('mappings', () => {
  test('a file at a fixed address is the file, also from its offset, until it is replaced', () => {
    const before = countMappings('memfd:fixed');
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
    const u8 = new Uint8Array(memory.buffer);
    const base = linux.addressOf(memory.buffer);
    const fd = linux.memfdCreate('fixed', { allowSealing: false });
    linux.ftruncate(fd, 3 * 4096);
    const address = linux.mmap({ address: base + 8192n, lengthBytes: 8192, read: true, write: true, fd, fdOffset: 4096 });
    expect(address).toBe(base + 8192n);
    expect(countMappings('memfd:fixed')).toBe(before + 1);
    linux.pwrite(fd, Uint8Array.of(1, 2, 3), 4096);
    expect([...u8.subarray(8191, 8195)]).toEqual([0, 1, 2, 3]);
    u8[8192 + 4096] = 77;
    const byte = new Uint8Array(1);
    linux.pread(fd, byte, 8192);
    expect(byte[0]).toBe(77);
    linux.close(fd);
    expect(u8[8192]).toBe(1);
    linux.mmap({ address: base + 8192n, lengthBytes: 8192, read: true, write: true });
    expect(u8[8192]).toBe(0);
    expect(countMappings('memfd:fixed')).toBe(before);
  });

  test('anonymous memory comes and goes', () => {
    const address = linux.mmap({ address: 0n, lengthBytes: 1 << 20, read: true, write: true });
    const [a, b] = linux.unixSocketPair();
    linux.write(a, Uint8Array.of(5));
    expect(linux.readAt(b, address + 4096n, 1)).toBe(1);
    linux.writeAt(a, address + 4096n, 1);
    linux.madvise(address, 1 << 20, MADV_DONTNEED);
    linux.writeAt(a, address + 4096n, 1);
    const into = new Uint8Array(2);
    expect(linux.read(b, into)).toBe(2);
    expect([...into]).toEqual([5, 0]);
    linux.munmap(address, 1 << 20);
    expect(() => linux.writeAt(a, address + 4096n, 1)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    linux.close(a);
    linux.close(b);
  });

  test('a file sealed against writing maps for reading only', () => {
    const fd = linux.memfdCreate('written', { allowSealing: true });
    linux.ftruncate(fd, 4096);
    linux.addSeals(fd, F_SEAL_WRITE);
    expect(() => linux.mmap({ address: 0n, lengthBytes: 4096, read: true, write: true, fd })).toThrow(expect.objectContaining({ code: 'EPERM', syscall: 'mmap' }));
    linux.munmap(linux.mmap({ address: 0n, lengthBytes: 4096, read: true, write: false, fd }), 4096);
    linux.close(fd);
  });
});
