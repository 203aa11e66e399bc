import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, unlinkSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { countOpenFds } from '@emudev/linux';
import { rig } from './rig.ts';

const folder = mkdtempSync(join(tmpdir(), 'serial-socket-'));
const path = join(folder, 'far.sock');
afterAll(() => { rmSync(folder, { recursive: true }); });
let before = 0;
beforeEach(() => void (before = countOpenFds()));
// A socket that was destroyed is closed in the next turn.
afterEach(() => expect.poll(() => countOpenFds()).toBe(before));

/** Somebody at the far end; `text` is all that has come. */
class Peer implements Disposable {
  text = '';
  readonly socket: Socket;
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (data) => { this.text += data.toString('latin1'); });
    socket.on('error', () => {});
  }
  static async to(place: string): Promise<Peer> {
    const match = /^(.*):(\d+)$/.exec(place);
    const socket = match === null ? connect(place) : connect(Number(match[2]), match[1]!.replace(/[[\]]/g, ''));
    const peer = new Peer(socket);
    await once(socket, 'connect');
    return peer;
  }
  [Symbol.dispose](): void { this.socket.destroy(); }
}

describe.each([['to=tcp,listen=0', /^127\.0\.0\.1:\d+$/], ['to=tcp,listen=[::1]:0', /^\[::1\]:\d+$/], [`to=unix,listen=${path}`, /far\.sock$/]])('%s', (args, place) => {
  test('bytes both ways; carrier is the client; it may come again', async () => {
    await using r = await rig(args);
    const guest = r.ports[0]!.open();
    expect(r.backEnds[0]!.place).toMatch(place);
    expect(guest.modemStatus).toBe(0x10);
    for (const round of [1, 2]) {
      using peer = await Peer.to(r.backEnds[0]!.place);
      await r.event('present');
      expect(guest.modemStatus).toBe(0xb0);
      await guest.send(`hello ${round}`);
      await expect.poll(() => peer.text).toBe(`hello ${round}`);
      peer.socket.end('and goodbye');
      expect((await guest.receive(11)).toString()).toBe('and goodbye');
      await r.event('absent');
      expect(guest.modemStatus).toBe(0x10);
    }
  });

  test('a second client is told why, and the first keeps the line', async () => {
    await using r = await rig(args);
    const guest = r.ports[0]!.open();
    using first = await Peer.to(r.backEnds[0]!.place);
    await r.event('present');
    using second = await Peer.to(r.backEnds[0]!.place);
    await once(second.socket, 'close');
    expect(second.text).toBe('serial_be0 is in use by another client; try again later.\r\n');
    expect((await r.event('refused')).message).toMatch(/second client/);
    await guest.send('still yours');
    await expect.poll(() => first.text).toBe('still yours');
  });
});

test('what a client sent before it went waits for a guest that is not there yet', async () => {
  await using r = await rig('to=tcp,listen=0');
  {
    using peer = await Peer.to(r.backEnds[0]!.place);
    peer.socket.end('early');
    await r.event('present');
    await r.event('absent');
  }
  expect((await r.ports[0]!.open().receive(5)).toString()).toBe('early');
});

test('a client that reads nothing makes the guest wait, and costs nobody a byte', async () => {
  await using r = await rig('to=tcp,listen=0');
  const guest = r.ports[0]!.open();
  using peer = await Peer.to(r.backEnds[0]!.place);
  await r.event('present');
  // Beyond what two kernels take for one socket.
  peer.socket.pause();
  const block = Buffer.alloc(16, 'abcdefghijklmnop');
  let sent = 0;
  for (let idle = 0; idle < 200;) {
    if ((guest.lineStatus & 0x20) === 0) {
      idle++;
      await new Promise((resolve) => setImmediate(resolve));
    } else {
      idle = 0;
      for (const byte of block) guest.write(0, byte);
      sent += 16;
    }
  }
  expect(guest.lineStatus).toBe(0);
  peer.socket.resume();
  await expect.poll(() => peer.text.length, { timeout: 15_000 }).toBe(sent);
  expect(peer.text).toBe(block.toString().repeat(sent / 16));
});

test('a client that sends more than the guest takes has to wait, and every byte arrives', async () => {
  await using r = await rig(`to=unix,listen=${path}`);
  const guest = r.ports[0]!.open();
  guest.setRts(false);
  using peer = await Peer.to(path);
  await r.event('present');
  const bytes = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => i ^ i >>> 8));
  peer.socket.end(bytes);
  // Far more than the back end holds and two kernels take is left where it came from.
  let before = -1;
  await expect.poll(() => {
    const left = peer.socket.writableLength;
    const still = left === before;
    before = left;
    return still;
  }, { interval: 100 }).toBe(true);
  expect(peer.socket.writableLength).toBeGreaterThan(0);
  expect(guest.take().length).toBeLessThanOrEqual(16);
  guest.setRts(true);
  const rest = await guest.receive(bytes.length);
  expect(rest.equals(bytes)).toBe(true);
});

