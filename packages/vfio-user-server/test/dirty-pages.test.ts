/** Dirty pages over the wire beyond the rules of the conformance suite: unmapping, files, messages, the end of a session. */
import { linux } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { FakeDevice, memfd, nextEvent, serve, window } from './fixture.ts';
import { concat, ERROR, fields, LVU_VERSION, message, RawClient, REPLY, u64 } from './raw-client.ts';
import { DMA_MAP, DMA_UNMAP, DMA_WRITE, dmaMap, dmaUnmap, EINVAL, ENOENT, feature, FEATURE, LOG_STOP, logStart, PAGE, report, SET, VERSION } from './requests.ts';

class TrackingDevice extends FakeDevice {
  readonly tracksDirtyPages = true;
}
const [FILE_IO, GET_BITMAP, ALL] = [8, 1, 2];
const SIZE = 16n * PAGE;
/** 40 bytes of request, then what the reply may hold. */
const unmapWithBitmap = (iova: bigint, size: bigint, pageSize: bigint, bytes: bigint, argsz = 40 + Number(bytes)): Uint8Array => concat(dmaUnmap(iova, size, GET_BITMAP, argsz), fields(pageSize, bytes));

async function bitmap(client: RawClient, iova: bigint, length: bigint, pageSize: bigint = PAGE): Promise<bigint> {
  const reply = await client.request(FEATURE, report(iova, length, pageSize));
  expect([reply.flags & ERROR, reply.payload.length]).toEqual([0, 40]);
  return u64(reply.payload, 32);
}
async function mapped(client: RawClient, iova: bigint, flags = 3): Promise<void> {
  const fd = memfd(Number(SIZE), 'dirty');
  expect(await client.errno(DMA_MAP, dmaMap(iova, SIZE, 0n, flags), [fd])).toBe(0);
  linux.close(fd);
}

describe('DMA_UNMAP with a bitmap', () => {
  it('tells what was written since the last report, in the page size asked for', async () => {
    await using s = await serve({ device: new TrackingDevice() });
    await mapped(s.client, 0n);
    expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
    const { memory } = s.device.host!;
    void memory.write(0n, fields(1));
    expect(await bitmap(s.client, 0n, SIZE)).toBe(1n);
    void memory.write(3n * PAGE - 1n, fields(1));
    void memory.write(15n * PAGE, fields(1));
    s.device.take();
    const reply = await s.client.request(DMA_UNMAP, unmapWithBitmap(0n, SIZE, 2n * PAGE, 8n));
    expect(reply.payload).toEqual(concat(dmaUnmap(0n, SIZE, GET_BITMAP, 48), fields(2n * PAGE, 8n, 0b1000_0010n)));
    expect(s.device.take()).toEqual(['quiesce dma-unmap', 'memoryChanged', 'resume']);
    expect(s.server.session?.dmaMaps).toBe(0);
    expect(await s.client.errno(FEATURE, report(0n, SIZE, PAGE))).toBe(ENOENT);
  });

  it.each<[string, Uint8Array, number, boolean]>([
    ['while nothing is logged', unmapWithBitmap(0n, SIZE, PAGE, 8n), EINVAL, false],
    ['of a region that is not there', unmapWithBitmap(PAGE, SIZE, PAGE, 8n), ENOENT, true],
    ['of half a region', unmapWithBitmap(0n, SIZE / 2n, PAGE, 8n), ENOENT, true],
    ['whose size is not the bitmap\'s', unmapWithBitmap(0n, SIZE, PAGE, 16n), EINVAL, true],
    ['whose size is near 2^64', unmapWithBitmap(0n, SIZE, PAGE, (1n << 64n) - 8n, 48), EINVAL, true],
    ['with a page size of 0', unmapWithBitmap(0n, SIZE, 0n, 8n), EINVAL, true],
    ['with a page size of 3', unmapWithBitmap(0n, SIZE, 3n, 8n), EINVAL, true],
    ['with a page larger than the region', unmapWithBitmap(0n, SIZE, 2n * SIZE, 8n), EINVAL, true],
    ['without room for it', unmapWithBitmap(0n, SIZE, PAGE, 8n, 47), EINVAL, true],
    ['without the fields that describe it', dmaUnmap(0n, SIZE, GET_BITMAP, 48), EINVAL, true],
    ['of all regions at once', concat(dmaUnmap(0n, 0n, GET_BITMAP | ALL, 48), fields(PAGE, 8n)), EINVAL, true],
  ])('%s fails, and the region stays mapped and dirty', async (_name, payload, errno, logging) => {
    await using s = await serve({ device: new TrackingDevice() });
    await mapped(s.client, 0n);
    if (logging) expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
    void s.device.host!.memory.write(PAGE, fields(1));
    expect(await s.client.errno(DMA_UNMAP, payload)).toBe(errno);
    expect(s.server.session?.dmaMaps).toBe(1);
    if (logging) expect(await bitmap(s.client, 0n, SIZE)).toBe(0b10n);
    else expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
  });

  it('for a device that tracks nothing is EINVAL', async () => {
    await using s = await serve();
    await mapped(s.client, 0n);
    expect(await s.client.errno(DMA_UNMAP, unmapWithBitmap(0n, SIZE, PAGE, 8n))).toBe(EINVAL);
    expect(await s.client.errno(DMA_UNMAP, dmaUnmap(0n, SIZE))).toBe(0);
  });
});

