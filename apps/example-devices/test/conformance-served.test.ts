/** What libvfio-user's `samples/client` does, step by step, with our own client: two servers, one after the other. */
import { createHash, randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { countOpenFds, linux } from '@emudev/linux';
import { Window } from '@emudev/dma';
import { ConformanceDevice } from '../src/index.ts';
import { memfd, serve, type Served } from './served.ts';

const PAGE = 0x1000;
const PIECE = 1024;
const [INTX, ERR, REQ] = [0, 3, 4];
const i64 = (value: bigint): Uint8Array => new Uint8Array(BigInt64Array.of(value).buffer);
const seconds = (): bigint => BigInt(Math.floor(Date.now() / 1000));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const LETTERS = ['A', 'B', 'C', 'D'].map((letter) => letter.repeat(PIECE)).join('');

/** The client's memory: 16 pages of one file; DMA messages are served from it. */
function guestMemory(): { fd: number; messages: string[]; page(n: number): string; serving: Parameters<typeof serve>[1] } {
  const fd = memfd(16 * PAGE);
  const messages: string[] = [];
  return {
    fd, messages,
    page: (n) => {
      const bytes = new Uint8Array(PAGE);
      linux.pread(fd, bytes, n * PAGE);
      return Buffer.from(bytes).toString('latin1');
    },
    serving: {
      capabilities: { maxDataXferSize: PIECE },
      dma: {
        read: (iova, into) => {
          messages.push(`read 0x${iova.toString(16)} ${into.length}`);
          linux.pread(fd, into, Number(iova));
        },
        write: (iova, from) => {
          messages.push(`write 0x${iova.toString(16)} ${from.length}`);
          linux.pwrite(fd, from, Number(iova));
        },
      },
    },
  };
}
const expectedMessages = (base: number): string[] => ['write', 'read'].flatMap((kind) => [0, 1, 2, 3].map((i) => `${kind} 0x${(base + i * PIECE).toString(16)} ${PIECE}`));

async function mapPages({ client }: Served, fd: number, from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) await client.dmaMap({ iova: BigInt(i * PAGE), sizeBytes: PAGE, readable: true, writable: true, fd, fdOffset: i * PAGE });
}

it('serves the whole script, and goes on in another process where it stopped', async () => {
  const before = countOpenFds();
  using window = Window.open();
  const { fd, messages, page, serving } = guestMemory();
  const device = new ConformanceDevice();
  {
    await using source = await serve(device, serving);
    const { client } = source;
    await expect(client.read(0xdeadbeef, 0, 4)).rejects.toThrow();
    expect(client.info).toMatchObject({ flags: 3, numRegions: 9, numIrqs: 5 });
    expect(await Promise.all([0, 1, 2, 3, 4, 5, 6, 7, 8].map(async (i) => (await client.regionInfo(i)).sizeBytes))).toEqual([8, 0x3000, 0, 0, 0, 0, 0, 256, 0]);
    const config = await client.read(7, 0, 64);
    expect([hex(config.subarray(0, 4)), hex(config.subarray(0x10, 0x28))]).toEqual(['addeefbe', '01000000'.repeat(6)]);
    await client.reset();
    await mapPages(source, fd, 0, 16);
    expect(await Promise.all([0, 1, 2, 3, 4].map(async (i) => (await client.irqInfo(i)).count))).toEqual([1, 0, 0, 1, 1]);

    // A mapping of BAR1 and messages meet the same memory.
    using bar1 = await client.mapRegion(1, window);
    const [first, last] = bar1.areas;
    expect([first!.offset, last!.offset, bar1.areas.length]).toEqual([0, 0x2000, 2]);

    await using irq = await client.irqs.subscribe(INTX, [0]);
    await client.dirtyLog.start(PAGE);
    await client.write(0, 0, i64(seconds() + 1n));
    expect(hex(await client.read(0, 0, 8))).toBe('ff'.repeat(8));
    expect((await irq.next()).value).toEqual({ vector: 0, count: 1 });
    await expect.poll(() => device.dma).toMatchObject({ good: 2, bad: 0 });
    expect(messages).toEqual(expectedMessages(0));
    expect([page(0), page(1), page(2)]).toEqual([LETTERS, LETTERS, '\0'.repeat(PAGE)]);
    const dirty = [];
    for (let i = 0; i < 16; i++) dirty.push((await client.dirtyLog.report(BigInt(i * PAGE), BigInt(PAGE), PAGE)).count);
    expect(dirty).toEqual([1, 1, ...Array<number>(14).fill(0)]);
    await client.dirtyLog.stop();
    for (let i = 0; i < 8; i++) await client.dmaUnmap(BigInt(i * PAGE), PAGE);

    await client.write(0, 0, i64(seconds() + 3n));
    expect(await client.migration.capabilities()).toEqual({ stopCopy: true, preCopy: true, peerToPeer: false });
    await client.migration.setState('pre-copy');
    const content = new Uint8Array(randomBytes(0x3000));
    for (let i = 0; i < 12; i++) {
      expect((await client.migration.read(PIECE)).length).toBe(PIECE);
      await client.write(1, 0, content);
    }
    await client.migration.setState('stop-copy');
    const pieces: Uint8Array[] = [];
    for await (const piece of client.migration.save()) pieces.push(piece);
    expect(pieces.map((p) => p.length)).toEqual([...Array<number>(12).fill(PIECE), 8]);
    await client.migration.setState('stop');

    messages.length = 0;
    const other = new ConformanceDevice();
    await using destination = await serve(other, serving);
    await destination.client.migration.setState('resuming');
    await destination.client.migration.restore(pieces);
    await destination.client.migration.setState('stop');
    expect(digest(await destination.client.read(1, 0, 0x3000))).toBe(digest(content));
    await destination.client.migration.setState('running');
    await mapPages(destination, fd, 8, 16);
    await using itsIrq = await destination.client.irqs.subscribe(INTX, [0]);
    expect((await itsIrq.next()).value).toEqual({ vector: 0, count: 1 });
    await expect.poll(() => other.dma).toMatchObject({ good: 2, bad: 0 });
    expect(messages).toEqual(expectedMessages(0x8000));
    expect([page(8), page(9)]).toEqual([LETTERS, LETTERS]);
    await destination.client.dmaUnmapAll();

    // The error and request interrupts, which the sample never raises.
    await using errors = await destination.client.irqs.subscribe(ERR, [0]);
    expect(other.raiseError()).toBe(true);
    expect((await errors.next()).value).toEqual({ vector: 0, count: 1 });
    expect((await destination.client.irqInfo(REQ)).count).toBe(1);
  }
  linux.close(fd);
  expect(countOpenFds()).toBe(before);
});
