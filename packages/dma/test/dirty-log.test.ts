import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { IovaSpace, Window } from '../src/index.ts';
import type { RemoteMemory } from '../src/index.ts';
import { DirtyPages } from '../src/dirty-pages.ts';
import { MAX_LOGGED_RANGES } from '../src/limits.ts';

const P = 4096n;
const errno = (n: number): Error => expect.objectContaining({ name: 'DmaError', errno: n }) as unknown as Error;

/** Bytes of 64-bit words, little-endian, as one number: bit 0 is the first page. */
function bits(bitmap: Uint8Array): bigint {
  return bitmap.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

let window: Window;
let space: IovaSpace;
let fd: number;

beforeEach(() => {
  window = Window.open();
  fd = linux.memfdCreate('dirty-test', { allowSealing: true });
  linux.ftruncate(fd, 4 << 20);
  space = new IovaSpace(window);
});
afterEach(() => {
  linux.close(fd);
  space[Symbol.dispose]();
  window[Symbol.dispose]();
});

const byMessage: RemoteMemory = { read: () => Promise.resolve(), write: () => Promise.resolve() };
const direct: RemoteMemory = { ...byMessage, direct: true };
const mapFile = (page: bigint, pages: number): void => space.map({ iova: page * P, sizeBytes: pages * 4096, readable: true, writable: true, fd, fdOffset: 0 });
const mapRemote = (page: bigint, pages: number, remote: RemoteMemory): void => space.map({ iova: page * P, sizeBytes: pages * 4096, readable: true, writable: true, remote });
const report = (page: bigint, pages: bigint, pageSize: bigint = P): bigint => bits(space.dirtyLog.report(page * P, pages * P, pageSize));

describe('starting and stopping', () => {
  test.each([0n, -1n, 3n, 4095n])('a page size of %s is EINVAL', (pageSize) => {
    expect(() => { space.dirtyLog.start(pageSize, []); }).toThrow(errno(22));
    expect(space.dirtyLog.active).toBe(false);
  });

  test.each([[0n, 0n], [-1n, 1n], [1n, 1n << 64n]])('a range of 0x%s + 0x%s is EINVAL', (iova, length) => {
    expect(() => { space.dirtyLog.start(P, [{ iova, length }]); }).toThrow(errno(22));
    expect(space.dirtyLog.active).toBe(false);
  });

  test('twice with one page size changes nothing, with another it is EINVAL', () => {
    mapFile(0n, 16);
    space.dirtyLog.start(P, []);
    space.markDirty(3n * P, 1);
    space.dirtyLog.start(P, []);
    for (const other of [P / 2n, 2n * P]) expect(() => { space.dirtyLog.start(other, []); }).toThrow(errno(22));
    expect(report(0n, 16n)).toBe(0b1000n);
  });

  test('ranges in more pieces than it keeps apart: it logs everything, and stopping ends that', () => {
    mapFile(0n, 16);
    const ranges = Array.from({ length: MAX_LOGGED_RANGES }, (_, i) => ({ iova: BigInt(1000 + 2 * i) * P, length: P }));
    space.dirtyLog.start(P, ranges);
    space.markDirty(0n, 1);
    expect(report(0n, 16n)).toBe(0n);
    // What adjoins is one piece.
    space.dirtyLog.start(P, [{ iova: 1001n * P, length: P }]);
    space.dirtyLog.start(P, [{ iova: 5000n * P, length: P }]);
    space.markDirty(0n, 1);
    expect(report(0n, 16n)).toBe(0n);
    space.dirtyLog.start(P, [{ iova: 6000n * P, length: P }]);
    space.markDirty(P, 1);
    expect(report(0n, 16n)).toBe(0b10n);
    space.dirtyLog.stop();
    space.dirtyLog.start(P, [{ iova: 0n, length: P }]);
    space.markDirty(0n, 3 * 4096);
    expect(report(0n, 16n)).toBe(0b1n);
  });

  test('stop forgets, and may come at any time', () => {
    mapFile(0n, 16);
    space.dirtyLog.stop();
    space.dirtyLog.start(P, []);
    space.markDirty(0n, 1);
    space.dirtyLog.stop();
    space.dirtyLog.stop();
    expect(() => report(0n, 16n)).toThrow(errno(22));
    space.markDirty(0n, 1);
    space.dirtyLog.start(2n * P, []);
    expect(report(0n, 16n)).toBe(0n);
  });
});

describe('what is logged', () => {
  test('writes and marks, not reads; a report clears', () => {
    mapFile(0x10n, 32);
    space.write(0x10n * P, Uint8Array.of(1));
    space.dirtyLog.start(P, []);
    expect(report(0x10n, 16n)).toBe(0n);
    space.write(0x10n * P, Uint8Array.of(1));
    space.read(0x14n * P, new Uint8Array(8));
    space.markDirty(0x16n * P, 4 * 4096);
    expect(report(0x10n, 16n)).toBe(0b1111000001n);
    expect(report(0x10n, 16n)).toBe(0n);
  });

  test('of regions that are not mapped, those behind a file of ours; the consumer logs what it executes itself', async () => {
    mapRemote(0n, 4, byMessage);
    mapRemote(4n, 4, direct);
    mapFile(8n, 4);
    space.dirtyLog.start(P, []);
    await space.write(3n * P, new Uint8Array(6 * 4096));
    expect(report(0n, 16n)).toBe(0b1_1111_0000n);
  });

  test('a write that fails half way counts', async () => {
    mapRemote(0n, 4, { ...direct, write: () => Promise.reject(new Error('the file is too short')) });
    space.dirtyLog.start(P, []);
    await expect(space.write(P, Uint8Array.of(1))).rejects.toThrow('too short');
    expect(report(0n, 4n)).toBe(0b10n);
  });

  test('what a device marks where nothing is mapped takes no memory', () => {
    mapFile(1n, 1);
    space.dirtyLog.start(P, []);
    space.markDirty(0n, 2 ** 52);
    for (const length of [0, -1, Number.NaN]) space.markDirty(P, length);
    mapFile(4n, 1);
    expect(report(0n, 8n)).toBe(0b10n);
  });

  test('only in the ranges that were asked for; a second start adds some', () => {
    mapFile(0n, 64);
    space.dirtyLog.start(P, [{ iova: 4n * P, length: 4n * P }, { iova: 6n * P, length: 4n * P }]);
    space.markDirty(0n, 64 * 4096);
    expect(report(0n, 64n)).toBe(0b11_1111_0000n);
    space.dirtyLog.start(P, [{ iova: 0n, length: 1n }]);
    space.markDirty(0n, 64 * 4096);
    expect(report(0n, 64n)).toBe(0b11_1111_0001n);
    // Everything stays everything.
    for (const ranges of [[], [{ iova: 0n, length: P }]]) {
      space.dirtyLog.start(P, ranges);
      space.markDirty(0n, 64 * 4096);
      expect(report(0n, 64n)).toBe(2n ** 64n - 1n);
    }
  });
});

describe('reports', () => {
  test('of smaller pages than the log has double the bits, of larger ones join them', () => {
    mapFile(0n, 16);
    space.dirtyLog.start(P, []);
    const write = (): void => [0, 6, 7, 8, 9].forEach((page) => { space.markDirty(BigInt(page) * P, 1); });
    write();
    expect(report(0n, 16n, P / 2n)).toBe(0b1111_1111_0000_0000_0011n);
    write();
    expect(report(0n, 16n, 2n * P)).toBe(0b11001n);
    write();
    expect(report(0n, 16n, 16n * P)).toBe(1n);
    expect(report(0n, 16n, 16n * P)).toBe(0n);
  });

  test('clear what lies in their range entirely, and nothing else', () => {
    mapFile(0n, 16);
    space.dirtyLog.start(P, []);
    space.markDirty(0n, 16 * 4096);
    // Five pages in pages of four: the second bit stands for one page here, and the three behind it stay dirty.
    expect(report(1n, 5n, 4n * P)).toBe(0b11n);
    expect(report(0n, 16n)).toBe(0b1111_1111_1100_0001n);
    // Half a page of the log: told each time.
    space.markDirty(0n, 1);
    for (let i = 0; i < 2; i++) expect(bits(space.dirtyLog.report(0x800n, 0x800n, 0x800n))).toBe(1n);
    expect(report(0n, 1n)).toBe(1n);
    expect(bits(space.dirtyLog.report(0n, 0x800n, 0x800n))).toBe(0n);
  });

  test('span regions and holes, start in the middle, and are as long as the range says', () => {
    mapFile(0n, 4);
    mapRemote(4n, 4, byMessage);
    mapFile(100n, 4);
    space.dirtyLog.start(P, []);
    space.markDirty(2n * P, 200 * 4096);
    const bitmap = space.dirtyLog.report(3n * P, 100n * P, P);
    expect(bitmap.length).toBe(16);
    expect(bits(bitmap)).toBe(1n | (0b111n << 97n));
    expect(report(0n, 104n)).toBe(0b100n | (1n << 103n));
  });

  test('of everything there can be: 2^64 bytes, the last page dirty', () => {
    const top = (1n << 52n) - 1n;
    mapFile(top, 1);
    space.dirtyLog.start(P, [{ iova: 0n, length: 1n << 64n }]);
    space.write(top * P, Uint8Array.of(1));
    expect(bits(space.dirtyLog.report(0n, 1n << 64n, 1n << 60n))).toBe(0x8000n);
    expect(space.dirtyLog.report(0n, 1n << 64n, 1n << 60n)).toEqual(new Uint8Array(8));
    space.write(top * P, Uint8Array.of(1));
    expect(bits(space.dirtyLog.report(1n, (1n << 64n) - 1n, 1n << 60n))).toBe(0x8000n);
  });

  test('ENOENT where nothing at all is mapped; EINVAL for what is no question', () => {
    expect(() => report(0n, 1n)).toThrow(errno(22));
    space.dirtyLog.start(P, []);
    expect(() => report(0n, 1n)).toThrow(errno(2));
    mapFile(4n, 4);
    expect(() => report(0n, 4n)).toThrow(errno(2));
    expect(() => report(8n, 4n)).toThrow(errno(2));
    expect(report(7n, 1n)).toBe(0n);
    expect(() => report(4n, 4n, 0n)).toThrow(errno(22));
    expect(() => report(4n, 4n, 3n * P)).toThrow(errno(22));
    expect(() => report(4n, 4n, 8n * P)).toThrow(errno(22));
    expect(() => report(4n, 0n, 1n)).toThrow(errno(22));
    expect(() => space.dirtyLog.report(4n * P, 1n << 64n, P)).toThrow(errno(22));
    expect(() => space.dirtyLog.report(0n, 1n << 64n, P)).toThrow(errno(28));
  });
});

describe('unmapping', () => {
  test('tells the region\'s dirty pages, if it is asked to, and forgets them', () => {
    mapFile(0n, 8);
    mapFile(8n, 8);
    space.dirtyLog.start(P, []);
    space.markDirty(0n, 16 * 4096);
    expect(bits(space.unmapReporting(0n, 8 * 4096, 2n * P))).toBe(0b1111n);
    expect(() => report(0n, 8n)).toThrow(errno(2));
    expect(report(8n, 8n)).toBe(0xffn);
    space.markDirty(8n * P, 4096);
    space.unmap(8n * P, 8 * 4096);
    mapFile(8n, 8);
    expect(report(8n, 8n)).toBe(0n);
  });

  test('without a bitmap to give, the region stays', () => {
    mapFile(0n, 8);
    expect(() => space.unmapReporting(0n, 8 * 4096, P)).toThrow(errno(22));
    space.dirtyLog.start(P, []);
    expect(() => space.unmapReporting(0n, 8 * 4096, 3n)).toThrow(errno(22));
    expect(() => space.unmapReporting(0n, 8 * 4096, 16n * P)).toThrow(errno(22));
    expect(() => space.unmapReporting(0n, 7 * 4096, P)).toThrow(errno(2));
    expect(space.size).toBe(1);
  });
});

test('memory: 2 MiB that are clean take none, however often they were dirty', () => {
  const pages = new DirtyPages();
  pages.add(0, 1);
  pages.add(2 ** 51, 2 ** 51 + 513);
  expect(pages.chunkCount).toBe(3);
  pages.remove(0, 2 ** 52);
  expect(pages.chunkCount).toBe(0);
});

// Addresses in half pages, so that ranges begin and end inside pages of the log, too.
const HALF = 2048n;
const REGIONS = [{ page: 3, pages: 7, logged: true }, { page: 10, pages: 2, logged: false }, { page: 12, pages: 40, logged: true }, { page: 500, pages: 30, logged: true }, { page: 1020, pages: 300, logged: true }];
const halves = fc.oneof(fc.nat(120), fc.integer({ min: 990, max: 1070 }), fc.nat(2700));
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('mark' as const), at: halves, length: fc.oneof(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 1, max: 1_500_000 })) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('report' as const), at: halves, halves: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 2800 })), shift: fc.integer({ min: 9, max: 22 }) }) },
);
const rangesOf = fc.array(fc.record({ at: halves, halves: fc.integer({ min: 1, max: 200 }) }), { maxLength: 4 });

