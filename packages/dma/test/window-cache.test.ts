/** Guests that are bigger than the window. All files are sparse: nothing here takes gigabytes. */
import { closeSync, openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import {
  CHUNK_BYTES, EXTENT_BYTES, IOTLB_MAX_KEYS, IOTLB_READ, IOTLB_USED, IovaSpace, MAX_KEPT_FILES, MAX_WINDOW_MAPPINGS, MissCell, MissDesk, PAGE_BYTES, Quiescence,
  QuiescentReader, RESERVE_BYTES, SMALL_EXTENT_BYTES, Window, WindowCache, iotlbLookup,
} from '../src/index.ts';

const GIB = 2 ** 30;
const BASE = 0x1_0000_0000n;
/** As long as it takes, within reason. */
const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 8000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('did not come about');
    await new Promise((resolve) => { setImmediate(resolve); });
  }
};

let window: Window;
let fdsBefore: number;
const files: number[] = [];
const open: Disposable[] = [];

function sparse(sizeBytes: number): number {
  const fd = linux.memfdCreate('cache-test', { allowSealing: true });
  linux.ftruncate(fd, sizeBytes);
  files.push(fd);
  return fd;
}
function guest(sizeBytes: number, fd: number = sparse(sizeBytes), iova: bigint = BASE): IovaSpace {
  const space = new IovaSpace(window);
  open.push(space);
  space.map({ iova, sizeBytes, readable: true, writable: true, fd });
  return space;
}
/** Puts a word into the file, brings its page in, and reads it through the IOTLB, as a kernel does. */
function reaches(space: IovaSpace, fd: number, at: number): boolean {
  const word = Uint8Array.of(at & 0xff, (at >>> 8) & 0xff, 0xa5);
  linux.pwrite(fd, word, at);
  if (space.bring(BASE + BigInt(at), 'read') !== 'here') return false;
  const offset = iotlbLookup(window.u32, space.iotlb, BASE + BigInt(at), 3, IOTLB_READ)!;
  return Buffer.compare(window.u8.slice(offset, offset + 3), word) === 0;
}

beforeEach(() => {
  fdsBefore = countOpenFds();
  window = Window.open();
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) one[Symbol.dispose]();
  for (const fd of files.splice(0)) linux.close(fd);
  await until(() => !window.releasing && window.mappingCount === 0 && countOpenFds() === fdsBefore);
  window[Symbol.dispose]();
  expect(countMappings('memfd:cache-test')).toBe(0);
});

describe('a guest', () => {
  test('that fits is in the window whole, in one mapping, from the beginning', () => {
    const space = guest(GIB);
    expect([window.mappingCount, [...space.entries()][0]!.offset]).toEqual([1, iotlbLookup(window.u32, space.iotlb, BASE, GIB, 3)]);
  });

  test('that does not fit comes in parts, when they are asked for', () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    expect(iotlbLookup(window.u32, space.iotlb, BASE + BigInt(40 * GIB), 1, 1)).toBeUndefined();
    for (const at of [0, 40 * GIB + 5, 64 * GIB - 3, 4 * GIB]) expect([at, reaches(space, fd, at)]).toEqual([at, true]);
    expect(space.bring(BASE + BigInt(64 * GIB), 'read')).toBe('never');
    expect(window.mappingCount).toBe(4);
  });

  test('is read and written without bringing it in', () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    const before = window.mappingCount;
    const at = BASE + BigInt(33 * GIB - 4);
    space.write(at, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const seen = new Uint8Array(8);
    void space.read(at, seen);
    expect([[...seen], window.mappingCount]).toEqual([[1, 2, 3, 4, 5, 6, 7, 8], before]);
    // And the same where the half of it is in the window.
    space.bring(at, 'read');
    space.write(at, Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1));
    linux.pread(fd, seen, 33 * GIB - 4);
    expect([...seen]).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
  });

  test('of thousands of small maps, as behind a vIOMMU, beyond what the process may map', async () => {
    const space = new IovaSpace(window);
    open.push(space);
    const fd = sparse(GIB);
    const maps = MAX_WINDOW_MAPPINGS + 2000;
    for (let n = 0; n < maps; n++) space.map({ iova: BigInt(n) * 8192n, sizeBytes: PAGE_BYTES, readable: true, writable: n % 2 === 0, fd, fdOffset: n * PAGE_BYTES });
    const last = BigInt(maps - 1) * 8192n;
    linux.pwrite(fd, Uint8Array.of(77), (maps - 1) * PAGE_BYTES);
    await until(() => space.bring(last, 'read') === 'here');
    expect(window.u8[iotlbLookup(window.u32, space.iotlb, last, 1, 1)!]).toBe(77);
    expect([space.bring(last, 'write'), space.bring(last + 4096n, 'read')]).toEqual(['never', 'never']);
    expect(window.mappingCount).toBeLessThanOrEqual(MAX_WINDOW_MAPPINGS);
  });
});

