/** A connection that is lost and made again. With real processes and kill -9: reconnect.e2e.test.ts. */
import { Window } from '@emudev/dma';
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { closeSync, openSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VfioUserClient } from '../src/index.ts';
import type { ConnectOptions, ReconnectEvent, ReconnectOptions } from '../src/index.ts';
import { PathServer, smallDevice } from './path-server.ts';
import type { Handler } from './fake-server.ts';
import type { Shape } from './path-server.ts';

const path = `/tmp/vfio-user-reconnect-${process.pid}.sock`;
let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => {
  rmSync(path, { force: true });
  expect(countOpenFds()).toBe(before);
});

const serve = (shape: Shape = {}, handler: Handler = smallDevice(shape)): PathServer => new PathServer(path, handler, shape);

/** A client whose events can be waited for. */
async function connect(options: ReconnectOptions = {}, more: ConnectOptions = {}): Promise<{ client: VfioUserClient; events: ReconnectEvent[]; until: (type: ReconnectEvent['type'], count?: number) => Promise<void> }> {
  const events: ReconnectEvent[] = [];
  let wake: () => void = () => {};
  const onEvent = (event: ReconnectEvent): void => { events.push(event); wake(); };
  const client = await VfioUserClient.connect(path, { ...more, reconnect: { firstDelayMs: 1, maxDelayMs: 5, ...options, onEvent } });
  const until = async (type: ReconnectEvent['type'], count = 1): Promise<void> => {
    while (events.filter((event) => event.type === type).length < count) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { client, events, until };
}

const memfd = (): number => {
  const fd = linux.memfdCreate('ram', { allowSealing: true });
  linux.ftruncate(fd, 0x10000);
  return fd;
};

test('requests in flight reject and are not repeated; later ones wait and go in their order', async () => {
  const silent: Handler = (frame, server) => { if (frame.command !== p.VFIO_USER_DEVICE_RESET) smallDevice()(frame, server); };
  const first = serve({}, silent);
  const { client, events, until } = await connect();
  const inFlight = client.reset();
  const lost = expect(inFlight).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_LOST', errno: 104 });
  await client.read32(0, 0);
  first[Symbol.dispose]();
  await lost;
  expect(client.connected).toBe(false);
  const waiting = Promise.all([client.write32(0, 0, 1), client.write32(0, 0, 2, { posted: true }), client.read32(0, 0)]);
  await until('retry');
  using second = serve();
  const [, , value] = await waiting;
  expect(value).toBe(2);
  expect(second.last.seen.filter((frame) => frame.command === p.VFIO_USER_DEVICE_RESET)).toEqual([]);
  expect([client.connected, events.at(0)?.type, events.at(-1)?.type]).toEqual([true, 'lost', 'reconnected']);
  client.close();
  expect(await client.closed).toEqual({ reason: 'disposed' });
});

test('maps, interrupts, masks and the dirty log are told to the new server as they are now', async () => {
  const first = serve();
  const { client, until } = await connect();
  const fd = memfd();
  const eventfds = Array.from({ length: 4 }, () => linux.eventfd());
  await client.dmaMap({ iova: 0n, sizeBytes: 0x1000, readable: true, writable: true, fd });
  await client.dmaMap({ iova: 0x1000n, sizeBytes: 0x1000, readable: true, writable: true, fd, fdOffset: 0x1000 });
  await client.dmaMap({ iova: 0x2000n, sizeBytes: 0x1000, readable: true, writable: false, memory: new Uint8Array(0x1000) });
  await client.dmaUnmap(0n, 0x1000);
  await client.setIrqEventfds(2, 3, eventfds.slice(0, 3));
  await client.removeIrqEventfds(2, 4, 1);
  await client.irqs.setUnmaskEventfds(0, 0, [eventfds[3]!]);
  await client.maskIrq(2, 5);
  await client.setIrqEventfds(1, 0, [eventfds[0]!]);
  await client.clearIrqs(1);
  await client.dirtyLog.start(4096, [{ iova: 0n, length: 0x10000n }]);
  linux.close(fd);
  first[Symbol.dispose]();
  await until('lost');
  using second = serve();
  await until('reconnected');
  const told = second.last.seen;
  expect(told.filter((frame) => frame.command === p.VFIO_USER_DMA_MAP).map((frame) => ({ ...p.decodeDmaMap(frame.payload, frame.fds.length), fds: frame.fds.length }))).toMatchObject([
    { address: 0x1000n, fdOffset: 0x1000n, flags: 3, fds: 1 }, { address: 0x2000n, flags: 1, fds: 0 },
  ]);
  const irqs = told.filter((frame) => frame.command === p.VFIO_USER_DEVICE_SET_IRQS);
  expect(irqs.map((frame) => ({ ...p.decodeSetIrqs(frame.payload, frame.fds.length, () => 16), fds: frame.fds.length }))).toEqual([
    { action: 'mask', index: 2, start: 5, count: 1, data: 'none', fds: 0 },
    { action: 'trigger', index: 2, start: 3, count: 1, data: 'eventfd', fds: 1 },
    { action: 'trigger', index: 2, start: 5, count: 1, data: 'eventfd', fds: 1 },
    { action: 'unmask', index: 0, start: 0, count: 1, data: 'eventfd', fds: 1 },
  ]);
  linux.eventfdSignal(irqs[2]!.fds[0]!);
  expect(linux.eventfdDrain(eventfds[2]!)).toBe(1);
  const logging = told.find((frame) => frame.command === p.VFIO_USER_DEVICE_FEATURE)!;
  expect(p.decodeDmaLogging(p.decodeDeviceFeature(logging.payload).data)).toEqual({ pageSize: 4096n, ranges: [{ iova: 0n, length: 0x10000n }] });
  // What the lost server had logged is unknown: everything is dirty.
  expect((await client.dma.unmapDirty(0x2000n, 0x1000, 4096)).count).toBe(1);
  for (const eventfd of eventfds) linux.close(eventfd);
  client.close();
});

test('a subscription outlives the server', async () => {
  const first = serve();
  const { client, until } = await connect();
  await using irqs = await client.irqs.subscribe(2, [7]);
  first[Symbol.dispose]();
  await until('lost');
  using second = serve();
  await until('reconnected');
  linux.eventfdSignal(second.last.seen.find((frame) => frame.command === p.VFIO_USER_DEVICE_SET_IRQS)!.fds[0]!);
  expect(await irqs.next()).toMatchObject({ value: { vector: 7, count: 1 } });
  await irqs[Symbol.asyncDispose]();
  client.close();
});

test('a thousand maps of one file cost one descriptor', async () => {
  using server = serve();
  const { client } = await connect();
  const fd = memfd();
  const open = countOpenFds();
  for (let i = 0; i < 1000; i++) {
    await client.dmaMap({ iova: BigInt(i) * 0x1000n, sizeBytes: 0x1000, readable: true, writable: true, fd });
    for (const frame of server.last.seen.splice(0)) for (const passed of frame.fds) linux.close(passed);
  }
  expect(countOpenFds()).toBe(open + 1);
  await client.dmaUnmapAll();
  expect(countOpenFds()).toBe(open);
  linux.close(fd);
  client.close();
});

test('what waits is only what was asked for meanwhile: a map that waited is sent once, an unmap after the replay', async () => {
  const first = serve();
  const { client, until } = await connect();
  await client.dmaMap({ iova: 0n, sizeBytes: 0x1000, readable: true, writable: true });
  first[Symbol.dispose]();
  await until('lost');
  const waiting = [client.dmaMap({ iova: 0x1000n, sizeBytes: 0x1000, readable: true, writable: true }), client.dmaUnmap(0n, 0x1000)];
  using second = serve();
  await Promise.all(waiting);
  expect(second.last.seen.filter((frame) => [p.VFIO_USER_DMA_MAP, p.VFIO_USER_DMA_UNMAP].includes(frame.command)).map((frame) => [frame.command, p.decodeDmaUnmap(frame.payload.length === 32 ? new Uint8Array([24, ...new Uint8Array(31)]) : frame.payload).address]))
    .toEqual([[p.VFIO_USER_DMA_MAP, 0n], [p.VFIO_USER_DMA_MAP, 0n], [p.VFIO_USER_DMA_UNMAP, 0n]]);
  client.close();
});

test('the server\'s files are those of the new one', async () => {
  using window = Window.open();
  const files = [memfd(), memfd()] as const;
  linux.pwrite(files[0], Uint8Array.of(1), 0);
  linux.pwrite(files[1], Uint8Array.of(2), 0);
  const first = serve({}, smallDevice({}, undefined, files[0]));
  const { client, until } = await connect();
  using old = await client.mapRegion(0, window);
  first[Symbol.dispose]();
  await until('lost');
  // While nobody is there it waits: the old file is of no use to anybody.
  const mapped = client.mapRegion(0, window);
  using _second = serve({}, smallDevice({}, undefined, files[1]));
  using fresh = await mapped;
  expect([old, fresh].map((mapping) => window.u8[mapping.at(0, 1)!])).toEqual([1, 2]);
  for (const file of files) linux.close(file);
  client.close();
});

test('a map for writing is told again with a descriptor for writing, also where the file was mapped for reading before', async () => {
  const first = serve();
  const { client, until } = await connect();
  const file = memfd();
  const reader = openSync(`/proc/self/fd/${file}`, 'r');
  await client.dma.map({ iova: 0n, sizeBytes: 4096, readable: true, writable: false, fd: reader });
  await client.dma.map({ iova: 4096n, sizeBytes: 4096, readable: true, writable: true, fd: file });
  closeSync(reader);
  first[Symbol.dispose]();
  await until('lost');
  using second = serve();
  await until('reconnected');
  const maps = second.last.seen.filter((frame) => frame.command === p.VFIO_USER_DMA_MAP);
  expect(maps.map((frame) => p.decodeDmaMap(frame.payload, 1).address)).toEqual([0n, 4096n]);
  expect(() => linux.pwrite(maps[0]!.fds[0]!, Uint8Array.of(1), 0)).toThrow(/EBADF/);
  expect(linux.pwrite(maps[1]!.fds[0]!, Uint8Array.of(1), 0)).toBe(1);
  linux.close(file);
  client.close();
});

test.each<ReconnectOptions>([{ deadlineMs: NaN }, { deadlineMs: -1 }, { deadlineMs: 2 ** 31 }, { firstDelayMs: Infinity }, { maxDelayMs: NaN }])('times that no timer holds are found out at once: %o', async (options) => {
  using server = serve();
  await expect(connect(options)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  expect(server.connections).toEqual([]);
});

test('no deadline: attempts go on', async () => {
  const first = serve();
  const { client, until } = await connect({ deadlineMs: Infinity });
  first[Symbol.dispose]();
  await until('retry');
  using _second = serve();
  await until('reconnected');
  client.close();
});

describe('another device', () => {
  test.each<[string, Shape]>([
    ['info', { info: { flags: 2, numRegions: 9, numIrqs: 5 } }],
    ['regions', { barBytes: 8192 }],
    ['interrupts', { vectors: 8 }],
    ['room for data', { capabilities: { maxDataXferSize: 32 } }],
    ['room for descriptors', { capabilities: { maxMsgFds: 1 } }],
    ['refusals', { refuse: [p.VFIO_USER_DEVICE_GET_IRQ_INFO] }],
  ])('with other %s is not taken for the one that was there', async (_, shape) => {
    const first = serve();
    const { client, until } = await connect();
    first[Symbol.dispose]();
    await until('lost');
    const waiting = client.read32(0, 0);
    using _second = serve(shape);
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_OTHER_DEVICE' });
    expect((await client.closed).reason).toBe('reconnect-failed');
    await expect(client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_OTHER_DEVICE' });
  });

  test('without the writes in one message that it had', async () => {
    const first = serve({ capabilities: { writeMultiple: true } });
    const { client, until } = await connect();
    first[Symbol.dispose]();
    await until('lost');
    using _second = serve();
    expect(await client.closed).toMatchObject({ reason: 'reconnect-failed', error: { code: 'ERR_VFU_CLIENT_OTHER_DEVICE' } });
  });

  test('more room than before is fine', async () => {
    const first = serve();
    const { client, until } = await connect();
    first[Symbol.dispose]();
    await until('lost');
    using _second = serve({ capabilities: { maxDataXferSize: 128, maxMsgFds: 8, writeMultiple: true } });
    await until('reconnected');
    expect(client.server).toMatchObject({ maxDataXferSize: 128, maxMsgFds: 8 });
    client.close();
  });

  test.each([p.VFIO_USER_DMA_MAP, p.VFIO_USER_DEVICE_SET_IRQS])('or refuses what it had (command %s)', async (command) => {
    const first = serve();
    const { client, until } = await connect();
    await client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true });
    const fd = linux.eventfd();
    await client.setIrqEventfds(2, 0, [fd]);
    linux.close(fd);
    first[Symbol.dispose]();
    await until('lost');
    using _second = serve({ refuse: [command] });
    expect(await client.closed).toMatchObject({ reason: 'reconnect-failed', error: { code: 'ERR_VFU_CLIENT_REPLAY', errno: p.EINVAL } });
  });
});

describe('the end of the attempts', () => {
  test('the deadline: who waits gets the last failure as the cause', async () => {
    const first = serve();
    const { client } = await connect({ deadlineMs: 40 });
    first[Symbol.dispose]();
    await client.closed.then(() => {});
    await expect(client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED', message: expect.stringContaining('40 ms') as string });
    expect((await client.closed).reason).toBe('reconnect-failed');
  });

  test('a server that accepts and says nothing does not outlast it', async () => {
    const first = serve();
    const { client, until } = await connect({ deadlineMs: 100 });
    first[Symbol.dispose]();
    await until('lost');
    // Before the greeting: it answers nothing at all.
    using _silent = new PathServer(path, () => {}, { silent: true });
    expect((await client.closed).reason).toBe('reconnect-failed');
  });

  test.each(['signal', 'close'] as const)('by %s', async (how) => {
    const abort = new AbortController();
    const first = serve();
    const { client, until } = await connect({ signal: abort.signal });
    first[Symbol.dispose]();
    await until('retry', 2);
    const waiting = expect(client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
    if (how === 'signal') abort.abort();
    else client.close();
    await waiting;
    expect(await client.closed).toEqual({ reason: 'disposed' });
  });

  test('who waits can give up alone', async () => {
    const first = serve();
    const { client, until } = await connect();
    first[Symbol.dispose]();
    await until('lost');
    await expect(client.reset({ timeoutMs: 5 })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_TIMEOUT' });
    await expect(client.reset({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    const abort = new AbortController();
    const given = client.reset({ signal: abort.signal });
    abort.abort();
    await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    const all = Array.from({ length: 1025 }, () => client.reset());
    await expect(all[1024]).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BUSY' });
    client.close();
    await Promise.allSettled(all);
  });

  test('a server that lies is not connected to again', async () => {
    using server = serve({}, (frame, self) => {
      if (frame.command === p.VFIO_USER_DEVICE_RESET) self.send(p.encodeHeader({ id: 1, command: 1, size: 3, flags: 1, error: 0 }));
      else smallDevice()(frame, self);
    });
    const { client, events } = await connect();
    await expect(client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BAD_SERVER' });
    expect(await client.closed).toMatchObject({ reason: 'bad-server' });
    expect([events, server.connections.length]).toEqual([[], 1]);
  });

  test('one that is cut off inside a message is', async () => {
    const first = serve({}, (frame, self) => {
      if (frame.command !== p.VFIO_USER_DEVICE_RESET) return smallDevice()(frame, self);
      self.send(p.encodeErrorReply(frame.id, frame.command, 5).subarray(0, 7));
      first[Symbol.dispose]();
    });
    const { client, until } = await connect();
    await expect(client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_LOST' });
    using _second = serve();
    await until('reconnected');
    client.close();
  });
});

test('lost again while everything is being told: told again', async () => {
  const first = serve();
  const { client, events, until } = await connect();
  await client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true });
  first[Symbol.dispose]();
  await until('lost');
  {
    using _fickle = serve({}, (frame, self) => { if (frame.command === p.VFIO_USER_DMA_MAP) self.close(); else smallDevice()(frame, self); });
    await until('retry', 3);
  }
  using third = serve();
  await until('reconnected');
  expect(third.last.seen.filter((frame) => frame.command === p.VFIO_USER_DMA_MAP)).toHaveLength(1);
  expect(events.filter((event) => event.type === 'lost')).toHaveLength(1);
  client.close();
});

test('the device is reset first where that is wished', async () => {
  const first = serve();
  const { client, until } = await connect({ resetDevice: true });
  await client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true });
  first[Symbol.dispose]();
  await until('lost');
  using second = serve();
  await until('reconnected');
  const commands = second.last.seen.map((frame) => frame.command);
  expect(commands.slice(-2)).toEqual([p.VFIO_USER_DEVICE_RESET, p.VFIO_USER_DMA_MAP]);
  client.close();
});