test('agrees with a set of pages', () => {
  const seen = { dirty: 0, clean: 0, refused: 0 };
  fc.assert(fc.property(rangesOf, fc.array(operation, { minLength: 5, maxLength: 40 }), (ranges, operations) => {
    using log = new IovaSpace(window);
    const logged = new Set<number>();
    const mapped = new Set<number>();
    for (const { page, pages, logged: ours } of REGIONS) {
      const at = { iova: BigInt(page) * P, sizeBytes: pages * 4096, readable: true, writable: true };
      log.map(ours ? { ...at, fd, fdOffset: 0 } : { ...at, remote: byMessage });
      for (let i = 0; i < pages; i++) (ours ? logged : mapped).add(page + i);
    }
    logged.forEach((page) => mapped.add(page));
    const wanted = (page: number): boolean => ranges.length === 0 || ranges.some(({ at, halves: n }) => page * 2 + 1 >= at && page * 2 < at + n);
    log.dirtyLog.start(P, ranges.map(({ at, halves: n }) => ({ iova: BigInt(at) * HALF, length: BigInt(n) * HALF })));
    const dirty = new Set<number>();
    for (const op of operations) {
      if (op.kind === 'mark') {
        log.markDirty(BigInt(op.at) * HALF, op.length);
        for (let page = Math.floor(op.at / 2); page * 4096 < op.at * 2048 + op.length; page++) if (logged.has(page) && wanted(page)) dirty.add(page);
        continue;
      }
      const [from, length, pageSize] = [op.at * 2048, op.halves * 2048, 2 ** op.shift];
      const ask = (): Uint8Array => log.dirtyLog.report(BigInt(from), BigInt(length), BigInt(pageSize));
      const touched = (first: number, end: number, of: ReadonlySet<number>): boolean => {
        for (let page = Math.floor(first / 4096); page * 4096 < end; page++) if (of.has(page)) return true;
        return false;
      };
      const why = pageSize > length ? 22 : touched(from, from + length, mapped) ? 0 : 2;
      if (why !== 0) {
        expect(ask).toThrow(errno(why));
        seen.refused++;
        continue;
      }
      const count = Math.ceil(length / pageSize);
      const expected = Array.from({ length: count }, (_, i) => touched(from + i * pageSize, Math.min(from + length, from + (i + 1) * pageSize), dirty));
      const bitmap = ask();
      expect(bitmap.length).toBe(8 * Math.ceil(count / 64));
      expect(Array.from({ length: 8 * bitmap.length }, (_, i) => (bitmap[i >> 3]! >> (i & 7) & 1) === 1)).toEqual([...expected, ...Array.from({ length: 8 * bitmap.length - count }, () => false)]);
      if (expected.includes(true)) seen.dirty++;
      else seen.clean++;
      for (const page of [...dirty]) if (page * 4096 >= from && (page + 1) * 4096 <= from + length) dirty.delete(page);
    }
  }), { numRuns: 150 });
  for (const [way, count] of Object.entries(seen)) expect([way, count]).toEqual([way, expect.toSatisfy((n: number) => n > 50)]);
});