describe('when the window is full', () => {
  test('what was not used leaves, what is used stays, and parts are smaller from then on', async () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    const hot = Array.from({ length: 16 }, (_, n) => n * EXTENT_BYTES);
    const use = (at: number): void => {
      const entry = hashEntry(space, BASE + BigInt(at));
      window.u32[(entry + IOTLB_USED) >>> 2] = 0xffff;
    };
    for (const at of hot) space.bring(BASE + BigInt(at), 'read');
    const cache = WindowCache.of(window);
    const places = hot.map((at) => iotlbLookup(window.u32, space.iotlb, BASE + BigInt(at), 1, 1));
    let next = GIB;
    for (let n = 0; cache.evictions < 300; n++, next += EXTENT_BYTES) {
      const full = space.bring(BASE + BigInt(next), 'read') === 'full';
      if (!full && n % 64 !== 0) continue;
      for (const at of hot) use(at);
      if (full) await space.makeRoom();
      else await new Promise((resolve) => { setImmediate(resolve); });
    }
    expect(hot.map((at) => iotlbLookup(window.u32, space.iotlb, BASE + BigInt(at), 1, 1))).toEqual(places);
    expect(next).toBeLessThan(64 * GIB);
  });

  test('8192 buffers all over 64 GiB find their place', async () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    let seed = 12345;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
    const buffers = Array.from({ length: 8192 }, () => BASE + BigInt(Math.floor(random() * 64 * GIB / 2048) * 2048));
    const absent = (): bigint[] => buffers.filter((iova) => iotlbLookup(window.u32, space.iotlb, iova, 1, 1) === undefined);
    for (let round = 0, missing = absent(); missing.length > 0; missing = absent()) {
      expect(++round).toBeLessThan(40);
      const isFull = missing.some((iova) => space.bring(iova, 'read') === 'full');
      // As a device uses them all the time.
      const table = window.u32[space.iotlb >>> 2]! >>> 2;
      for (let slot = 0; slot <= window.u32[table]!; slot++) window.u32[table + 4 + 4 * slot + IOTLB_USED / 4] = 0xffff;
      if (isFull) await space.makeRoom();
      else await new Promise((resolve) => { setImmediate(resolve); });
    }
    expect(window.mappableBytes).toBeGreaterThan(0);
  });

  test('a guest pushes out its own parts, not those of a neighbour within its share', async () => {
    const small = guest(GIB);
    const place = iotlbLookup(window.u32, small.iotlb, BASE, GIB, 1);
    const greedy = guest(64 * GIB);
    const cache = WindowCache.of(window);
    for (let n = 0; cache.evictions < 4000; n++) {
      if (greedy.bring(BASE + BigInt(n * EXTENT_BYTES), 'read') === 'full') await greedy.makeRoom();
    }
    expect(iotlbLookup(window.u32, small.iotlb, BASE, GIB, 1)).toBe(place);
  });

  test('nothing leaves while a reader is in a burst, and what left is not in any IOTLB', async () => {
    const fd = sparse(16 * GIB);
    const space = guest(16 * GIB, fd);
    const cache = WindowCache.of(window);
    const cells = Quiescence.of(window).addReader('burst');
    const reader = new QuiescentReader(window.i32, cells);
    reader.online();
    linux.pwrite(fd, Uint8Array.of(42), 0);
    const offset = space.translate(BASE, 1, 'read')!;
    for (let n = 1; cache.evictions === 0; n++) {
      space.bring(BASE + BigInt(n * EXTENT_BYTES), 'read');
      await Promise.resolve();
      // The clock passes everything twice.
      window.u32[(hashEntry(space, BASE) + IOTLB_USED) >>> 2] = 0;
    }
    await until(() => iotlbLookup(window.u32, space.iotlb, BASE, 1, 1) === undefined);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => { setImmediate(resolve); });
    expect(window.u8[offset], 'under the burst').toBe(42);
    const room = window.mappableBytes;
    reader.checkpoint();
    await until(() => window.mappableBytes > room);
    expect(window.mappableBytes).toBeGreaterThanOrEqual(RESERVE_BYTES);
    reader.offline();
    Quiescence.of(window).removeReader(cells);
  });

  test.each([['bytes', 20, 256 * 2 ** 20, 1], ['mappings', 4, PAGE_BYTES, 8000]])('what cannot leave, as its files are too many to be kept, is at most half of all %s', async (_, files, sizeBytes, maps) => {
    const space = new IovaSpace(window);
    open.push(space);
    let next = 0n;
    const map = (fd: number, size: number, fdOffset = 0): void => {
      space.map({ iova: next, sizeBytes: size, readable: true, writable: true, fd, fdOffset });
      next += BigInt(size) + 4096n;
    };
    for (let n = 0; n < MAX_KEPT_FILES; n++) map(sparse(PAGE_BYTES), PAGE_BYTES);
    expect(() => {
      for (let n = 0; n < files; n++) {
        const fd = sparse(sizeBytes * maps);
        for (let m = 0; m < maps; m++) map(fd, sizeBytes, m * sizeBytes);
      }
    }).toThrow(expect.objectContaining({ code: 'ERR_WINDOW_FULL' }));
    expect(window.mappableBytes).toBeGreaterThan(1.5 * GIB);
    expect(window.mappingCount).toBeLessThan(MAX_WINDOW_MAPPINGS / 2 + 100);
  });

  test('devices that ask for room of their own at the same time all get it', async () => {
    const spaces = [guest(64 * GIB), guest(64 * GIB), guest(64 * GIB)];
    for (const space of spaces) for (let n = 0; n < 100; n++) space.bring(BASE + BigInt(n * EXTENT_BYTES), 'read');
    const left = (): number[] => spaces.map((space) => {
      let count = 0;
      for (let n = 0; n < 100; n++) if (iotlbLookup(window.u32, space.iotlb, BASE + BigInt(n * EXTENT_BYTES), 1, 1) !== undefined) count++;
      return count;
    });
    expect(left()).toEqual([100, 100, 100]);
    const [a, b, c] = spaces as [IovaSpace, IovaSpace, IovaSpace];
    await Promise.all([a, b, a, c, b].map((space) => space.makeRoom()));
    for (const count of left()) expect(count).toBeLessThan(100);
  });

  test('a device has as many chunks as its IOTLB takes, and then others', async () => {
    const space = new IovaSpace(window);
    open.push(space);
    const fd = sparse(PAGE_BYTES * 2);
    for (let n = 0; n <= IOTLB_MAX_KEYS; n++) space.map({ iova: BigInt(n) * BigInt(CHUNK_BYTES), sizeBytes: PAGE_BYTES, readable: true, writable: true, fd });
    const iovas = [0, 1, IOTLB_MAX_KEYS - 1, IOTLB_MAX_KEYS].map((n) => BigInt(n) * BigInt(CHUNK_BYTES));
    expect(iovas.every((iova) => space.bring(iova, 'read') !== 'never')).toBe(true);
  });
});

