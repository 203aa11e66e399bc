import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LinuxError, countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { IovaSpace, PAGE_BYTES, PRIVATE_BYTES, WINDOW_BYTES, Window } from '../src/index.ts';
import type { DmaMapRequest, WindowMapping } from '../src/index.ts';
import { MAX_WINDOW_MAPPINGS, RELEASE_SLICE_BYTES } from '../src/limits.ts';

const ENOMEM = 12;
const ENODEV = 19;

function memfd(sizeBytes: number, name = 'dma-test'): number {
  const fd = linux.memfdCreate(name, { allowSealing: true });
  linux.ftruncate(fd, sizeBytes);
  return fd;
}

const code = (name: string, errno?: number): unknown => expect.objectContaining({ name: 'DmaError', code: name, ...(errno === undefined ? {} : { errno }) });

describe('one window for the process', () => {
  test('every open is the same object; the last dispose empties it', () => {
    const first = Window.open();
    const second = Window.open();
    expect(second).toBe(first);
    const offset = first.alloc(100);
    const fd = memfd(PAGE_BYTES);
    const mapping = first.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true });
    first.u8[offset] = 1;
    first.u8[mapping.offset] = 1;
    first[Symbol.dispose]();
    expect(second.u8[offset]).toBe(1);
    expect(second.mappingCount).toBe(1);
    second[Symbol.dispose]();
    expect([second.mappingCount, second.allocatedBytes, second.u8[offset], second.u8[mapping.offset]]).toEqual([0, 0, 0, 0]);
    mapping[Symbol.dispose]();
    linux.close(fd);
  });

  test('is 4 GiB of shared memory that never grows', () => {
    using window = Window.open();
    expect(window.memory.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(window.memory.buffer.byteLength).toBe(WINDOW_BYTES);
    expect(() => window.memory.grow(1)).toThrow(RangeError);
  });
});

describe('private memory', () => {
  let window: Window;
  beforeEach(() => {
    window = Window.open();
  });
  afterEach(() => window[Symbol.dispose]());

  test('is zero also when it was used before, aligned, apart, and never at 0', () => {
    const a = window.alloc(1);
    const b = window.alloc(100, 4096);
    const c = window.alloc(65);
    expect(a).toBeGreaterThan(0);
    expect(b % 4096).toBe(0);
    expect(new Set([a >>> 6, b >>> 6, (b + 99) >>> 6, c >>> 6, (c + 64) >>> 6]).size).toBe(5);
    window.u8.fill(0xee, b, b + 100);
    window.free(b);
    const again = window.alloc(128, 4096);
    expect(again).toBe(b);
    expect(window.u8.subarray(again, again + 128).every((byte) => byte === 0)).toBe(true);
  });

  test('is bounded, and what is freed is one piece again', () => {
    const before = window.allocatedBytes;
    const half = PRIVATE_BYTES / 2 - 4096;
    const parts = [window.alloc(half), window.alloc(half)];
    expect(() => window.alloc(half)).toThrow(code('ERR_WINDOW_FULL', 28) as Error);
    for (const part of parts) window.free(part);
    window.free(window.alloc(2 * half));
    expect(window.allocatedBytes).toBe(before);
  });

  test('refuses nonsense', () => {
    for (const bytes of [0, -1, 1.5, NaN, 2 ** 53]) expect(() => window.alloc(bytes)).toThrow(code('ERR_DMA_INVALID') as Error);
    expect(() => window.alloc(8, 48)).toThrow(code('ERR_DMA_INVALID') as Error);
    const offset = window.alloc(8);
    window.free(offset);
    expect(() => window.free(offset)).toThrow(code('ERR_DMA_INVALID') as Error);
  });
});

