/** Memory for the device: allocated, served by message, logged. */
import { countMappings, countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirtyBitmap, DmaAllocator } from '../src/index.ts';
import type { ConnectOptions, DmaMapRequest } from '../src/index.ts';
import { attach, collect } from './fake-server.ts';
import type { Attached, Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

const PAGE = 4096;

/** Keeps the maps and a log; `dirty` says which pages its own writes hit. */
class Device {
  readonly maps: (p.DmaMap & { readonly fd: number | undefined })[] = [];
  readonly reports: p.DmaLoggingReport[] = [];
  readonly dirty = new Set<bigint>();
  refuseUnmap = false;
  readonly #replies: ((frame: p.Frame) => void)[] = [];

  readonly handler: Handler = (frame, server) => {
    if (p.isReply(frame.flags)) return this.#replies.shift()!(frame);
    switch (frame.command) {
      case p.VFIO_USER_DMA_MAP:
        this.maps.push({ ...p.decodeDmaMap(frame.payload, frame.fds.length), fd: frame.fds[0] });
        return server.reply(frame);
      case p.VFIO_USER_DMA_UNMAP: {
        const unmap = p.decodeDmaUnmap(frame.payload);
        if (this.refuseUnmap) return server.refuse(frame, p.EBUSY);
        this.maps.splice(this.maps.findIndex((map) => map.address === unmap.address), 1);
        const dirty = unmap.bitmap === undefined ? undefined : this.bitmap({ iova: unmap.address, length: unmap.size, pageSize: unmap.bitmap.pageSize });
        return server.reply(frame, p.encodeDmaUnmapReply(unmap, dirty));
      }
      case p.VFIO_USER_DEVICE_FEATURE: {
        const { feature, operations, data, argsz } = p.decodeDeviceFeature(frame.payload);
        if (feature !== p.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) return server.reply(frame, frame.payload);
        const report = p.decodeDmaLoggingReport(data, argsz);
        this.reports.push({ iova: report.iova, length: report.length, pageSize: report.pageSize });
        return server.reply(frame, p.encodeDeviceFeature(feature, operations, p.encodeDmaLoggingReport(report, this.bitmap(report))));
      }
    }
    server.reply(frame);
  };

  bitmap({ iova, length, pageSize }: p.DmaLoggingReport): Uint8Array {
    const bits = new Uint8Array(Number(p.dirtyBitmapBytes(length, pageSize)));
    for (const page of this.dirty) {
      const at = page * BigInt(PAGE);
      if (at < iova || at >= iova + length) continue;
      this.dirty.delete(page);
      for (let bit = (at - iova) / pageSize; bit * pageSize + iova < at + BigInt(PAGE) && bit * pageSize < length; bit++) bits[Number(bit) >> 3]! |= 1 << (Number(bit) & 7);
    }
    // As libvfio-user: bits beyond the range, in the last word.
    const last = length / pageSize;
    if (last % 64n !== 0n) bits[bits.length - 1]! |= 0x80;
    return bits;
  }

  write(at: Attached, iova: bigint, data: Uint8Array): Promise<number> {
    at.server.send(p.encodeMessage(1, p.VFIO_USER_DMA_WRITE, 0, p.encodeDmaWrite(iova, data, 'lvu')));
    return new Promise((resolve) => this.#replies.push((frame) => { resolve(p.replyErrno(frame)); }));
  }

  read(at: Attached, iova: bigint, count: number): Promise<Uint8Array | number> {
    at.server.send(p.encodeMessage(2, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: iova, count })));
    return new Promise((resolve) => this.#replies.push((frame) => { resolve(p.replyErrno(frame) || p.decodeDmaReadReply(frame.payload, 'lvu').data.slice()); }));
  }
}

async function attachDevice(options: ConnectOptions = {}, capabilities: p.Capabilities = {}): Promise<Attached & { device: Device }> {
  const device = new Device();
  const at = await attach(device.handler, options, capabilities);
  return Object.assign(at, { device });
}

describe('the allocator', () => {
  test('many buffers are one map of one sealed file, seen by both sides', async () => {
    using at = await attachDevice();
    {
      await using allocator = new DmaAllocator(at.client.dma, { chunkBytes: 0x10000 });
      const [a, b] = [await allocator.allocate(100), await allocator.allocate(5000, 4096)];
      expect(at.device.maps).toMatchObject([{ address: 0x1_0000_0000n, size: 0x10000n, flags: 3, fdOffset: 0n }]);
      expect([a.iova, b.iova]).toEqual([0x1_0000_0000n, 0x1_0000_1000n]);
      const theirs = at.device.maps[0]!.fd!;
      b.bytes.set([1, 2, 3]);
      const seen = new Uint8Array(3);
      linux.pread(theirs, seen, Number(b.iova - 0x1_0000_0000n));
      expect([...seen]).toEqual([1, 2, 3]);
      expect(b.fdOffset).toBe(4096);
      expect(() => { linux.ftruncate(theirs, 4096); }, 'nobody can pull it away').toThrow();
      // Freed and taken again: the same place, without what was in it.
      b[Symbol.dispose]();
      b[Symbol.dispose]();
      expect(await allocator.allocate(5000, 4096)).toMatchObject({ iova: b.iova, bytes: new Uint8Array(5000) });
      // Another chunk when the first is full, and one of its own for what is larger than any.
      const c = await allocator.allocate(0x10000);
      const d = await allocator.allocate(0x18000);
      expect([c.iova, d.iova]).toEqual([0x1_0001_0000n, 0x1_0002_0000n]);
      expect(at.device.maps.map((map) => map.size)).toEqual([0x10000n, 0x10000n, 0x18000n]);
      expect(countMappings('vfio-user-dma')).toBe(3);
    }
    expect([at.device.maps, countMappings('vfio-user-dma')]).toEqual([[], 0]);
  });

  test('concurrent callers share chunks', async () => {
    using at = await attachDevice();
    await using allocator = new DmaAllocator(at.client.dma);
    const buffers = await Promise.all(Array.from({ length: 50 }, () => allocator.allocate(4096, 4096)));
    expect(new Set(buffers.map((buffer) => buffer.iova)).size).toBe(50);
    expect(at.device.maps).toHaveLength(1);
  });

  test('its limits: bytes, maps of the server, arguments; a refused chunk leaves nothing', async () => {
    using at = await attachDevice({}, { maxDmaMaps: 2 });
    await using allocator = new DmaAllocator(at.client.dma, { chunkBytes: 0x10000, limitBytes: 0x40000 });
    await expect(allocator.allocate(0x50000)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BUSY' });
    await allocator.allocate(0x10000);
    await allocator.allocate(0x10000);
    await expect(allocator.allocate(0x10000)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT', message: expect.stringContaining('2 DMA maps') as string });
    expect([countMappings('vfio-user-dma'), allocator.mappedBytes]).toEqual([2, 0x20000]);
    for (const [size, align] of [[0, 64], [-1, 64], [1.5, 64], [8, 3], [8, 0x20000]] as const) await expect(allocator.allocate(size, align)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('a server that refuses to unmap gets no answer for memory that has gone', async () => {
    using at = await attachDevice();
    {
      await using allocator = new DmaAllocator(at.client.dma);
      await allocator.allocate(64);
      at.device.refuseUnmap = true;
    }
    expect(countMappings('vfio-user-dma')).toBe(0);
    expect(await at.device.write(at, 0x1_0000_0000n, new Uint8Array(8))).toBe(p.EFAULT);
  });

  test('after the connection has gone disposing still releases everything', async () => {
    using at = await attachDevice();
    await using allocator = new DmaAllocator(at.client.dma);
    await allocator.allocate(64);
    at.server.close();
    await at.client.closed;
    await expect(allocator.allocate(0x40_0000)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  });

  test('memory lies at addresses that the device may be given, in pages of its size', async () => {
    const mapped: (readonly [bigint, number])[] = [];
    const device = {
      map: async ({ iova, sizeBytes }: DmaMapRequest) => { mapped.push([iova, sizeBytes]); },
      unmap: async (iova: bigint, sizeBytes: number) => { mapped.splice(mapped.findIndex(([first, bytes]) => first === iova && bytes === sizeBytes), 1); },
      has: () => false,
      forget: () => {},
    };
    const iovaRanges = [{ first: 0x1000n, last: 0x3_ffffn }, { first: 0x10_0000n, last: 0x12_ffffn }];
    {
      await using allocator = new DmaAllocator(device, { chunkBytes: 0x1_0000, pageBytes: 0x1_0000, firstIova: 0n, iovaRanges });
      for (const bytes of [0x1_8000, 0x1_0000, 0x1_8000]) await allocator.allocate(bytes);
      expect(mapped).toEqual([[0x1_0000n, 0x2_0000], [0x3_0000n, 0x1_0000], [0x10_0000n, 0x2_0000]]);
      await allocator.allocate(0x1_0000);
      await expect(allocator.allocate(64)).resolves.toBeDefined();
      await expect(allocator.allocate(0x1_0000)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BUSY' });
    }
    expect(mapped).toEqual([]);
    for (const pageBytes of [0, 2048, 0x1800, 0x2_0000]) expect(() => new DmaAllocator(device, { chunkBytes: 0x1_0000, pageBytes })).toThrow(expect.objectContaining({ code: 'ERR_VFU_CLIENT_ARGUMENT' }));
  });

  test('without a descriptor the device comes by message', async () => {
    using at = await attachDevice();
    await using allocator = new DmaAllocator(at.client.dma, { shared: false });
    const buffer = await allocator.allocate(64);
    expect(at.device.maps[0]!.fd).toBeUndefined();
    expect(await at.device.write(at, buffer.iova + 4n, Uint8Array.of(9, 8))).toBe(0);
    expect([...buffer.bytes.subarray(3, 7)]).toEqual([0, 9, 8, 0]);
    expect(await at.device.read(at, buffer.iova + 4n, 2)).toEqual(Uint8Array.of(9, 8));
  });
});

describe('maps', () => {
  test('say how the file is to be reached', async () => {
    using at = await attachDevice();
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    linux.ftruncate(fd, 3 * PAGE);
    const map = { sizeBytes: PAGE, readable: true, writable: false, fd };
    await at.client.dma.map({ ...map, iova: 0n, access: 'mmap' });
    await at.client.dma.map({ ...map, iova: 0x1000n, access: 'file-io' });
    linux.close(fd);
    expect(at.device.maps.map(({ flags }) => flags)).toEqual([5, 9]);
    await expect(at.client.dma.map({ iova: 0x9000n, sizeBytes: PAGE, readable: true, writable: true, access: 'mmap' })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    await expect(at.client.dma.map({ iova: 0x9000n, sizeBytes: PAGE, readable: true, writable: true, memory: new Uint8Array(5) })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('a message across maps goes to each one\'s memory, or to the handler', async () => {
    const calls: [string, bigint, number][] = [];
    const dma = { read: (iova: bigint, into: Uint8Array) => { calls.push(['read', iova, into.length]); into.fill(7); }, write: (iova: bigint, from: Uint8Array) => void calls.push(['write', iova, from.length]) };
    using at = await attachDevice({ dma });
    const memory = new Uint8Array(PAGE);
    await at.client.dma.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, memory });
    await at.client.dma.map({ iova: 0x1000n, sizeBytes: PAGE, readable: true, writable: true });
    expect(await at.device.write(at, 0xffen, Uint8Array.of(1, 2, 3, 4, 5))).toBe(0);
    expect([...memory.subarray(-2)]).toEqual([1, 2]);
    expect(await at.device.read(at, 0xffen, 5)).toEqual(Uint8Array.of(1, 2, 7, 7, 7));
    expect(calls).toEqual([['write', 0x1000n, 3], ['read', 0x1000n, 3]]);
  });

  test('nothing is copied when a part of a message has nobody to serve it', async () => {
    using at = await attachDevice();
    const memory = new Uint8Array(PAGE);
    await at.client.dma.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, memory });
    await at.client.dma.map({ iova: 0x1000n, sizeBytes: PAGE, readable: true, writable: true });
    expect(await at.device.write(at, 0xffen, Uint8Array.of(1, 2, 3, 4))).toBe(p.EOPNOTSUPP);
    expect(memory.every((byte) => byte === 0)).toBe(true);
  });
});

describe('messages outside what is mapped', () => {
  const all = (1n << 64n) - 1n;
  // Mapped: 0x1000..0x2000 for both, 0x2000..0x3000 for reading only, 0x4000..0x5000 for writing only.
  test.each<['read' | 'write', bigint, number, number]>([
    ['read', 0n, 4, p.EFAULT], ['read', 0xfffn, 2, p.EFAULT], ['read', 0x3000n, 4, p.EFAULT], ['read', 0x3800n, 4, p.EFAULT], ['read', 0x2fffn, 2, p.EFAULT],
    ['read', 0x1000n, 0x2001, p.EFAULT], ['read', 0x5000n, 4, p.EFAULT], ['read', all, 1, p.EFAULT], ['read', all, 2, p.EFAULT], ['read', all - 0x1000n, 0x2002, p.EFAULT],
    ['read', 0x4000n, 4, p.EACCES], ['write', 0x2000n, 4, p.EACCES], ['write', 0x1ffen, 4, p.EACCES], ['write', 0x4ffen, 4, p.EFAULT],
    ['read', 0x1000n, 0x2000, 0], ['write', 0x1000n, 0x1000, 0], ['write', 0x4ffen, 2, 0], ['read', 0x3800n, 0, p.EFAULT], ['read', 0x1800n, 0, 0],
  ])('%s at %s of %i bytes: errno %i', async (what, iova, count, errno) => {
    using at = await attachDevice();
    for (const [start, readable, writable] of [[0x1000n, true, true], [0x2000n, true, false], [0x4000n, false, true]] as const) {
      await at.client.dma.map({ iova: start, sizeBytes: 0x1000, readable, writable, memory: new Uint8Array(0x1000) });
    }
    if (what === 'write') return expect(await at.device.write(at, iova, new Uint8Array(count))).toBe(errno);
    const answer = await at.device.read(at, iova, count);
    expect(typeof answer === 'number' ? answer : 0).toBe(errno);
  });
});

describe('the dirty log', () => {
  const mapBoth = async (at: Attached, memory = new Uint8Array(16 * PAGE)): Promise<void> => {
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    linux.ftruncate(fd, 16 * PAGE);
    await at.client.dma.map({ iova: 0n, sizeBytes: 16 * PAGE, readable: true, writable: true, fd });
    linux.close(fd);
    await at.client.dma.map({ iova: 0x10000n, sizeBytes: 16 * PAGE, readable: true, writable: true, memory });
  };
  const pages = (bitmap: DirtyBitmap): number[] => [...bitmap].flatMap(({ iova, length }) => Array.from({ length: Number(length) / PAGE }, (_, i) => Number(iova) / PAGE + i));

  test('is the server\'s and this side\'s together; reading clears; unmapped addresses are clean', async () => {
    using at = await attachDevice();
    await mapBoth(at);
    expect(await at.device.write(at, 0x10000n, new Uint8Array(1)), 'before the log is on').toBe(0);
    await at.client.dirtyLog.start(PAGE);
    at.device.dirty.add(3n).add(15n);
    await at.device.write(at, 0x12fffn, new Uint8Array(2));
    expect(pages(await at.client.dirtyLog.report(0n, 0x30000n, PAGE))).toEqual([3, 15, 18, 19]);
    expect(at.device.reports, 'only what the server can know').toEqual([{ iova: 0n, length: 0x10000n, pageSize: 4096n }]);
    expect(pages(await at.client.dirtyLog.report(0n, 0x30000n, PAGE))).toEqual([]);
    await at.client.dirtyLog.stop();
    await expect(at.client.dirtyLog.report(0n, 0x1000n, PAGE)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('in larger and in smaller pages than the log', async () => {
    using at = await attachDevice();
    await mapBoth(at);
    await at.client.dirtyLog.start(PAGE);
    at.device.dirty.add(5n);
    await at.device.write(at, 0x1a000n, new Uint8Array(1));
    expect([...(await at.client.dirtyLog.report(0n, 0x20000n, 0x8000))]).toEqual([{ iova: 0n, length: 0x8000n }, { iova: 0x18000n, length: 0x8000n }]);
    at.device.dirty.add(5n);
    await at.device.write(at, 0x1a000n, new Uint8Array(1));
    expect([...(await at.client.dirtyLog.report(0n, 0x20000n, 1024))]).toEqual([{ iova: 0x5000n, length: 0x1000n }, { iova: 0x1a000n, length: 0x1000n }]);
  });

  test('a page that is only partly asked about stays in the log', async () => {
    using at = await attachDevice();
    await mapBoth(at);
    await at.client.dirtyLog.start(PAGE);
    await at.device.write(at, 0x10000n, new Uint8Array(PAGE));
    expect((await at.client.dirtyLog.report(0x10000n, 1024n, 1024)).count).toBe(1);
    expect((await at.client.dirtyLog.report(0x10000n, 0x1000n, PAGE)).count).toBe(1);
    expect((await at.client.dirtyLog.report(0x10000n, 0x1000n, PAGE)).count).toBe(0);
  });

  test('all that is mapped, map by map', async () => {
    using at = await attachDevice();
    await mapBoth(at);
    await at.client.dirtyLog.start(PAGE, [{ iova: 0n, length: 0x20000n }]);
    at.device.dirty.add(1n).add(2n);
    await at.device.write(at, 0x1f000n, new Uint8Array(1));
    expect(await collect(at.client.dirtyLog.dirtyPages(PAGE))).toEqual([{ iova: 0x1000n, length: 0x2000n }, { iova: 0x1f000n, length: 0x1000n }]);
    const start = p.decodeDmaLogging(p.decodeDeviceFeature(at.server.seen.find((frame) => frame.command === p.VFIO_USER_DEVICE_FEATURE)!.payload).data);
    expect(start).toEqual({ pageSize: 4096n, ranges: [{ iova: 0n, length: 0x20000n }] });
  });

  test('a large range is asked for in pieces whose bitmaps fit', async () => {
    using at = await attachDevice({}, { migration: { maxBitmapSize: 100 } });
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    await at.client.dma.map({ iova: 0n, sizeBytes: 2000 * PAGE, readable: true, writable: true, fd });
    linux.close(fd);
    await at.client.dirtyLog.start(PAGE);
    at.device.dirty.add(0n).add(767n).add(768n).add(1999n);
    expect(pages(await at.client.dirtyLog.report(0n, BigInt(2000 * PAGE), PAGE))).toEqual([0, 767, 768, 1999]);
    expect(at.device.reports.map((report) => Number(report.length) / PAGE)).toEqual([768, 768, 464]);
  });

  test('comes with the unmap', async () => {
    using at = await attachDevice();
    await mapBoth(at);
    await at.client.dirtyLog.start(PAGE);
    at.device.dirty.add(7n);
    await at.device.write(at, 0x10000n, new Uint8Array(1));
    expect(pages(await at.client.dma.unmapDirty(0n, 16 * PAGE, PAGE))).toEqual([7]);
    expect(pages(await at.client.dma.unmapDirty(0x10000n, 16 * PAGE, PAGE))).toEqual([16]);
    expect(at.client.dma.count).toBe(0);
    expect(at.server.seen.filter((frame) => frame.command === p.VFIO_USER_DMA_UNMAP).map((frame) => p.decodeDmaUnmap(frame.payload).flags)).toEqual([1, 0]);
  });

  test('writes that came while START was on its way count; those before a refused one do not', async () => {
    let refuse = true;
    const device = new Device();
    using at = await attach((frame, server) => {
      if (frame.command !== p.VFIO_USER_DEVICE_FEATURE || p.isReply(frame.flags)) return device.handler(frame, server);
      if (refuse) return server.refuse(frame, p.EINVAL);
      void device.write(Object.assign(at, { device }), 0x10000n, new Uint8Array(1)).then(() => { server.reply(frame, frame.payload); });
      refuse = false;
    });
    await mapBoth(at);
    await expect(at.client.dirtyLog.start(PAGE)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED' });
    expect(at.client.dirtyLog.on).toBe(false);
    refuse = false;
    const started = at.client.dirtyLog.start(PAGE);
    await started;
    expect((await at.client.dirtyLog.report(0x10000n, 0x10000n, PAGE).catch((error: unknown) => error)) as DirtyBitmap).toMatchObject({ count: 1 });
  });

  test('addresses all over a huge map cost bounded memory: too many, and everything counts as dirty', async () => {
    using at = await attachDevice({ dma: { read: () => {}, write: () => {} } });
    await at.client.dma.map({ iova: 0n, sizeBytes: 2 ** 52, readable: true, writable: true });
    await at.client.dirtyLog.start(PAGE);
    const block = 1n << 27n;
    for (let i = 0n; i < 16_384n; i++) {
      // Not all at once: the socket holds few messages.
      const written = at.device.write(at, i * block, new Uint8Array(1));
      if (i % 64n === 63n || i === 16_383n) await written;
    }
    expect((await at.client.dirtyLog.report(0x1000n, 0x1000n, PAGE)).count, 'just within the limit').toBe(0);
    await at.device.write(at, 16_384n * block, new Uint8Array(1));
    expect((await at.client.dirtyLog.report(0x1000n, 0x1000n, PAGE)).count).toBe(1);
  });
});

describe('DirtyBitmap', () => {
  test('marks and ranges agree with a set of pages', () => {
    const marks = fc.array(fc.tuple(fc.integer({ min: -8, max: 220 }), fc.integer({ min: 1, max: 70 })), { maxLength: 8 });
    fc.assert(fc.property(fc.integer({ min: 1, max: 200 }), marks, (count, ranges) => {
      const base = 0x10000n;
      const bitmap = new DirtyBitmap(base, BigInt(count * PAGE), BigInt(PAGE));
      const model = new Set<number>();
      for (const [page, length] of ranges) {
        bitmap.mark(base + BigInt(page * PAGE) + 1n, base + BigInt((page + length) * PAGE));
        for (let i = page; i < page + length; i++) if (i >= 0 && i < count) model.add(i);
      }
      const found = [...bitmap].flatMap(({ iova, length }) => Array.from({ length: Number(length) / PAGE }, (_, i) => Number(iova - base) / PAGE + i));
      expect(found).toEqual([...model].sort((a, b) => a - b));
      expect(bitmap.count).toBe(model.size);
      for (let i = -1; i <= count; i++) expect(bitmap.has(base + BigInt(i * PAGE) + 5n)).toBe(model.has(i));
    }), { numRuns: 200 });
  });

  test.each([[1n, 0x1000n, 0x1000n], [0n, 0x1001n, 0x1000n], [0n, 0n, 0x1000n], [0n, 0x3000n, 0x3000n], [(1n << 64n) - 0x1000n, 0x2000n, 0x1000n], [0n, 1n << 60n, 0x1000n]])('no range of whole pages: %s+%s in %s', (iova, length, page) => {
    expect(() => new DirtyBitmap(iova, length, page)).toThrow(expect.objectContaining({ code: 'ERR_VFU_CLIENT_ARGUMENT' }));
  });
});