describe('page tables of the IOTLBs, which all devices share', () => {
  /** How often it took an eviction to bring in one address, at most. A question about a miss waits for four. */
  async function worst(space: IovaSpace, chunks: number, each: (n: number) => Promise<void> = async () => {}): Promise<number> {
    let most = 0;
    for (let n = 0; n < chunks; n++) {
      let tries = 0;
      for (; tries < 5 && space.bring(BASE + BigInt(n) * BigInt(CHUNK_BYTES), 'read') === 'full'; tries++) await space.makeRoom();
      most = Math.max(most, tries);
      if (n % 32 === 0) await new Promise((resolve) => { setImmediate(resolve); });
      await each(n);
    }
    return most;
  }

  test.each([[1, 28_000], [2, 16_000]])('are no limit to a guest with %i cards that touches %i chunks', async (cards, chunks) => {
    const fd = sparse(64 * GIB);
    const spaces = Array.from({ length: cards }, () => guest(64 * GIB, fd));
    expect(await worst(spaces.at(-1)!, chunks)).toBeLessThan(5);
  });

  test('are not used up for a neighbour that needs few', async () => {
    const big = guest(64 * GIB);
    const small = guest(64 * GIB);
    let most = 0;
    await worst(big, 28_000, async (n) => {
      if (n % 500 === 499) most = Math.max(most, await worst(small, n / 8));
    });
    expect(most).toBeLessThan(5);
  });
});

