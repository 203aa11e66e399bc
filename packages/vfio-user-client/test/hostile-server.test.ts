/** A server that lies, stops or leaves: a typed error for every caller, nothing left open. */
import { countOpenFds, linux, withFaults } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CHANNEL, MAX_ABANDONED_REQUESTS, MAX_QUEUED_BYTES, MAX_SERVER_REQUESTS } from '../src/index.ts';
import type { ClientErrorCode, ClientEvent, VfioUserClient } from '../src/index.ts';
import { attach, connectTo } from './fake-server.ts';
import type { Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

const BAD: ClientErrorCode = 'ERR_VFU_CLIENT_BAD_SERVER';
const withMemfd = (use: (fd: number) => void): void => {
  const fd = linux.memfdCreate('stray', { allowSealing: false });
  use(fd);
  linux.close(fd);
};

describe('lies that end the connection', () => {
  const header = (id: number, command: number, size: number, flags = 1): Uint8Array => p.encodeHeader({ id, command, size, flags, error: 0 });
  const read4 = (offset: number, region: number, data: number): Uint8Array => p.encodeRegionData(offset, region, new Uint8Array(data));

  test.each<[string, Handler]>([
    ['a reply that is too long', (f, s) => s.reply(f, read4(0, 2, 5))],
    ['a reply that is too short', (f, s) => s.reply(f, new Uint8Array(15))],
    ['less data than its count', (f, s) => s.reply(f, read4(0, 2, 4).subarray(0, 18))],
    ['another offset', (f, s) => s.reply(f, read4(4, 2, 4))],
    ['another region', (f, s) => s.reply(f, read4(0, 3, 4))],
    ['an unknown id', (f, s) => s.send(p.encodeMessage(f.id + 1, f.command, 1, read4(0, 2, 4)))],
    ['another command', (f, s) => s.send(p.encodeMessage(f.id, p.VFIO_USER_REGION_WRITE, 1, read4(0, 2, 0)))],
    ['a reserved type', (f, s) => s.send(header(f.id, f.command, 16, 2))],
    ['the reply twice', (f, s) => s.send(Uint8Array.from([...p.encodeErrorReply(f.id, f.command, 5), ...p.encodeErrorReply(f.id, f.command, 5)]))],
    ['a message of 15 bytes', (f, s) => s.send(header(f.id, f.command, 15))],
    ['a message of 4 GiB', (f, s) => s.send(header(f.id, f.command, 0xffff_ffff))],
    ['more descriptors than announced', (f, s) => withMemfd((fd) => s.reply(f, read4(0, 2, 4), new Array<number>(17).fill(fd)))],
    ['the end in the middle of a header', (f, s) => (s.send(header(f.id, f.command, 36).subarray(0, 9)), s.close())],
    ['the end in the middle of a payload', (f, s) => withMemfd((fd) => (s.send(p.encodeMessage(f.id, f.command, 1, read4(0, 2, 4)).subarray(0, 30), [fd]), s.close()))],
    ['more DMA messages than anybody needs', (_, s) => {
      const ask = p.encodeMessage(1, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: 0n, count: 4 }));
      s.send(Uint8Array.from({ length: ask.length * (MAX_SERVER_REQUESTS + 1) }, (_unused, i) => ask[i % ask.length]!));
    }],
  ])('%s', async (_, lie) => {
    using at = await attach(lie);
    const { client } = at;
    const results = await Promise.allSettled([client.read(2, 0, 4), client.closed]);
    const closed = await client.closed;
    expect(closed.reason).toBe('bad-server');
    expect(results[0]).toMatchObject({ status: 'rejected' });
    await expect(client.reset(), 'and stays closed').rejects.toMatchObject({ code: BAD });
  });

  test('what is in flight rejects with the reason', async () => {
    using at = await attach((frame, server) => {
      if (frame.command === p.VFIO_USER_DEVICE_RESET) server.send(header(999, 9, 16));
    });
    const pending = [at.client.read(2, 0, 4), at.client.irqInfo(0), at.client.reset()];
    for (const result of await Promise.allSettled(pending)) expect(result).toMatchObject({ status: 'rejected', reason: { code: BAD, errno: 71 } });
  });
});

