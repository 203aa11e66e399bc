/** Sockets made by others, and who may be at their other end. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countOpenFds, linux, type Sys } from '@emudev/linux';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inheritedSocketKind, listenFds, VfioUserServer } from '../src/index.ts';
import { FakeDevice, nextEvent, window } from './fixture.ts';
import { fields, LVU_VERSION, RawClient } from './raw-client.ts';

let folder: string;
let path: string;
let before: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-user-activation-'));
  path = join(folder, 'device.sock');
  before = countOpenFds();
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(countOpenFds()).toBe(before);
});

describe('listenFds', () => {
  const closedOnExec: number[] = [];
  const sys: Sys = { ...linux, setCloseOnExec: (fd) => void closedOnExec.push(fd) };
  const of = (variables: Record<string, string>): { env: NodeJS.ProcessEnv; result: () => ReturnType<typeof listenFds> } => {
    const env: NodeJS.ProcessEnv = { HOME: '/', ...variables };
    return { env, result: () => listenFds({ env, pid: 42, sys }) };
  };

  it('says what systemd has passed, keeps it from children, and takes the variables away', () => {
    const { env, result } = of({ LISTEN_PID: '42', LISTEN_FDS: '3', LISTEN_FDNAMES: 'nic0:nic1' });
    expect(result()).toEqual([{ fd: 3, name: 'nic0' }, { fd: 4, name: 'nic1' }, { fd: 5, name: 'unknown' }]);
    expect(closedOnExec).toEqual([3, 4, 5]);
    expect(env).toEqual({ HOME: '/' });
    expect(result()).toEqual([]);
  });

  it.each([{}, { LISTEN_PID: '41', LISTEN_FDS: '1' }, { LISTEN_FDS: '1' }])('none without variables, or with those of another process: %o', (variables) => {
    expect(of(variables).result()).toEqual([]);
  });

  it.each(['', '0', '-1', '1e2', '99999', '1025', 'two'])('LISTEN_FDS=%o is refused', (count) => {
    expect(of({ LISTEN_PID: '42', LISTEN_FDS: count }).result).toThrow(expect.objectContaining({ code: 'ERR_SERVER_SOCKET' }) as Error);
  });
});

describe('adopt', () => {
  const info = fields(16, 0, 0, 0);

  it('listens on a listener, again and again', async () => {
    await using server = new VfioUserServer(new FakeDevice(), { window });
    server.adopt(linux.unixListen(path, 4));
    for (let i = 0; i < 3; i++) {
      const client = RawClient.connect(path);
      expect(await client.errno(1, LVU_VERSION)).toBe(0);
      expect(await client.errno(4, info)).toBe(0);
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
    }
  });

  it('serves a connection', async () => {
    await using server = new VfioUserServer(new FakeDevice(), { window });
    const [ours, theirs] = linux.unixSocketPair();
    server.adopt(ours);
    const client = new RawClient(theirs);
    expect(await client.errno(1, LVU_VERSION)).toBe(0);
    client.close();
  });

  it('refuses what is no UNIX stream socket, and leaves it open', async () => {
    await using server = new VfioUserServer(new FakeDevice(), { window });
    const fd = linux.eventfd();
    expect(() => { server.adopt(fd); }).toThrow(expect.objectContaining({ code: 'ERR_SERVER_SOCKET', errno: 88 }) as Error);
    expect(() => inheritedSocketKind(9999)).toThrow(expect.objectContaining({ code: 'EBADF' }) as Error);
    linux.close(fd);
  });
});

describe('credentials', () => {
  const [uid, gid] = [process.getuid!(), process.getgid!()];

  it.each([{ uids: [uid] }, { gids: [gid] }, { uids: [uid + 1], gids: [gid] }])('let in whoever they name: %o', async (credentials) => {
    await using server = new VfioUserServer(new FakeDevice(), { window, credentials });
    await server.listen(path);
    const client = RawClient.connect(path);
    expect(await client.errno(1, LVU_VERSION)).toBe(0);
    client.close();
  });

  it.each([{}, { uids: [uid + 1] }, { uids: [uid + 1], gids: [gid + 1] }])('nobody else: %o closes the connection, tells, and accepts the next', async (credentials) => {
    const device = new FakeDevice();
    await using server = new VfioUserServer(device, { window, credentials });
    await server.listen(path);
    for (let i = 0; i < 3; i++) {
      const told = nextEvent('fault');
      const client = RawClient.connect(path);
      await client.closed;
      expect(await told).toMatchObject({ device: 'fake', what: 'a client that is not allowed', error: { code: 'ERR_SERVER_CREDENTIALS', message: expect.stringContaining(`process ${process.pid} of user ${uid}`) as unknown } });
      client.close();
    }
    expect([device.log, server.session]).toEqual([[], undefined]);
  });

  it('count for a connection that is handed over too', async () => {
    await using server = new VfioUserServer(new FakeDevice(), { window, credentials: { uids: [uid + 1] } });
    const [ours, theirs] = linux.unixSocketPair();
    expect(() => { server.adopt(ours); }).toThrow(expect.objectContaining({ code: 'ERR_SERVER_CREDENTIALS' }) as Error);
    linux.close(ours);
    linux.close(theirs);
  });
});