describe('devices of one guest', () => {
  test('share what is in the window, whoever asked for it; each forgets its own, and what leaves leaves all of them', async () => {
    const fd = sparse(64 * GIB);
    const first = guest(64 * GIB, fd);
    const second = guest(64 * GIB, fd, BASE + 0x100_0000_0000n);
    const other = BASE + 0x100_0000_0000n;
    const place = (space: IovaSpace, iova: bigint): number | undefined => iotlbLookup(window.u32, space.iotlb, iova, 1, 1);
    const at = BigInt(9 * GIB);
    second.bring(other + at, 'read');
    expect([place(first, BASE + at), window.mappingCount]).toEqual([place(second, other + at), 2]);
    first.clear();
    expect([place(first, BASE + at), place(second, other + at) !== undefined, window.mappingCount]).toEqual([undefined, true, 2]);
    first.map({ iova: BASE, sizeBytes: 64 * GIB, readable: true, writable: true, fd });
    expect(place(first, BASE + at)).toBe(place(second, other + at));
    const cache = WindowCache.of(window);
    for (let n = 0; place(second, other + at) !== undefined; n++) {
      if (first.bring(BASE + BigInt(20 * GIB + n * EXTENT_BYTES), 'read') === 'full') await first.makeRoom();
      if (n % 64 === 0) await new Promise((resolve) => { setImmediate(resolve); });
    }
    expect([cache.evictions > 0, place(first, BASE + at)]).toEqual([true, undefined]);
  });
});

describe.each([2 ** 21, 2 ** 30])('a file of huge pages of %i bytes', (huge) => {
  test('comes by whole huge pages, aligned in address and file', async () => {
    for (const one of open.splice(0)) one[Symbol.dispose]();
    window[Symbol.dispose]();
    const asked: { address: bigint; lengthBytes: number; fdOffset: number }[] = [];
    window = Window.open({
      sys: {
        ...linux,
        fstat: (fd) => ({ ...linux.fstat(fd), blockBytes: huge }),
        mmap: (request) => {
          if (request.fd !== undefined) asked.push({ address: request.address, lengthBytes: request.lengthBytes, fdOffset: request.fdOffset ?? 0 });
          return linux.mmap(request);
        },
      },
    });
    const fd = sparse(16 * GIB);
    const space = guest(16 * GIB, fd);
    // One huge page of 1 GiB at a time is all that fits above what is kept free, wherever the window begins.
    await until(() => window.mappableBytes > huge + RESERVE_BYTES);
    expect(reaches(space, fd, 3 * 2 ** 21 + 77)).toBe(true);
    for (const { address, lengthBytes, fdOffset } of asked) expect([address % BigInt(huge), lengthBytes % huge, fdOffset % huge]).toEqual([0n, 0, 0]);
    expect(asked.length).toBeGreaterThan(0);
  });
});