describe('who logs what', () => {
  it('files that are mapped and files that are not: we; messages: the client', async () => {
    await using s = await serve({ device: new TrackingDevice() });
    await mapped(s.client, 0n);
    await mapped(s.client, SIZE, 3 | FILE_IO);
    expect(await s.client.errno(DMA_MAP, dmaMap(2n * SIZE, SIZE))).toBe(0);
    expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
    const { memory } = s.device.host!;
    await memory.write(SIZE - PAGE, new Uint8Array(Number(2n * PAGE)));
    const written = memory.write(2n * SIZE, fields(1));
    const asked = await s.client.next();
    expect(asked.command).toBe(DMA_WRITE);
    s.client.send(message(asked.id, DMA_WRITE, asked.payload.slice(0, 16), REPLY));
    await written;
    expect(await bitmap(s.client, 0n, 3n * SIZE)).toBe(0b11n << 15n);
  });

  it('only ranges that were asked for, across regions and holes', async () => {
    await using s = await serve({ device: new TrackingDevice() });
    for (const iova of [0n, 2n * SIZE]) await mapped(s.client, iova);
    expect(await s.client.errno(FEATURE, logStart(PAGE, [[8n * PAGE, 2n * SIZE]]))).toBe(0);
    for (const iova of [0n, 2n * SIZE]) void s.device.host!.memory.write(iova, new Uint8Array(Number(SIZE)));
    expect(await bitmap(s.client, 0n, 3n * SIZE)).toBe(0xff00n | (0xffn << 32n));
  });

  it('a region that is mapped once more while it is, keeps its dirty pages', async () => {
    await using s = await serve({ device: new TrackingDevice() });
    const fd = memfd(Number(SIZE), 'twice');
    for (const flags of [3, 3 | FILE_IO]) {
      const map = (): Promise<number> => s.client.errno(DMA_MAP, dmaMap(0n, SIZE, 0n, flags), [fd]);
      expect(await map()).toBe(0);
      expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
      await s.device.host!.memory.write(0n, fields(1));
      expect(await map()).toBe(0);
      expect(await bitmap(s.client, 0n, SIZE)).toBe(1n);
      expect(await s.client.errno(DMA_UNMAP, dmaUnmap(0n, 0n, ALL))).toBe(0);
    }
    linux.close(fd);
  });

  it('another file in the place of one that is read and written is refused', async () => {
    await using s = await serve({ device: new TrackingDevice() });
    const [a, b] = [memfd(Number(SIZE)), memfd(Number(SIZE))];
    const map = (fd: number, offset = 0n, flags = 3 | FILE_IO): Promise<number> => s.client.errno(DMA_MAP, dmaMap(0n, PAGE, offset, flags), [fd]);
    expect([await map(a), await map(a), await map(b), await map(a, PAGE), await map(a, 0n, 1 | FILE_IO), await map(a, 0n, 3)]).toEqual([0, 0, 17, 17, 17, 17]);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE))).toBe(17);
    for (const fd of [a, b]) linux.close(fd);
  });
});

it('logging ends with its session', async () => {
  const device = new TrackingDevice();
  await using server = new VfioUserServer(device, { window });
  for (let n = 0; n < 2; n++) {
    const [ours, theirs] = linux.unixSocketPair();
    server.adoptConnection(ours);
    const client = new RawClient(theirs);
    expect(await client.errno(VERSION, LVU_VERSION)).toBe(0);
    await mapped(client, 0n);
    expect(await client.errno(FEATURE, report(0n, SIZE, PAGE))).toBe(EINVAL);
    // Another page size than the session before had.
    expect(await client.errno(FEATURE, logStart(PAGE << BigInt(n)))).toBe(0);
    expect(await bitmap(client, 0n, SIZE)).toBe(0n);
    void device.host!.memory.write(0n, fields(1));
    const gone = nextEvent('disconnect');
    client.close();
    await gone;
  }
});

it('STOP needs no data, and takes some', async () => {
  await using s = await serve({ device: new TrackingDevice() });
  await mapped(s.client, 0n);
  for (const data of [new Uint8Array(0), fields(PAGE, 1, 0, 0n, PAGE)]) {
    expect(await s.client.errno(FEATURE, logStart(PAGE))).toBe(0);
    const stop = feature(SET | LOG_STOP, data);
    expect((await s.client.request(FEATURE, stop)).payload).toEqual(stop);
    expect(await s.client.errno(FEATURE, report(0n, SIZE, PAGE))).toBe(EINVAL);
  }
});
