/** Two ports, one connection: what is sent here arrives there. The package is imported by its name: its data path is built. */
import { existsSync } from 'node:fs';
import { VdevBus } from '@emudev/emudev';
import { FrameBench, expectNoLeaks, testFrame } from '@emudev/testkit';
import { describe, expect, test } from 'vitest';
import { MAX_FRAME_BYTES, MemifPort, driver } from '@emudev/net-memif';
import { Folder, connectedPair, link, started } from './support/ports.ts';

const roles = [['server to client', true], ['client to server', false]] as const;

describe.each(roles)('%s', (_, fromServer) => {
  test('100 000 frames of all lengths arrive whole, once and in order', async () => {
    using folder = new Folder();
    await using pair = await connectedPair(folder, { log2RingSize: 8, bufferBytes: 512 });
    using bench = new FrameBench();
    const [from, to] = fromServer ? [pair.server, pair.client] : [pair.client, pair.server];
    const [tx, rx] = [await bench.load(from), await bench.load(to)];
    const { u8, view } = bench.window;
    // A frame says its number and is filled with it; lengths go round from 18 to 1518 and now and then up to the longest.
    const lengthOf = (n: number): number => (n % 64 === 0 ? MAX_FRAME_BYTES - (n / 64) % 100 : 18 + (n * 7) % 1501);
    let next = 0;
    let seen = 0;
    let bytes = 0;
    while (seen < 100_000) {
      const frames = [];
      for (let n = next; n < Math.min(next + 32, 100_000); n++) {
        const frame = new Uint8Array(lengthOf(n)).fill(n & 0xff);
        new DataView(frame.buffer).setUint32(14, n);
        frames.push(frame);
      }
      next += bench.send(tx, 0, frames);
      const count = rx.rxBurst(0, bench.burst, 64);
      for (let i = 0; i < count; i++) {
        const record = bench.burst.records + 32 * i;
        const data = view.getUint32(record, true);
        const length = view.getUint32(record + 4, true);
        if (view.getUint32(data + 14) !== seen || length !== lengthOf(seen)) expect({ number: view.getUint32(data + 14), length }).toEqual({ number: seen, length: lengthOf(seen) });
        for (let b = 18; b < length; b++) if (u8[data + b] !== (seen & 0xff)) expect.fail(`frame ${seen}, byte ${b}: ${String(u8[data + b])}`);
        bytes += length;
        seen++;
      }
    }
    expect(rx.rxBurst(0, bench.burst, 64)).toBe(0);
    expect(from.stats()).toMatchObject({ opackets: 100_000n, obytes: BigInt(bytes), oerrors: 0n });
    expect(to.stats()).toMatchObject({ ipackets: 100_000n, ibytes: BigInt(bytes), ierrors: 0n });
  });

  test('a full ring takes no more, and nothing of a frame that does not fit whole', async () => {
    using folder = new Folder();
    await using pair = await connectedPair(folder, { log2RingSize: 3, bufferBytes: 64 });
    using bench = new FrameBench();
    const [from, to] = fromServer ? [pair.server, pair.client] : [pair.client, pair.server];
    const [tx, rx] = [await bench.load(from), await bench.load(to)];
    const frames = [testFrame(1, 64), testFrame(2, 65), testFrame(3, 200), testFrame(4, 100), testFrame(5, 60)];
    // 1 + 2 + 4 of 8 descriptors; the next needs two.
    expect(bench.send(tx, 0, frames)).toBe(3);
    expect(bench.send(tx, 0, frames.slice(4))).toBe(1);
    expect(bench.send(tx, 0, [testFrame(6)])).toBe(0);
    expect(bench.receive(rx, 0).map((frame) => frame.bytes)).toEqual([frames[0], frames[1], frames[2], frames[4]]);
    // Longer than the whole ring: never, so it is an error and not a full ring.
    expect(bench.send(tx, 0, [testFrame(7, 8 * 64), testFrame(8, 8 * 64 + 1), testFrame(9, MAX_FRAME_BYTES + 1)])).toBe(1);
    expect(bench.receive(rx, 0).map((frame) => frame.bytes)).toEqual([testFrame(7, 8 * 64)]);
    expect(bench.send(tx, 0, [testFrame(8, 8 * 64 + 1), testFrame(9, MAX_FRAME_BYTES + 1), testFrame(10)])).toBe(3);
    expect(from.stats()).toMatchObject({ opackets: 6n, oerrors: 2n });
    expect(bench.receive(rx, 0)).toHaveLength(1);
    expect(to.stats()).toMatchObject({ ipackets: 6n, ierrors: 0n });
  });
});

test('frames sent on a queue are received on the queue of the same number', async () => {
  using folder = new Folder();
  await using pair = await connectedPair(folder, { queues: 3 });
  using bench = new FrameBench();
  const [a, b] = [await bench.load(pair.server), await bench.load(pair.client)];
  for (const [tx, rx] of [[a, b], [b, a]] as const) {
    for (const queue of [2, 0, 1]) expect(bench.send(tx, queue, [testFrame(queue), testFrame(queue + 10)])).toBe(2);
    for (const queue of [0, 1, 2]) expect(bench.receive(rx, queue).map((frame) => [frame.queue, frame.bytes])).toEqual([[queue, testFrame(queue)], [queue, testFrame(queue + 10)]]);
  }
});