describe('mapped files', () => {
  let window: Window;
  beforeEach(() => {
    window = Window.open();
  });
  afterEach(() => window[Symbol.dispose]());

  test('are the file while mapped and zero afterwards; descriptors and mappings return to what they were', () => {
    const fds = countOpenFds();
    const mappings = countMappings();
    const fd = memfd(4 * PAGE_BYTES);
    linux.pwrite(fd, Uint8Array.of(1, 2, 3), 2 * PAGE_BYTES);
    const mapping = window.map({ fd, fdOffset: PAGE_BYTES, lengthBytes: 2 * PAGE_BYTES, write: true });
    linux.close(fd);
    const at = mapping.offset + PAGE_BYTES;
    expect([...window.u8.subarray(at - 1, at + 4)]).toEqual([0, 1, 2, 3, 0]);
    mapping[Symbol.dispose]();
    expect([...window.u8.subarray(at - 1, at + 4)]).toEqual([0, 0, 0, 0, 0]);
    mapping[Symbol.dispose]();
    expect(countOpenFds()).toBe(fds);
    expect(countMappings('memfd:dma-test')).toBe(0);
    // Not exact: V8 may map or unmap something of its own meanwhile. Ten rounds of a leak would show.
    for (let i = 0; i < 10; i++) {
      const again = memfd(PAGE_BYTES);
      const pieces = [0, 1, 2].map(() => window.map({ fd: again, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true }));
      linux.close(again);
      for (const piece of pieces) piece[Symbol.dispose]();
    }
    expect(countMappings() - mappings).toBeLessThan(10);
  });

  test('lie congruent to an address where asked', () => {
    const fd = memfd(8 << 20);
    for (const iova of [0n, 0xc0000n, 0x1_0000_0000n + 0x1f_f000n]) {
      using mapping = window.map({ fd, fdOffset: 0, lengthBytes: 4 << 20, write: true, congruentTo: iova });
      expect(BigInt(mapping.offset) % 0x200000n).toBe(iova % 0x200000n);
    }
    linux.close(fd);
  });

  test('of huge pages are mapped whole, aligned in address and file', () => {
    const huge = 2 << 20;
    const calls: { address: bigint; lengthBytes: number; fdOffset: number | undefined }[] = [];
    window[Symbol.dispose]();
    const sys: Sys = {
      ...linux,
      fstat: (fd) => ({ ...linux.fstat(fd), blockBytes: huge }),
      mmap: (request) => {
        if (request.fd !== undefined) calls.push({ address: request.address, lengthBytes: request.lengthBytes, fdOffset: request.fdOffset });
        return linux.mmap(request);
      },
    };
    window = Window.open({ sys });
    const fd = memfd(3 * huge);
    linux.pwrite(fd, Uint8Array.of(42), huge + 0xa0000);
    using mapping = window.map({ fd, fdOffset: huge + 0xa0000, lengthBytes: 0x160000, write: true, congruentTo: 0xc0000n });
    using neighbour = window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true });
    expect(window.u8[mapping.offset]).toBe(42);
    expect(calls).toEqual([
      expect.objectContaining({ lengthBytes: huge, fdOffset: huge }),
      expect.objectContaining({ lengthBytes: huge, fdOffset: 0 }),
    ]);
    for (const call of calls) expect(call.address % BigInt(huge)).toBe(0n);
    expect(Math.abs(neighbour.offset - mapping.offset)).toBeGreaterThanOrEqual(huge - 0xa0000);
    linux.close(fd);
  });

  test('fill the window up to a typed error, and not for ever', async () => {
    const fd = memfd(8 * 2 ** 30);
    const all = WINDOW_BYTES - PRIVATE_BYTES;
    const whole = window.map({ fd, fdOffset: 0, lengthBytes: all, write: true });
    expect(() => window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true })).toThrow(code('ERR_WINDOW_FULL', 28) as Error);
    // The very last byte of linear memory is the file's.
    window.u8[WINDOW_BYTES - 1] = 9;
    const byte = new Uint8Array(1);
    linux.pread(fd, byte, all - 1);
    expect(byte[0]).toBe(9);
    await new Promise<void>((resolve) => { whole.release(resolve); });
    expect([window.u8[WINDOW_BYTES - 1], window.releasing]).toEqual([0, false]);
    window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true })[Symbol.dispose]();
    expect(() => window.map({ fd, fdOffset: 0, lengthBytes: all + PAGE_BYTES, write: true })).toThrow(code('ERR_WINDOW_FULL') as Error);
    linux.close(fd);
  });

  test('a failing mmap is a typed error, gives the room back and leaves readable memory', () => {
    window[Symbol.dispose]();
    window = Window.open({ sys: withFaults(linux, [{ call: 'mmap', nth: 1, errno: 'ENOMEM' }]) });
    const fd = memfd(PAGE_BYTES);
    expect(() => window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true })).toThrow(code('ERR_DMA_FILE', 12) as Error);
    expect(window.mappingCount).toBe(0);
    expect(window.u8[PRIVATE_BYTES]).toBe(0);
    using mapping = window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true });
    expect(mapping.offset).toBe(PRIVATE_BYTES);
    linux.close(fd);
  });

  test('unaligned requests and descriptors that are none', () => {
    const fd = memfd(PAGE_BYTES);
    for (const [fdOffset, lengthBytes] of [[1, PAGE_BYTES], [0, 100], [0, 0], [-PAGE_BYTES, PAGE_BYTES], [0, NaN]] as const) {
      expect(() => window.map({ fd, fdOffset, lengthBytes, write: true })).toThrow(code('ERR_DMA_INVALID', 22) as Error);
    }
    linux.close(fd);
    expect(() => window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true })).toThrow(code('ERR_DMA_FILE', 9) as Error);
  });

  test('made after a worker attached are seen by the worker', async () => {
    const cell = window.alloc(64);
    const worker = new Worker(new URL('./attach.worker.ts', import.meta.url), { workerData: { memory: window.memory, base: window.base, cell } });
    const exited = once(worker, 'exit');
    await once(worker, 'message');
    const fd = memfd(PAGE_BYTES);
    linux.pwrite(fd, Uint8Array.of(11), 5);
    using mapping = window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true });
    worker.postMessage(mapping.offset);
    const [seen] = (await once(worker, 'message')) as [{ byte: number; base: bigint }];
    expect(seen).toEqual({ byte: 11, base: window.base });
    const byte = new Uint8Array(1);
    linux.pread(fd, byte, 6);
    expect(byte[0]).toBe(22);
    expect(window.i32[cell >>> 2]).toBe(33);
    linux.close(fd);
    await exited;
  });
});