describe('greetings', () => {
  const version = (answer: Uint8Array, info: p.DeviceInfo = { flags: 2, numRegions: 9, numIrqs: 5 }): Handler => (frame, server) =>
    server.reply(frame, frame.command === p.VFIO_USER_VERSION ? answer : p.encodeDeviceInfo(info));
  const ok = p.encodeVersion({ major: 0, minor: 2, capabilities: {} });
  test.each<[string, Handler, ClientErrorCode]>([
    ['a higher minor than proposed', version(p.encodeVersion({ major: 0, minor: 3, capabilities: {} })), BAD],
    ['another major', version(p.encodeVersion({ major: 1, minor: 0, capabilities: {} })), BAD],
    ['malformed JSON', version(Uint8Array.of(0, 0, 2, 0, 0x7b, 0)), BAD],
    ['a twin socket nobody asked for', version(p.encodeVersion({ major: 0, minor: 2, capabilities: { twinSocket: { supported: true, fdIndex: 0 } } })), BAD],
    ['more regions than anybody has', version(ok, { flags: 2, numRegions: 101, numIrqs: 5 }), BAD],
    ['more interrupt indexes than anybody has', version(ok, { flags: 2, numRegions: 9, numIrqs: 51 }), BAD],
    ['a refusal', (frame, server) => server.refuse(frame, p.EINVAL), 'ERR_VFU_CLIENT_REFUSED'],
    ['a hang-up', (_, server) => server.close(), 'ERR_VFU_CLIENT_CLOSED'],
    ['silence', () => {}, 'ERR_VFU_CLIENT_TIMEOUT'],
  ])('%s', async (_, handler, code) => {
    await expect(connectTo(handler, { timeoutMs: 50 })).rejects.toMatchObject({ code });
  });
});