test('a client that reads nothing is left behind when the back end is closed', async () => {
  let peer: Peer;
  {
    await using r = await rig('to=tcp,listen=0');
    const guest = r.ports[0]!.open();
    peer = await Peer.to(r.backEnds[0]!.place);
    await r.event('present');
    peer.socket.pause();
    for (let idle = 0; idle < 200; idle++) {
      if ((guest.lineStatus & 0x20) === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      idle = 0;
      for (let i = 0; i < 16; i++) guest.write(0, 0x61);
    }
  }
  // Of the two ends one is left: that of the client, which still reads nothing.
  await expect.poll(() => countOpenFds(), { timeout: 8000 }).toBe(before + 1);
  peer.socket.destroy();
}, 10_000);

describe('connect', () => {
  async function listening(server: Server, at: { path: string } | { port: number }): Promise<void> {
    server.listen('path' in at ? at.path : { port: at.port, host: '127.0.0.1' });
    await once(server, 'listening');
  }

  test('tries until somebody listens, and again when the connection is lost', async () => {
    const server = createServer();
    await listening(server, { port: 0 });
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    await using r = await rig(`to=tcp,connect=127.0.0.1:${port}`);
    const guest = r.ports[0]!.open();
    expect((await r.event('failed')).message).toMatch(/ECONNREFUSED.*trying again/);
    const later = createServer();
    await listening(later, { port });
    for (const round of [1, 2]) {
      const [socket] = (await once(later, 'connection')) as [Socket];
      using peer = new Peer(socket);
      await r.event('present');
      peer.socket.write(`round ${round}`);
      expect((await guest.receive(7)).toString()).toBe(`round ${round}`);
      peer.socket.destroy();
      await r.event('absent');
    }
    await new Promise((resolve) => later.close(resolve));
  });

  test('to a UNIX socket', async () => {
    const server = createServer();
    await listening(server, { path });
    const connection = once(server, 'connection');
    {
      await using r = await rig(`to=unix,connect=${path}`);
      const guest = r.ports[0]!.open();
      using peer = new Peer((await connection)[0] as Socket);
      await r.event('present');
      await guest.send('over unix');
      await expect.poll(() => peer.text).toBe('over unix');
    }
    await new Promise((resolve) => server.close(resolve));
  });
});

test('a UNIX socket is removed at the end, and one that is in use is not taken away', async () => {
  {
    await using _r = await rig(`to=unix,listen=${path}`);
    expect(existsSync(path)).toBe(true);
    await expect(rig(`to=unix,listen=${path}`)).rejects.toMatchObject({ code: 'EADDRINUSE' });
    expect(existsSync(path)).toBe(true);
  }
  expect(existsSync(path)).toBe(false);
});

test('a UNIX socket that somebody else has put into its place stays', async () => {
  const other = createServer();
  {
    await using _r = await rig(`to=unix,listen=${path}`);
    unlinkSync(path);
    other.listen(path);
    await once(other, 'listening');
  }
  expect(existsSync(path)).toBe(true);
  await new Promise((resolve) => other.close(resolve));
});

test.each([
  ['to=tcp', /one of listen= and connect=/],
  ['to=tcp,listen=1,connect=h:2', /one of listen= and connect=/],
  ['to=tcp,listen=nowhere', /\[HOST:\]PORT/],
  ['to=tcp,listen=99999', /\[HOST:\]PORT/],
  ['to=tcp,connect=5000', /HOST:PORT/],
  ['to=tcp,connect=h:0', /HOST:PORT/],
  ['to=pty,listen=1', /for to=tcp and to=unix/],
  [`to=tcp,listen=0,link=${path}`, /link= is for to=pty/],
  ['to=fax', /pty, tcp, unix, stdio/],
  ['port=2', /0 to 1/],
  ['when-absent=cry', /discard, hold/],
])('%s is refused with what would be right', async (args, message) => {
  await expect(rig(args)).rejects.toThrow(expect.objectContaining({ code: 'EMUDEV_BAD_ARG', message: expect.stringMatching(message) as string }));
});

test('no card of that name, a port that has a back end already', async () => {
  await using r = await rig('to=pty');
  await expect(r.bus.probe('serial_be1,emu=emu_serial5')).rejects.toMatchObject({ code: 'EMUDEV_NOENT' });
  await expect(r.bus.probe('serial_be1,emu=emu_serial0,port=0')).rejects.toMatchObject({ code: 'EMUDEV_EXISTS' });
  // The one that was there works on.
  const guest = r.ports[0]!.open();
  await guest.send('x');
  expect(r.backEnds[0]!.counters.fromGuest).toBe(1);
});