describe('the self-test', () => {
  test('passes here and leaves nothing', () => {
    using window = Window.open();
    const fds = countOpenFds();
    window.selfTest();
    expect([window.mappingCount, countOpenFds()]).toEqual([0, fds]);
  });

  test.each<[string, Partial<Sys>]>([
    ['a map that does nothing', { mmap: (request) => request.address }],
    ['an unmap that does nothing', { mmap: (request) => (request.fd === undefined ? request.address : linux.mmap(request)) }],
    ['a map that is a private copy', { pwrite: () => 1 }],
  ])('fails on %s', (_what, fake) => {
    const window = Window.open({ sys: { ...linux, ...fake } });
    const fds = countOpenFds();
    expect(() => window.selfTest()).toThrow(code('ERR_WINDOW_SELF_TEST') as Error);
    expect(countOpenFds()).toBe(fds);
    // The fake may have left something behind: put it right with the real calls.
    window[Symbol.dispose]();
    linux.mmap({ address: window.base + BigInt(PRIVATE_BYTES), lengthBytes: 1 << 20, read: true, write: true });
  });
});

describe('the bounds of mappings', () => {
  test('as many as the kernel has room for, and then one that is disposed of makes room for the next', () => {
    using window = Window.open();
    const fd = memfd((MAX_WINDOW_MAPPINGS + 1) * PAGE_BYTES);
    const map = (n: number): Disposable => window.map({ fd, fdOffset: n * PAGE_BYTES, lengthBytes: PAGE_BYTES, write: true });
    const first = map(0);
    for (let n = 1; n < MAX_WINDOW_MAPPINGS; n++) map(n);
    expect(() => map(MAX_WINDOW_MAPPINGS)).toThrow(code('ERR_WINDOW_FULL') as Error);
    first[Symbol.dispose]();
    map(MAX_WINDOW_MAPPINGS);
    linux.close(fd);
  });

  describe('a kernel that has no mapping left for the zero pages', () => {
    const bytes = 2 * RELEASE_SLICE_BYTES;
    /** Anonymous mappings that are no longer than `RELEASE_SLICE_BYTES` fail while `refusing` is 'slices', all of them while it is 'all'. */
    const kernel = { refusing: 'nothing' as 'nothing' | 'slices' | 'all', refused: 0 };
    const mmap: Sys['mmap'] = (request) => {
      const refuse = request.fd === undefined && (kernel.refusing === 'all' || (kernel.refusing === 'slices' && request.lengthBytes <= RELEASE_SLICE_BYTES));
      if (!refuse) return linux.mmap(request);
      kernel.refused++;
      throw new LinuxError(ENOMEM, 'mmap', 'injected');
    };
    let window: Window;
    beforeEach(() => {
      Object.assign(kernel, { refusing: 'nothing', refused: 0 });
      window = Window.open({ sys: { ...linux, mmap } });
    });
    afterEach(() => { window[Symbol.dispose](); });

    const mapped = (lengthBytes: number): WindowMapping => {
      const fd = memfd(lengthBytes);
      const mapping = window.map({ fd, fdOffset: 0, lengthBytes, write: true });
      linux.close(fd);
      window.u8[mapping.offset + lengthBytes - 1] = 7;
      return mapping;
    };

    test('is asked for the whole range in one piece', async () => {
      const room = window.mappableBytes;
      const mapping = mapped(bytes);
      kernel.refusing = 'slices';
      await new Promise<void>((resolve) => { mapping.release(resolve); });
      expect([kernel.refused, window.releasing, window.mappableBytes, window.u8[mapping.offset + bytes - 1]]).toEqual([1, false, room, 0]);
    });

    test.each([['small', PAGE_BYTES], ['large', bytes]])('is asked again later about a %s range; nobody gets its room before', async (_size, lengthBytes) => {
      const room = window.mappableBytes;
      const mapping = mapped(lengthBytes);
      kernel.refusing = 'all';
      const out = new Promise<void>((resolve) => { mapping.release(resolve); });
      await expect.poll(() => kernel.refused).toBeGreaterThan(2);
      expect([window.releasing, window.mappableBytes]).toEqual([true, room - lengthBytes]);
      using other = mapped(PAGE_BYTES);
      expect(other.offset).toBeGreaterThanOrEqual(mapping.offset + lengthBytes);
      kernel.refusing = 'nothing';
      await out;
      expect([window.releasing, window.u8[mapping.offset + lengthBytes - 1]]).toEqual([false, 0]);
    });

    test('does not keep the window from being emptied; what is allocated then is zero all the same', async () => {
      const mapping = mapped(bytes);
      const used = window.alloc(64);
      window.u8[used] = 5;
      kernel.refusing = 'all';
      window[Symbol.dispose]();
      window = Window.open({ sys: { ...linux, mmap } });
      expect([window.alloc(64), window.u8[used]]).toEqual([used, 0]);
      kernel.refusing = 'nothing';
      await expect.poll(() => window.releasing).toBe(false);
      expect(window.u8[mapping.offset + bytes - 1]).toBe(0);
    });
  });

  test('a mapping that fails half way leaves no hole', () => {
    const zeroed: bigint[] = [];
    const mmap: Sys['mmap'] = (request) => {
      if (request.fd !== undefined) throw new LinuxError(ENOMEM, 'mmap', 'the old mapping is gone, the new one is not there');
      zeroed.push(request.address);
      return linux.mmap(request);
    };
    using window = Window.open({ sys: { ...linux, mmap } });
    const fd = memfd(PAGE_BYTES);
    expect(() => window.map({ fd, fdOffset: 0, lengthBytes: PAGE_BYTES, write: true })).toThrow(code('ERR_DMA_FILE', ENOMEM) as Error);
    expect(zeroed).toEqual([window.base + BigInt(PRIVATE_BYTES)]);
    linux.close(fd);
  });
});