describe('answers that never or hardly come', () => {
  test('a time-out is typed, a late answer is dropped with its descriptors, the connection goes on', async () => {
    const held: p.Frame[] = [];
    using at = await attach((frame, server) => {
      if (frame.command === p.VFIO_USER_REGION_READ) return void held.push(frame);
      for (const late of held.splice(0)) withMemfd((fd) => server.reply(late, p.encodeRegionData(0, 2, new Uint8Array(4)), [fd]));
      server.reply(frame);
    }, { timeoutMs: 30 });
    await expect(at.client.read(2, 0, 4)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_TIMEOUT', errno: 110 });
    await at.client.reset();
    await at.client.reset();
  });

  test('a server that answers nothing at all is given up in the end', async () => {
    using at = await attach(() => {}, { timeoutMs: 20 });
    const all = await Promise.allSettled(Array.from({ length: MAX_ABANDONED_REQUESTS + 2 }, () => at.client.reset()));
    expect(all.every((result) => result.status === 'rejected')).toBe(true);
    expect((await at.client.closed).reason).toBe('bad-server');
  });

  test('too many requests in flight are refused, not kept', async () => {
    using at = await attach(() => {});
    const all = Array.from({ length: 1025 }, () => at.client.reset());
    await expect(all[1024]).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BUSY' });
    at.client.close();
    for (const result of await Promise.allSettled(all.slice(0, 1024))) expect(result).toMatchObject({ reason: { code: 'ERR_VFU_CLIENT_CLOSED' } });
  });

  test('stray descriptors on an answer are closed, the answer counts', async () => {
    using at = await attach((frame, server) => withMemfd((fd) => server.reply(frame, new Uint8Array(0), [fd, fd])));
    await at.client.reset();
  });

  test('a short transfer is an error of its own', async () => {
    using at = await attach((frame, server) => server.reply(frame, p.encodeRegionData(0, 2, new Uint8Array(3))));
    await expect(at.client.read(2, 0, 4)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_SHORT' });
    expect(await at.client.read(2, 0, 3)).toHaveLength(3);
  });

  test('an error answer with a body, as libvfio-user sends, leaves the stream in step', async () => {
    using at = await attach((frame, server) => {
      if (frame.command !== p.VFIO_USER_REGION_READ) return server.reply(frame);
      const message = p.encodeMessage(frame.id, frame.command, 0x21, new Uint8Array(20));
      message[12] = 22;
      server.send(message);
    });
    await expect(at.client.read(2, 0, 4)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED', errno: 22 });
    await at.client.reset();
  });
});

describe('the end', () => {
  const everything = (client: VfioUserClient): Promise<unknown>[] => [client.read(2, 0, 4), client.write(2, 0, new Uint8Array(4)), client.irqInfo(0), client.regionInfo(0), client.reset(), client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true })];

  test('the server leaves: everything in flight and everything later rejects', async () => {
    using at = await attach((frame, server) => {
      if (frame.command === p.VFIO_USER_DMA_MAP) server.close();
    });
    for (const result of await Promise.allSettled(everything(at.client))) expect(result).toMatchObject({ reason: { code: 'ERR_VFU_CLIENT_CLOSED' } });
    expect(await at.client.closed).toEqual({ reason: 'server-closed' });
    for (const result of await Promise.allSettled(everything(at.client))) expect(result).toMatchObject({ reason: { code: 'ERR_VFU_CLIENT_CLOSED', errno: 107 } });
  });

  test('an answer that arrived before the server left is heard, although sending fails first', async () => {
    using at = await attach((frame, server) => {
      server.reply(frame);
      server.close();
    });
    const first = at.client.reset();
    await at.server.ended;
    const second = at.client.reset();
    await first;
    await expect(second).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  });

  test('disposing rejects what is in flight and resolves closed', async () => {
    const attached = await attach(() => {});
    const pending = attached.client.reset();
    const rejected = expect(pending).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
    await attached.client[Symbol.asyncDispose]();
    await rejected;
    expect(await attached.client.closed).toEqual({ reason: 'disposed' });
    await attached.server.ended;
  });

  test('who listens to the channel sees requests, frames and the end', async () => {
    const seen: string[] = [];
    const listen = (event: unknown): void => void seen.push((event as ClientEvent).type);
    subscribe(CHANNEL, listen);
    {
      using at = await attach((frame, server) => server.reply(frame));
      await at.client.reset();
    }
    unsubscribe(CHANNEL, listen);
    expect(seen).toEqual(['request', 'frame', 'request', 'frame', 'request', 'frame', 'closed']);
  });
});

describe('a socket under pressure', () => {
  test('messages the kernel takes in parts arrive whole, in order, descriptors with their own', async () => {
    // Far more than a socket buffer, while the server is not reading.
    const writes: number[] = [];
    let fdsAt = -1;
    using at = await attach((frame, server) => {
      if (frame.command === p.VFIO_USER_REGION_WRITE) return void writes.push(p.decodeRegionWrite(frame.payload, 64).data[0]!);
      if (frame.fds.length > 0) fdsAt = writes.length;
      server.reply(frame);
    });
    const posted = Array.from({ length: 1000 }, (_, i) => at.client.write(2, 0, new Uint8Array(64).fill(i & 255), { posted: true }));
    const fd = linux.eventfd();
    const irqs = at.client.setIrqEventfds(2, 0, [fd]);
    await Promise.all([...posted, irqs]);
    linux.close(fd);
    expect(writes).toEqual(Array.from({ length: 1000 }, (_, i) => i & 255));
    expect(fdsAt).toBe(1000);
  });

  test('sendmsg that takes a few bytes at a time, or none', async () => {
    let turn = 0;
    const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (turn++ % 3 === 0 ? undefined : linux.sendmsg(fd, bytes.subarray(0, 7), fds)) };
    using at = await attach((frame, server) => server.reply(frame), { sys });
    const fd = linux.eventfd();
    await Promise.all([at.client.reset(), at.client.setIrqEventfds(2, 0, [fd]), at.client.reset()]);
    linux.close(fd);
    expect(at.server.seen.map((frame) => [frame.command, frame.fds.length])).toEqual([[13, 0], [8, 1], [13, 0]]);
  });

  test.each(['sendmsg', 'recvmsg'] as const)('%s fails: the connection ends with the cause', async (call) => {
    let sound = true;
    const broken = withFaults(linux, [{ call, nth: 1, errno: 'ECONNRESET' }]);
    const sys: Sys = { ...linux, [call]: (...args: never[]) => ((sound ? linux : broken)[call] as (...args: never[]) => unknown)(...args) };
    using at = await attach((frame, server) => server.reply(frame), { sys });
    sound = false;
    await expect(at.client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED', cause: { code: 'ECONNRESET' } });
    expect((await at.client.closed).reason).toBe('io-error');
  });

  test('a server that asks for memory and does not read the answers: they wait, bounded, and leave when it does', async () => {
    let reads = 0;
    const answers: number[] = [];
    let complete: () => void = () => {};
    const all = new Promise<void>((resolve) => (complete = resolve));
    using at = await attach((frame, server) => {
      if (!p.isReply(frame.flags)) return server.reply(frame);
      if (answers.push(frame.id) === 40) complete();
    }, { dma: { read: () => void reads++, write: () => {} }, timeoutMs: 100 });
    await at.client.dmaMap({ iova: 0n, sizeBytes: 1 << 20, readable: true, writable: true });
    at.server.deafen();
    for (let id = 0; id < 40; id++) at.server.send(p.encodeMessage(id, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: 0n, count: 1 << 20 })));
    await expect(at.client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_TIMEOUT' });
    expect(reads).toBeLessThanOrEqual(MAX_QUEUED_BYTES / (1 << 20) + 1);
    at.server.hear();
    await all;
    expect(answers).toEqual(Array.from({ length: 40 }, (_, id) => id));
  });
});