describe('a descriptor that permits less than another one of the same file', () => {
  const EACCES = 13;
  /** Opened again, for reading only. */
  const readOnly = (fd: number, use: (fd: number) => void): void => {
    const again = openSync(`/proc/self/fd/${fd}`, 'r');
    try {
      use(again);
    } finally {
      closeSync(again);
    }
  };

  test.each([['the same range', 0], ['another range', GIB / 2]])('does not get the rights of the other with %s', (_, fdOffset) => {
    const fd = sparse(GIB);
    guest(GIB / 2, fd);
    const space = new IovaSpace(window);
    open.push(space);
    const region = { iova: BASE, sizeBytes: GIB / 2, readable: true, fdOffset };
    readOnly(fd, (again) => {
      expect(() => { space.map({ ...region, writable: true, fd: again }); }).toThrow(expect.objectContaining({ code: 'ERR_DMA_FILE', errno: EACCES }));
      expect(space.size).toBe(0);
      space.map({ ...region, writable: false, fd: again });
    });
    expect([space.bring(BASE, 'read'), space.bring(BASE, 'write')]).toEqual(['here', 'never']);
  });

  test('nor in parts, and what is brought in later is not brought in through the lesser one', () => {
    const fd = sparse(64 * GIB);
    const first = new IovaSpace(window);
    open.push(first);
    readOnly(fd, (again) => {
      first.map({ iova: BASE, sizeBytes: 32 * GIB, readable: true, writable: false, fd: again });
      const space = guest(64 * GIB, fd);
      expect(reaches(space, fd, 50 * GIB)).toBe(true);
      expect(() => { first.map({ iova: BASE + BigInt(64 * GIB), sizeBytes: 32 * GIB, readable: true, writable: true, fd: again, fdOffset: 32 * GIB }); }).toThrow(/EACCES/);
    });
    expect(reaches(first, fd, 20 * GIB)).toBe(true);
  });
});

describe('a range that is pinned', () => {
  test('stays where it is while everything else goes', async () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    const inside = space.pin(BASE + 8192n, 8192, 'write')!;
    const across = space.pin(BASE + BigInt(8 * EXTENT_BYTES - 4096), 65536, 'write')!;
    linux.pwrite(fd, Uint8Array.of(1), 8192);
    linux.pwrite(fd, Uint8Array.of(2), 8 * EXTENT_BYTES + 5);
    const cache = WindowCache.of(window);
    for (let n = 16; cache.evictions < 4000; n++) {
      if (space.bring(BASE + BigInt(n * EXTENT_BYTES), 'read') === 'full') await space.makeRoom();
    }
    expect([window.u8[inside.offset], window.u8[across.offset + 4096 + 5]]).toEqual([1, 2]);
    inside[Symbol.dispose]();
    inside[Symbol.dispose]();
    expect(space.pin(BASE, 0, 'read') ?? space.pin(BASE + BigInt(64 * GIB) - 4096n, 8192, 'read') ?? space.pin(0n, 1, 'read')).toBeUndefined();
  });

  test('of a guest that is in the window whole does not keep all of it there', () => {
    const space = guest(GIB);
    using ring = space.pin(BASE + 4096n, 8192, 'write')!;
    expect([window.mappingCount, ring.offset === space.translate(BASE + 4096n, 8192, 'write')]).toEqual([2, false]);
    window.u8[ring.offset + 7] = 9;
    const seen = new Uint8Array(1);
    void space.read(BASE + 4103n, seen);
    expect(seen[0]).toBe(9);
  });
});

