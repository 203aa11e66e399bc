import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import { afterAll, describe, expect, it } from 'vitest';
import { VfioUserServer, type DisconnectReason } from '../src/index.ts';
import { FakeDevice, memfd, nextEvent, window } from './fixture.ts';
import { fields, LVU_VERSION, QEMU_VERSION, RawClient, u32 } from './raw-client.ts';

const [VERSION, DMA_MAP, GET_INFO, SET_IRQS, READ, WRITE] = [1, 2, 4, 8, 9, 10];
const directory = mkdtempSync(join(tmpdir(), 'vfio-user-server-'));
afterAll(() => { rmSync(directory, { recursive: true }); });
let sockets = 0;
const socketPath = (): string => join(directory, `${++sockets}.sock`);

async function negotiated(path: string): Promise<RawClient> {
  const client = RawClient.connect(path);
  await client.request(VERSION, LVU_VERSION);
  return client;
}

describe('one server', () => {
  it('has a socket file that nobody else could open for a moment', async () => {
    const modes: number[] = [];
    const unixListen = (path: string, backlog: number): number => {
      const fd = linux.unixListen(path, backlog);
      modes.push(statSync(path).mode & 0o777);
      return fd;
    };
    const umask = process.umask(0);
    await using server = new VfioUserServer(new FakeDevice(), { window, sys: { ...linux, unixListen } });
    await server.listen(socketPath());
    expect([modes, process.umask(umask)]).toEqual([[0o600], 0]);
  });

  it('serves 50 clients after each other without keeping anything of them', async () => {
    const device = new FakeDevice();
    const path = socketPath();
    await using server = new VfioUserServer(device, { window });
    await server.listen(path);
    const ends: DisconnectReason[] = [];
    using _observer = server.onSession({ detached: (_session, reason) => ends.push(reason) });
    let before: { fds: number; mappings: number } | undefined;
    for (let i = 0; i < 50; i++) {
      const client = await negotiated(path);
      const [fd, event] = [memfd(0x4000), linux.eventfd()];
      expect(await client.errno(DMA_MAP, fields(32, 3, 0n, 0x10000n, 0x4000n), [fd])).toBe(0);
      expect(await client.errno(SET_IRQS, fields(20, 0x24, 2, 0, 1), [event])).toBe(0);
      linux.close(fd);
      linux.close(event);
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
      const now = { fds: countOpenFds(), mappings: countMappings('memfd:ram') };
      before ??= now;
      expect(now).toEqual(before);
    }
    expect(ends).toEqual(Array(50).fill('closed'));
    expect(device.log.filter((l) => l === 'attach')).toHaveLength(50);
    expect(window.mappingCount).toBe(0);
  });

  it('lets a second client wait until the first has gone, and tells observers of both', async () => {
    const path = socketPath();
    await using server = new VfioUserServer(new FakeDevice(), { window });
    await server.listen(path);
    const seen: string[] = [];
    using _observer = server.onSession({ attached: (s) => seen.push(`attached ${s.id} ${s.peer!.name}`), detached: (s, reason) => seen.push(`detached ${s.id} ${reason}`) });
    const first = await negotiated(path);
    const second = RawClient.connect(path);
    const answer = second.request(VERSION, QEMU_VERSION);
    expect(await first.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
    expect(second.received).toBe(0);
    first.close();
    expect((await answer).errno).toBe(0);
    expect(seen).toEqual(['attached 1 libvfio-user', 'detached 1 closed', 'attached 2 qemu']);
    expect(server.session).toMatchObject({ id: 2, state: 'ready' });
    second.close();
  });

  it('publishes what it negotiated', async () => {
    const path = socketPath();
    await using server = new VfioUserServer(new FakeDevice(), { window });
    await server.listen(path);
    const [connect, event] = [nextEvent('connect'), nextEvent('negotiated')];
    const client = RawClient.connect(path);
    await client.request(VERSION, QEMU_VERSION);
    expect(await connect).toEqual({ device: 'fake', session: 1 });
    expect(await event).toMatchObject({ device: 'fake', session: 1, peer: 'qemu', minor: 0, dmaDialect: 'qemu', capabilities: { maxMsgFds: 16, writeMultiple: true } });
    client.close();
  });

  it('makes a socket only its owner can open, replaces a stale one, and removes its own', async () => {
    const path = socketPath();
    linux.close(linux.unixListen(path, 1));
    const server = new VfioUserServer(new FakeDevice(), { window });
    await server.listen(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await using rival = new VfioUserServer(new FakeDevice(), { window });
    await expect(rival.listen(path)).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await server.close();
    expect(existsSync(path)).toBe(false);
    await using other = new VfioUserServer(new FakeDevice(), { window });
    await other.listen(path);
    rmSync(path);
    writeFileSync(path, 'somebody else\'s');
    await other.close();
    expect(existsSync(path)).toBe(true);
  });

  it('closed in the middle of a session detaches the device first, once, and refuses to start again', async () => {
    const device = new FakeDevice();
    const path = socketPath();
    const server = new VfioUserServer(device, { window });
    await server.listen(path);
    const client = await negotiated(path);
    await client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n));
    device.take();
    let maps = -1;
    device.detach = (reason) => {
      device.log.push(`detach ${reason}`);
      maps = server.session!.dmaMaps;
    };
    await Promise.all([server.close(), server.close()]);
    expect(device.take()).toEqual(['quiesce detach', 'detach server-closed', 'resume']);
    expect(maps).toBe(1);
    await client.closed;
    client.close();
    await expect(server.listen(path)).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' });
  });

  it('takes a listener or a connection from somebody else, one at a time', async () => {
    const path = socketPath();
    await using server = new VfioUserServer(new FakeDevice(), { window });
    server.adoptListener(linux.unixListen(path, 1));
    const client = await negotiated(path);
    const [a, b] = linux.unixSocketPair();
    expect(() => { server.adoptConnection(a); }).toThrow(/is listening/);
    linux.close(a);
    linux.close(b);
    client.close();
  });

  it('goes on accepting after accept has failed', async () => {
    const path = socketPath();
    await using server = new VfioUserServer(new FakeDevice(), { window, sys: withFaults(linux, [{ call: 'unixAccept', nth: 1, errno: 'EMFILE' }]) });
    await server.listen(path);
    const fault = nextEvent('fault');
    const client = await negotiated(path);
    expect(await fault).toMatchObject({ what: 'accept', error: { code: 'EMFILE' } });
    client.close();
  });

  it('refuses a device whose description contradicts itself', () => {
    const twice = new FakeDevice();
    twice.regions.push(twice.regions[0]!);
    expect(() => new VfioUserServer(twice, { window })).toThrow(/described twice/);
    const outside = new FakeDevice();
    outside.regions.push({ index: 1, sizeBytes: 4096, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 8192 }], backing: { fd: 0, offset: 0 } } });
    expect(() => new VfioUserServer(outside, { window })).toThrow(/not inside/);
  });
});