describe('a region of an IovaSpace', () => {
  const region = (fd: number, writable: boolean): DmaMapRequest => ({ iova: 0n, sizeBytes: PAGE_BYTES, readable: true, writable, fd, fdOffset: 0 });

  test('is mapped anew in a window that was emptied under the one before', () => {
    const fd = memfd(PAGE_BYTES);
    linux.pwrite(fd, Uint8Array.of(42), 0);
    const first = Window.open();
    new IovaSpace(first).map(region(fd, true));
    first[Symbol.dispose]();
    using window = Window.open();
    using space = new IovaSpace(window);
    space.map(region(fd, true));
    expect([window.mappingCount, window.u8[space.translate(0n, 1, 'read')!]]).toEqual([1, 42]);
    linux.close(fd);
  });

  test('is mapped without write access only where its descriptor permits no more', () => {
    const asked: boolean[] = [];
    const mmap: Sys['mmap'] = (request) => {
      if (request.fd === undefined) return linux.mmap(request);
      asked.push(request.write);
      throw new LinuxError(ENODEV, 'mmap', 'injected');
    };
    using window = Window.open({ sys: { ...linux, mmap } });
    using space = new IovaSpace(window);
    const fd = memfd(PAGE_BYTES);
    expect(() => { space.map(region(fd, false)); }).toThrow(code('ERR_DMA_FILE', ENODEV) as Error);
    expect(asked).toEqual([true]);
    linux.close(fd);
  });
});