describe('a miss', () => {
  test('is answered when the address is in the window, denied when it is nobody\'s, with all that was asked along', async () => {
    const fd = sparse(64 * GIB);
    const space = guest(64 * GIB, fd);
    const cells = MissDesk.of(window).alloc(2);
    const cell = new MissCell(window, cells, 1);
    const ask = (...iovas: bigint[]): void => {
      iovas.forEach((iova, n) => {
        if (n === 0) cell.begin(space.iotlb, IOTLB_READ, Number(iova >> 32n), Number(iova & 0xffffffffn));
        else cell.add(Number(iova >> 32n), Number(iova & 0xffffffffn));
      });
      cell.ask();
    };
    const far = BASE + BigInt(50 * GIB);
    ask(far, far + BigInt(GIB));
    expect(cell.pending).toBe(true);
    await until(() => cell.idle);
    for (const iova of [far, far + BigInt(GIB)]) expect(iotlbLookup(window.u32, space.iotlb, iova, 1, 1)).toBeTypeOf('number');
    ask(5n);
    await until(() => cell.denied);
    expect([cell.high, cell.low]).toEqual([0, 5]);
    // A no that was said before the table changed counts no more.
    space.map({ iova: 0n, sizeBytes: PAGE_BYTES, readable: true, writable: true, fd });
    expect([cell.denied, cell.pending]).toEqual([false, false]);
    cell.settle();
    MissDesk.of(window).free(cells);
  });

  test('is heard by one listener, however often cells are given back and taken again', async () => {
    const desk = MissDesk.of(window);
    let cells = desk.alloc(1);
    for (let n = 0; n < 10; n++) {
      desk.free(cells);
      cells = desk.alloc(1);
    }
    const turn = async (): Promise<void> => { await new Promise((resolve) => { setTimeout(resolve, 20); }); };
    await turn();
    const waits = vi.spyOn(Atomics, 'waitAsync');
    try {
      const cell = new MissCell(window, cells, 0);
      cell.begin(64, IOTLB_READ, 0, 5);
      cell.ask();
      await until(() => !cell.pending);
      await turn();
      expect(waits).toHaveBeenCalledTimes(1);
    } finally {
      waits.mockRestore();
      desk.free(cells);
    }
  });

  test('where mmap fails is denied in the end, and served once it works again', async () => {
    for (const one of open.splice(0)) one[Symbol.dispose]();
    window[Symbol.dispose]();
    let failing = false;
    window = Window.open({ sys: { ...linux, mmap: (request) => (failing && request.fd !== undefined ? withFaults(linux, [{ call: 'mmap', nth: 1, errno: 'ENOMEM' }]).mmap(request) : linux.mmap(request)) } });
    const space = guest(64 * GIB);
    const cells = MissDesk.of(window).alloc(1);
    const cell = new MissCell(window, cells, 0);
    const ask = (): void => {
      cell.begin(space.iotlb, IOTLB_READ, 4, 0);
      cell.ask();
    };
    failing = true;
    ask();
    await until(() => cell.denied);
    failing = false;
    cell.settle();
    ask();
    await until(() => cell.idle);
    expect(iotlbLookup(window.u32, space.iotlb, 4n << 32n, SMALL_EXTENT_BYTES, 1)).toBeTypeOf('number');
    MissDesk.of(window).free(cells);
  });
});

/** Offset of the slot of an address that is in the IOTLB. */
function hashEntry(space: IovaSpace, iova: bigint): number {
  const table = window.u32[space.iotlb >>> 2]!;
  const key = (iova >> 21n) + 1n;
  for (let slot = 0; slot <= window.u32[table >>> 2]!; slot++) {
    const entry = table + 16 + 16 * slot;
    if (window.view.getBigUint64(entry, true) === key) return entry;
  }
  throw new Error('not in the IOTLB');
}