test('a client with more queues than its server uses as many as that has', async () => {
  using folder = new Folder();
  await using pair = await connectedPair(folder, { queues: 4 }, { queues: 2 });
  using bench = new FrameBench();
  const [server, client] = [await bench.load(pair.server), await bench.load(pair.client)];
  expect([0, 1, 2, 3].map((queue) => bench.send(client, queue, [testFrame(queue)]))).toEqual([1, 1, 0, 0]);
  expect([0, 1].map((queue) => bench.receive(server, queue).length)).toEqual([1, 1]);
});

test('the link follows the other end, whichever of the two is restarted', async () => {
  using folder = new Folder();
  await using pair = await connectedPair(folder);
  using bench = new FrameBench();
  const [server, client] = [await bench.load(pair.server), await bench.load(pair.client)];
  for (const restarted of [pair.server, pair.client, pair.server]) {
    const other = restarted === pair.server ? pair.client : pair.server;
    await restarted.stop();
    await link(other, false);
    expect(bench.send(server, 0, [testFrame(1)])).toBe(0);
    expect(bench.receive(client, 0)).toEqual([]);
    await restarted.start();
    await Promise.all([link(pair.server, true), link(pair.client, true)]);
    expect(bench.send(server, 0, [testFrame(2)])).toBe(1);
    expect(bench.receive(client, 0).map((frame) => frame.bytes)).toEqual([testFrame(2)]);
    expect(bench.send(client, 0, [testFrame(3)])).toBe(1);
    expect(bench.receive(server, 0).map((frame) => frame.bytes)).toEqual([testFrame(3)]);
  }
});

test('one socket serves several interfaces, told apart by their ids', async () => {
  using folder = new Folder();
  const socket = { socket: folder.socket, socketAbstract: false, reconnectMs: 10 };
  const servers = await Promise.all([1, 2].map((id) => started(MemifPort.open(`net_memif${id}`, { ...socket, role: 'server', id }))));
  expect(() => MemifPort.open('net_memif3', { ...socket, role: 'server', id: 2 })).toThrow(expect.objectContaining({ code: 'ERR_MEMIF_CONFIG' }));
  const client = await started(MemifPort.open('net_memif4', { ...socket, role: 'client', id: 2 }));
  await link(client, true);
  expect(servers.map((server) => server.link().up)).toEqual([false, true]);
  await servers[0]!.close();
  expect(existsSync(folder.socket)).toBe(true);
  expect(client.link().up).toBe(true);
  await servers[1]!.close();
  expect(existsSync(folder.socket)).toBe(false);
  await link(client, false);
  await client.close();
});

test('an abstract name joins two ports, and leaves no file', async () => {
  const socket = { socket: `emudev-memif-test-${process.pid}` };
  const server = await started(MemifPort.open('net_memif0', { ...socket, role: 'server' }));
  const client = await started(MemifPort.open('net_memif1', { ...socket, role: 'client' }));
  await link(client, true);
  expect(existsSync(socket.socket)).toBe(false);
  await client.close();
  await server.close();
});

test('a hundred connections leave nothing behind', async () => {
  using folder = new Folder();
  const once = async (): Promise<void> => {
    await using pair = await connectedPair(folder, { log2RingSize: 4 });
    await pair.client.stop();
    await link(pair.server, false);
    await pair.client.start();
    await link(pair.server, true);
  };
  await once();
  await expectNoLeaks(async () => { for (let n = 0; n < 50; n++) await once(); });
});

describe('arguments', () => {
  test('are those of DPDK', async () => {
    using folder = new Folder();
    await using bus = new VdevBus().register(driver);
    const server = (await bus.probe(`net_memif0,role=master,id=7,socket=${folder.socket},socket-abstract=no,secret=abc,mac=02:01:02:03:04:05,zero-copy=no`)).device as MemifPort;
    const client = (await bus.probe(`net_memif1,role=slave,id=7,bsize=1024,rsize=9,socket=${folder.socket},socket-abstract=no,secret=abc`)).device as MemifPort;
    expect([server.role, server.id, Buffer.from(server.info.mac!).toString('hex')]).toEqual(['server', 7, '020102030405']);
    expect([client.role, client.bufferBytes, client.log2RingSize]).toEqual(['client', 1024, 9]);
    await started(server);
    await started(client);
    await link(client, true);
  });

  test.each([
    ['zero-copy=yes', /must be no: a peer could change a frame/],
    ['rsize=15', /from 1 to 14/],
    ['bsize=10', /from 64 to 65535/],
    ['role=boss', /server, client/],
    ['secret=123456789012345678901234', /at most 23 bytes/],
    ['queues=16,rsize=14,bsize=65535', /bytes of shared memory: the limit is/],
  ])('%s is refused, and nothing stays open', async (text, message) => {
    await using bus = new VdevBus().register(driver);
    await expectNoLeaks(() => expect(bus.probe(`net_memif0,${text}`)).rejects.toThrow(message));
  });

  test('a server whose socket somebody else has says so', () => {
    expect(() => MemifPort.open('net_memif0', { role: 'server', socket: '/nowhere/s', socketAbstract: false })).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});
