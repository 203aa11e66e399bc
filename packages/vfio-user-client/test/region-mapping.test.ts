import { Window } from '@emudev/dma';
import { countMappings, countOpenFds, F_SEAL_SHRINK, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attach } from './fake-server.ts';
import type { Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

const INFO = { flags: 7, index: 0, sizeBytes: 0x10000, fileOffset: 0x1000, areas: [{ offset: 0x2000, sizeBytes: 0x1000 }, { offset: 0x6000, sizeBytes: 0x2000 }] };

/** Answers DEVICE_GET_REGION_INFO as a server should, with a file of its own. */
function regions(info: Partial<p.RegionInfo> = {}, options: { fileBytes?: number; sealable?: boolean; fds?: number } = {}): { handler: Handler; fd: number } {
  const fd = linux.memfdCreate('doorbells', { allowSealing: options.sealable ?? true });
  linux.ftruncate(fd, options.fileBytes ?? 0x11000);
  const handler: Handler = (frame, server) => {
    const { argsz } = p.decodeGetRegionInfo(frame.payload);
    const { payload, complete } = p.encodeRegionInfo({ ...INFO, ...info }, argsz);
    server.reply(frame, payload, complete ? new Array<number>(options.fds ?? 1).fill(fd) : []);
  };
  return { handler, fd };
}

test('region info asks again for the capabilities, once for all callers', async () => {
  const { handler, fd } = regions();
  using at = await attach(handler);
  const [first, second] = await Promise.all([at.client.regionInfo(0), at.client.regionInfo(0)]);
  expect(first).toEqual({ index: 0, sizeBytes: 0x10000, readable: true, writable: true, areas: INFO.areas, fileOffset: 0x1000 });
  expect(second).toBe(first);
  expect(at.server.seen.map((frame) => p.decodeGetRegionInfo(frame.payload).argsz)).toEqual([32, 80]);
  linux.close(fd);
});

test('a caller who gives up leaves the others waiting', async () => {
  const { handler, fd } = regions();
  const held: p.Frame[] = [];
  const abort = new AbortController();
  using at = await attach((frame, server) => {
    if (abort.signal.aborted) handler(frame, server);
    else held.push(frame);
  });
  const given = at.client.regions.info(0, { signal: abort.signal });
  const waiting = at.client.regions.info(0);
  await expect.poll(() => held.length).toBe(2);
  abort.abort();
  await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
  for (const frame of held) handler(frame, at.server);
  expect((await waiting).sizeBytes).toBe(0x10000);
  linux.close(fd);
});

test('a part of what the server offers can be mapped, and nothing else', async () => {
  using window = Window.open();
  const { handler, fd } = regions();
  using at = await attach(handler);
  {
    using mapping = await at.client.mapRegion(0, window, { areas: [{ offset: 0x7000, sizeBytes: 0x1000 }] });
    expect([mapping.at(0x7000, 4096), mapping.at(0x6000, 4), mapping.at(0x2000, 4)]).toEqual([expect.any(Number), undefined, undefined]);
    window.u8[mapping.at(0x7004, 1)!] = 5;
    const stored = new Uint8Array(1);
    linux.pread(fd, stored, 0x8004);
    expect(stored[0]).toBe(5);
  }
  for (const area of [{ offset: 0x3000, sizeBytes: 0x1000 }, { offset: 0x7000, sizeBytes: 0x2000 }, { offset: -0x1000, sizeBytes: 0x1000 }]) {
    await expect(at.client.mapRegion(0, window, { areas: [area] })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  }
  linux.close(fd);
});

test('a region of the device\'s own says what it is', async () => {
  const { handler, fd } = regions({ type: { type: 1, subtype: 2 } });
  using at = await attach(handler);
  expect((await at.client.regionInfo(0)).type).toEqual({ type: 1, subtype: 2 });
  linux.close(fd);
});

test('mapped areas are the server\'s file, both ways, until disposed', async () => {
  using window = Window.open();
  const { handler, fd } = regions();
  using at = await attach(handler);
  {
    using mapping = await at.client.mapRegion(0, window);
    expect(mapping.areas.map(({ offset, sizeBytes }) => ({ offset, sizeBytes }))).toEqual(INFO.areas);
    const tail = mapping.at(0x6010, 4)!;
    window.u8[tail] = 0xab;
    const byte = new Uint8Array(1);
    linux.pread(fd, byte, 0x1000 + 0x6010);
    expect(byte[0]).toBe(0xab);
    linux.pwrite(fd, Uint8Array.of(0xcd), 0x1000 + 0x2000);
    expect(window.u8[mapping.at(0x2000, 1)!]).toBe(0xcd);
    expect([mapping.at(0x1fff, 2), mapping.at(0x2ffe, 4), mapping.at(0x8000, 1)], 'outside every area').toEqual([undefined, undefined, undefined]);
    expect(linux.getSeals(fd)! & F_SEAL_SHRINK, 'the server can no longer pull the file away').toBe(F_SEAL_SHRINK);
    expect(countMappings('memfd:doorbells')).toBe(2);
    at.client.close();
    window.u8[tail] = 0xac;
  }
  expect(countMappings('memfd:doorbells')).toBe(0);
  linux.close(fd);
});

test('without the sparse capability all of the region', async () => {
  using window = Window.open();
  const fd = linux.memfdCreate('doorbells', { allowSealing: true });
  linux.ftruncate(fd, 0x3000);
  using at = await attach((frame, server) => server.reply(frame, p.encodeRegionInfo({ flags: 5, index: 0, sizeBytes: 0x3000, fileOffset: 0 }, 32).payload, [fd]));
  using mapping = await at.client.mapRegion(0, window);
  expect(mapping.areas).toMatchObject([{ offset: 0, sizeBytes: 0x3000 }]);
  linux.close(fd);
});

describe('refuses to map', () => {
  const refused = async (info: Partial<p.RegionInfo>, options: Parameters<typeof regions>[1] = {}, why = /./): Promise<void> => {
    using window = Window.open();
    const { handler, fd } = regions(info, options);
    using at = await attach(handler);
    await expect(at.client.mapRegion(0, window)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_NOT_MAPPABLE', message: expect.stringMatching(why) as string });
    expect(window.mappingCount).toBe(0);
    await at.client.regionInfo(0);
    linux.close(fd);
  };
  test('a region without mappable parts', () => refused({ flags: 3 }, {}, /offers no part/));
  test('a missing file', () => refused({}, { fds: 0 }, /no file/));
  test('an area that is not page aligned', () => refused({ areas: [{ offset: 0x800, sizeBytes: 0x1000 }] }, {}, /aligned/));
  test('a size that is not', () => refused({ areas: [{ offset: 0, sizeBytes: 0x1800 }] }, {}, /aligned/));
  test('a file offset that is not', () => refused({ fileOffset: 0x10 }, {}, /aligned/));
  test('an area beyond the end of the file, which would be SIGBUS', () => refused({}, { fileBytes: 0x8000 }, /beyond the end/));
  test('an overflowing file offset', () => refused({ fileOffset: 2 ** 53 - 4096 }, {}, /beyond the end|aligned/));
  test('a file that shrinks before it can be sealed', async () => {
    using window = Window.open();
    const { handler, fd } = regions();
    let looks = 0;
    const fstat: typeof linux.fstat = (file) => (looks++ === 1 && linux.ftruncate(fd, 0x1000), linux.fstat(file));
    const addSeals = (): boolean => true;
    using at = await attach(handler, { sys: { ...linux, fstat, addSeals } });
    await expect(at.client.mapRegion(0, window)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_NOT_MAPPABLE', message: expect.stringMatching(/shrinking/) as unknown });
    expect(window.mappingCount).toBe(0);
    linux.close(fd);
  });
  test('a file that may still shrink, unless the server is trusted', async () => {
    await refused({}, { sealable: false }, /shrink/);
    using window = Window.open();
    const { handler, fd } = regions({}, { sealable: false });
    using at = await attach(handler);
    using mapping = await at.client.mapRegion(0, window, { allowUnsealed: true });
    expect(mapping.areas).toHaveLength(2);
    linux.close(fd);
  });
});

describe('region info that ends the connection', () => {
  test.each<[string, Handler]>([
    ['two descriptors', (frame, server) => {
      const { handler, fd } = regions({}, { fds: 2 });
      handler(frame, server);
      linux.close(fd);
    }],
    ['another index', (frame, server) => server.reply(frame, p.encodeRegionInfo({ flags: 3, index: 1, sizeBytes: 4096, fileOffset: 0 }, 32).payload)],
    ['a need of megabytes', (frame, server) => {
      const { payload } = p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 4096, fileOffset: 0 }, 32);
      payload.set([0, 0, 0x10, 0]);
      server.reply(frame, payload);
    }],
    ['an area outside the region', (frame, server) => server.reply(frame, p.encodeRegionInfo({ ...INFO, sizeBytes: 0x7000 }, p.decodeGetRegionInfo(frame.payload).argsz).payload)],
  ])('%s', async (_, handler) => {
    using at = await attach(handler);
    await expect(at.client.regionInfo(0)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BAD_SERVER' });
    expect((await at.client.closed).reason).toBe('bad-server');
  });
});