describe('several servers in a process', () => {
  it('share nothing but the window', async () => {
    const paths = [socketPath(), socketPath(), socketPath()];
    const devices = paths.map(() => new FakeDevice());
    const servers = await Promise.all(paths.map(async (path, i) => {
      const server = new VfioUserServer(devices[i]!, { window });
      await server.listen(path);
      return server;
    }));
    const clients = await Promise.all(paths.map(negotiated));
    const ram = memfd(0x1000);
    linux.pwrite(ram, fields(0xabcd), 0);
    await Promise.all(clients.map((client, i) => client.errno(DMA_MAP, fields(32, 3, 0n, BigInt(i) << 20n, 0x1000n), [ram])));
    await Promise.all(clients.map((client, i) => client.errno(WRITE, fields(0n, 0, 4, 100 + i))));
    const values = await Promise.all(clients.map(async (client) => u32((await client.request(READ, fields(0n, 0, 4))).payload, 16)));
    expect(values).toEqual([100, 101, 102]);
    // The same IOVA is mapped for one device only.
    expect(devices.map((device) => device.host!.memory.translate(1n << 20n, 4, 'read') !== undefined)).toEqual([false, true, false]);
    clients[0]!.close();
    await servers[0]!.close();
    expect(await clients[1]!.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
    for (const client of clients) client.close();
    for (const server of servers) await server.close();
    linux.close(ram);
  });
});
