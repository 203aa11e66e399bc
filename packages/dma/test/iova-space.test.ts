import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { F_SEAL_SHRINK, F_SEAL_WRITE, countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import {
  IovaSpace, MAX_DMA_MAPS, PAGE_BYTES, UNSEALED_CHANNEL, Window,
  iotlbLookup,
} from '../src/index.ts';
import type { DmaMapRequest, RemoteMemory } from '../src/index.ts';

const PAGE = PAGE_BYTES;
const code = (name: string, errno?: number): Error =>
  expect.objectContaining({ name: 'DmaError', code: name, ...(errno === undefined ? {} : { errno }) }) as unknown as Error;

let window: Window;
let space: IovaSpace;
let fd: number;
let fdsBefore: number;

beforeEach(() => {
  window = Window.open();
  fdsBefore = countOpenFds();
  fd = linux.memfdCreate('iova-test', { allowSealing: true });
  linux.ftruncate(fd, 16 << 20);
  space = new IovaSpace(window);
});
afterEach(() => {
  linux.close(fd);
  space[Symbol.dispose]();
  expect([window.allocatedBytes, window.mappingCount, countMappings('memfd:iova-test'), countOpenFds()]).toEqual([0, 0, 0, fdsBefore]);
  window[Symbol.dispose]();
});

const file = (iova: bigint, sizeBytes: number, more: Partial<DmaMapRequest> = {}): DmaMapRequest => ({ iova, sizeBytes, readable: true, writable: true, fd, fdOffset: 0, ...more });

class FakeRemote implements RemoteMemory {
  readonly bytes = new Map<bigint, number>();
  read(iova: bigint, into: Uint8Array): Promise<void> {
    for (let i = 0; i < into.length; i++) into[i] = this.bytes.get(iova + BigInt(i)) ?? 0;
    return Promise.resolve();
  }
  write(iova: bigint, from: Uint8Array): Promise<void> {
    from.forEach((byte, i) => this.bytes.set(iova + BigInt(i), byte));
    return Promise.resolve();
  }
}

describe('mapping', () => {
  test.each<[string, Partial<DmaMapRequest>]>([
    ['an unaligned address', { iova: 1n }],
    ['a negative address', { iova: -4096n }],
    ['an unaligned size', { sizeBytes: 100 }],
    ['no size', { sizeBytes: 0 }],
    ['an unaligned file offset', { fdOffset: 512 }],
    ['a file offset past 2^53', { fdOffset: 2n ** 63n }],
    ['an end past 2^64', { iova: 2n ** 64n - 4096n, sizeBytes: 8192 }],
  ])('%s is EINVAL', (_what, change) => {
    expect(() => space.map(file(0n, PAGE, change))).toThrow(code('ERR_DMA_INVALID', 22));
    expect([space.size, space.generation]).toEqual([0, 0]);
  });

  test('the last page below 2^64 is an address like any other', () => {
    const top = 2n ** 64n - 4096n;
    space.map(file(top, PAGE));
    space.write(top, Uint8Array.of(5));
    expect(iotlbLookup(window.u32, space.iotlb, top, PAGE, 3)).toBe(space.translate(top, PAGE, 'read'));
    expect(iotlbLookup(window.u32, space.iotlb, top + 4095n, 2, 1)).toBeUndefined();
    expect(space.translate(top + 4095n, 2, 'read')).toBeUndefined();
  });

  test('overlaps are EEXIST, the identical map changes nothing', () => {
    space.map(file(0x10000n, 4 * PAGE));
    const generation = space.generation;
    space.map(file(0x10000n, 4 * PAGE));
    const duplicate = linux.dup(fd);
    space.map(file(0x10000n, 4 * PAGE, { fd: duplicate }));
    linux.close(duplicate);
    expect([space.size, space.generation]).toEqual([1, generation]);
    const other = linux.memfdCreate('other', { allowSealing: true });
    linux.ftruncate(other, 4 * PAGE);
    for (const change of [{ fdOffset: PAGE }, { writable: false }, { fd: other }, { sizeBytes: PAGE }, { iova: 0xf000n }, { iova: 0x13000n, sizeBytes: PAGE }]) {
      expect(() => space.map(file(0x10000n, 4 * PAGE, change))).toThrow(code('ERR_DMA_OVERLAP', 17));
    }
    linux.close(other);
    const { fd: _fd, fdOffset: _offset, ...without } = file(0x10000n, 4 * PAGE);
    expect(() => space.map(without)).toThrow(code('ERR_DMA_OVERLAP', 17));
    expect(space.generation).toBe(generation);
  });

  test('only exactly what was mapped is unmapped', () => {
    space.map(file(0x10000n, 4 * PAGE));
    for (const [iova, size] of [[0x10000n, PAGE], [0x11000n, 3 * PAGE], [0n, PAGE], [0x10000n, 5 * PAGE]] as const) {
      expect(() => space.unmap(iova, size)).toThrow(code('ERR_DMA_NOT_MAPPED', 2));
    }
    space.unmap(0x10000n, BigInt(4 * PAGE));
    expect(space.translate(0x10000n, 1, 'read')).toBeUndefined();
    expect(() => space.unmap(0x10000n, 4 * PAGE)).toThrow(code('ERR_DMA_NOT_MAPPED', 2));
  });

  test('a file that is too short or none is refused', () => {
    expect(() => space.map(file(0n, (16 << 20) + PAGE))).toThrow(code('ERR_DMA_FILE', 22));
    expect(() => space.map(file(0n, PAGE, { fdOffset: 16 << 20 }))).toThrow(code('ERR_DMA_FILE', 22));
    const event = linux.eventfd();
    expect(() => space.map(file(0n, PAGE, { fd: event }))).toThrow(code('ERR_DMA_FILE'));
    linux.close(event);
    expect(space.size).toBe(0);
  });

  test('regions without descriptor are counted up to the limit', () => {
    for (let i = 0; i < MAX_DMA_MAPS; i++) space.map({ iova: BigInt(i) * 4096n, sizeBytes: PAGE, readable: true, writable: true });
    expect(() => space.map({ iova: 2n ** 40n, sizeBytes: PAGE, readable: true, writable: true })).toThrow(code('ERR_DMA_LIMIT', 28));
    space.clear();
    expect(space.size).toBe(0);
  });

  test('two devices of one consumer share the mappings they agree in, and each keeps its own', () => {
    using other = new IovaSpace(window);
    space.map(file(0x10000n, 4 * PAGE));
    other.map(file(0x10000n, 4 * PAGE));
    const offset = space.translate(0x10000n, PAGE, 'write')!;
    expect([other.translate(0x10000n, PAGE, 'write'), window.mappingCount]).toEqual([offset, 1]);
    other.map(file(0x20000n, 4 * PAGE, { writable: false }));
    expect([other.translate(0x20000n, PAGE, 'write'), window.mappingCount]).toEqual([undefined, 2]);
    window.u8[offset] = 77;
    space.unmap(0x10000n, 4 * PAGE);
    expect([space.translate(0x10000n, PAGE, 'read'), window.u8[offset], window.mappingCount]).toEqual([undefined, 77, 2]);
    other.clear();
    expect([window.u8[offset], window.mappingCount]).toEqual([0, 0]);
  });

  test('a failure half-way leaves nothing behind', () => {
    space[Symbol.dispose]();
    window[Symbol.dispose]();
    window = Window.open({ sys: withFaults(linux, [{ call: 'mmap', nth: 1, errno: 'ENODEV' }, { call: 'fstat', nth: 2, errno: 'EIO' }]) });
    space = new IovaSpace(window);
    expect(() => space.map(file(0n, PAGE))).toThrow(code('ERR_DMA_FILE', 19));
    expect(() => space.map(file(0n, PAGE))).toThrow(expect.objectContaining({ errno: 5 }) as unknown as Error);
    expect([space.size, space.generation, window.mappingCount]).toEqual([0, 0, 0]);
    space.map(file(0n, PAGE));
    expect(space.size).toBe(1);
  });
});

describe('permissions', () => {
  test('are those of the map, in every way to look', () => {
    space.map(file(0n, PAGE, { writable: false }));
    space.map(file(0x1000n, PAGE, { readable: false }));
    const byte = new Uint8Array(1);
    expect(() => space.write(0n, byte)).toThrow(code('ERR_DMA_FAULT', 14));
    expect(() => space.read(0x1000n, byte)).toThrow(code('ERR_DMA_FAULT', 14));
    expect(space.translate(0n, PAGE, 'write')).toBeUndefined();
    expect(iotlbLookup(window.u32, space.iotlb, 0n, PAGE, 2)).toBeUndefined();
    expect(iotlbLookup(window.u32, space.iotlb, 0x1000n, PAGE, 1)).toBeUndefined();
    space.read(0n, byte);
    space.write(0x1000n, byte);
    expect(space.translate(0n, PAGE, 'read')).toBeTypeOf('number');
  });

  test('a file that cannot be written serves a read-only region, and no other', () => {
    linux.pwrite(fd, Uint8Array.of(3), 0);
    linux.addSeals(fd, F_SEAL_WRITE);
    expect(() => space.map(file(0n, PAGE))).toThrow(code('ERR_DMA_FILE', 1));
    space.map(file(0n, PAGE, { writable: false }));
    const byte = new Uint8Array(1);
    space.read(0n, byte);
    expect(byte[0]).toBe(3);
    expect(() => space.write(0n, byte)).toThrow(code('ERR_DMA_FAULT'));
  });
});

describe('truncation', () => {
  let plain: number;
  const events: unknown[] = [];
  const listen = (message: unknown): void => void events.push(message);
  beforeEach(() => {
    events.length = 0;
    subscribe(UNSEALED_CHANNEL, listen);
    plain = linux.memfdCreate('iova-test', { allowSealing: false });
    linux.ftruncate(plain, PAGE);
  });
  afterEach(() => {
    unsubscribe(UNSEALED_CHANNEL, listen);
    linux.close(plain);
  });

  test('seal: added where the file takes it, else a warning', () => {
    space.map(file(0n, PAGE));
    expect(linux.getSeals(fd)).toBe(F_SEAL_SHRINK);
    expect(events).toEqual([]);
    space.map(file(0x1000n, PAGE, { fd: plain }));
    expect(events).toEqual([{ iova: 0x1000n, sizeBytes: PAGE, seals: 1 }]);
    expect(space.size).toBe(2);
  });

  test('warn: the file stays as it is', () => {
    using warning = new IovaSpace(window, { truncation: 'warn' });
    warning.map(file(0n, PAGE));
    expect(linux.getSeals(fd)).toBe(0);
    expect(events).toHaveLength(1);
  });

  test('refuse: only what is sealed', () => {
    using refusing = new IovaSpace(window, { truncation: 'refuse' });
    refusing.map(file(0n, PAGE));
    expect(() => refusing.map(file(0x1000n, PAGE, { fd: plain }))).toThrow(code('ERR_DMA_UNSEALED', 1));
    expect(refusing.size).toBe(1);
  });
});

describe('regions without a descriptor', () => {
  test('are read and written by message, together with mapped neighbours', async () => {
    const remote = new FakeRemote();
    space.map(file(0n, PAGE));
    space.map({ iova: 0x1000n, sizeBytes: PAGE, readable: true, writable: true, remote });
    space.map(file(0x2000n, PAGE, { fdOffset: PAGE }));
    const sent = Uint8Array.from({ length: PAGE + 4 }, (_, i) => i);
    const done = space.write(0xffen, sent);
    expect(done).toBeInstanceOf(Promise);
    await done;
    expect(remote.bytes.size).toBe(PAGE);
    const got = new Uint8Array(PAGE + 4);
    await space.read(0xffen, got);
    expect(got).toEqual(sent);
    expect(space.translate(0x1000n, 1, 'read')).toBeUndefined();
    expect(iotlbLookup(window.u32, space.iotlb, 0x1000n, 1, 1)).toBeUndefined();
  });

  test('a fault anywhere in the range is found before the first byte moves', () => {
    const remote = new FakeRemote();
    space.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, remote });
    space.map({ iova: 0x1000n, sizeBytes: PAGE, readable: true, writable: true });
    expect(() => space.write(0xfffn, new Uint8Array(2).fill(1))).toThrow(code('ERR_DMA_FAULT', 14));
    expect(() => space.write(0x1fffn, new Uint8Array(2))).toThrow(/no way to reach it/);
    expect(remote.bytes.size).toBe(0);
  });

  test('a region that goes away while a message is on its way is a fault, not a stale access', async () => {
    space.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, remote: { read: () => Promise.resolve(space.unmap(0x1000n, PAGE)), write: () => Promise.resolve() } });
    space.map(file(0x1000n, PAGE));
    await expect(space.read(0xfffn, new Uint8Array(2))).rejects.toThrow(code('ERR_DMA_FAULT'));
  });
});

test('a range over two regions is contiguous only if the window says so', () => {
  space.map(file(0n, 4 << 20));
  space.map(file(4n << 20n, 4 << 20, { fdOffset: 4 << 20 }));
  const [first, second] = [...space.entries()];
  const adjacent = first!.offset! + (4 << 20) === second!.offset;
  const across = space.translate((4n << 20n) - 8n, 16, 'read');
  expect(across !== undefined).toBe(adjacent);
  expect(iotlbLookup(window.u32, space.iotlb, (4n << 20n) - 8n, 16, 1)).toBe(across);
  // Either way a copy crosses.
  const sent = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  space.write((4n << 20n) - 8n, sent);
  const got = new Uint8Array(16);
  linux.pread(fd, got, (4 << 20) - 8);
  expect(got).toEqual(sent);
});
