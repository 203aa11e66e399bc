import { existsSync, lstatSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { countOpenFds, linux } from '@emudev/linux';
import { encodeMessage, encodeVersion, newMessage } from '@emudev/vfio-user-protocol';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_DESCRIBED_FDS, MAX_HELD_RUNS, MAX_SESSIONS, MAX_WHOLE_MESSAGE_BYTES } from '../src/limits.ts';
import { Channel } from '../src/trace/channel.ts';
import { Forwarder } from '../src/trace/forwarder.ts';
import { TraceProxy } from '../src/trace/proxy.ts';
import { memfd, proxied, Raw, recorder, temporaryFolder, until } from './wire.ts';

let before: number;
beforeEach(() => { before = countOpenFds(); });
afterEach(() => { expect(countOpenFds()).toBe(before); });

interface Part {
  readonly bytes: Uint8Array;
  readonly fds: number;
}

const message = fc.tuple(fc.nat(0xffff), fc.integer({ min: 1, max: 20 }), fc.uint8Array({ maxLength: 300 }))
  .map(([id, command, payload]) => encodeMessage(id, command, 0, payload));

/** Sends as told, in pieces; a new file for each descriptor, whose size tells which it is. */
async function send(to: { send(bytes: Uint8Array, fds?: readonly number[]): Promise<void> }, parts: readonly Part[], firstSize: number): Promise<void> {
  let size = firstSize;
  for (const { bytes, fds } of parts) {
    if (bytes.length === 0) continue;
    const files = Array.from({ length: fds }, () => memfd(size++));
    await to.send(bytes, files);
    for (const fd of files) linux.close(fd);
  }
}

describe('what goes in comes out', () => {
  it('messages in any pieces, each with its descriptors', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.tuple(message, fc.nat(3), fc.array(fc.nat(330), { maxLength: 3 })), { minLength: 1, maxLength: 20 }), async (messages) => {
      using wire = await proxied();
      let size = 1;
      const expected: { at: number; sizes: number[] }[] = [];
      let at = 0;
      for (const [bytes, fds, cuts] of messages) {
        if (fds > 0) expected.push({ at, sizes: Array.from({ length: fds }, (_, i) => size + i) });
        const edges = [...new Set([0, ...cuts.filter((c) => c < bytes.length), bytes.length])].sort((a, b) => a - b);
        await send(wire.client, edges.slice(1).map((end, i) => ({ bytes: bytes.subarray(edges[i], end), fds: i === 0 ? fds : 0 })), size);
        size += fds;
        at += bytes.length;
        // A receive of everything there is ends where a sendmsg with descriptors ends; without, messages are told apart by waiting for each.
        await until(() => wire.server.read() && wire.server.got.length === at, 'the message');
      }
      expect(Uint8Array.from(wire.server.got)).toEqual(Uint8Array.from(messages.flatMap(([bytes]) => [...bytes])));
      expect(wire.server.files).toEqual(expected);
      expect(wire.seen.messages.map((m) => [m.framing, m.size, m.fds.length])).toEqual(messages.map(([bytes, fds]) => ['whole', bytes.length, fds]));
    }), { numRuns: 30 });
  });

  it('arbitrary bytes in arbitrary pieces with descriptors: in order, none lost, none added', async () => {
    const part = fc.record({ bytes: fc.uint8Array({ minLength: 1, maxLength: 600 }), fds: fc.nat(4) });
    await fc.assert(fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 12 }), fc.array(part, { maxLength: 12 }), async (up, down) => {
      using wire = await proxied();
      await Promise.all([send(wire.client, up, 1), send(wire.server, down, 10_001)]);
      for (const [from, to, parts, first] of [[wire.client, wire.server, up, 1], [wire.server, wire.client, down, 10_001]] as const) {
        linux.shutdownWrite(from.fd);
        await until(() => { to.read(); return to.ended; }, 'the end of the stream');
        expect(Uint8Array.from(to.got)).toEqual(Uint8Array.from(parts.flatMap(({ bytes }) => [...bytes])));
        const fds = parts.reduce((n, p) => n + p.fds, 0);
        expect(to.files.flatMap(({ sizes }) => sizes)).toEqual(Array.from({ length: fds }, (_, i) => first + i));
      }
    }), { numRuns: 40 });
  });

  it('behind a malformed header descriptors stay on the very byte they were sent with', async () => {
    using wire = await proxied();
    await wire.client.send(new Uint8Array(16));
    await until(() => wire.server.read() && wire.server.got.length === 16, 'the header');
    const parts = [{ bytes: new Uint8Array(5).fill(1), fds: 0 }, { bytes: new Uint8Array(7).fill(2), fds: 2 }, { bytes: new Uint8Array(3).fill(3), fds: 0 }, { bytes: new Uint8Array(2).fill(4), fds: 1 }];
    await send(wire.client, parts, 1);
    await until(() => { while (wire.server.read(1)); return wire.server.got.length === 33; }, 'the rest');
    expect(wire.server.files).toEqual([{ at: 21, sizes: [1, 2] }, { at: 31, sizes: [3] }]);
    expect(wire.seen.anomalies).toEqual([expect.stringContaining('0 bytes') as string]);
  });

  it('a message larger than what is held goes through whole', async () => {
    using wire = await proxied();
    const bytes = newMessage(1, 10, 0, MAX_WHOLE_MESSAGE_BYTES + 900_000);
    for (let i = 16; i < bytes.length; i++) bytes[i] = i % 251;
    const sending = wire.client.send(bytes);
    await until(() => { wire.server.read(); return wire.server.got.length === bytes.length; }, 'all of it');
    await sending;
    expect(Buffer.compare(Buffer.from(wire.server.got), Buffer.from(bytes))).toBe(0);
    await until(() => wire.seen.messages.length === 1, 'the report');
    expect(wire.seen.messages[0]).toMatchObject({ framing: 'cut', size: bytes.length });
    expect(Buffer.compare(wire.seen.messages[0]!.bytes, bytes.subarray(0, MAX_WHOLE_MESSAGE_BYTES))).toBe(0);
  });

  it('descriptors stay with the first of two messages that come by one sendmsg, after short ones, too', async () => {
    using wire = await proxied();
    const read = encodeMessage(1, 9, 0, new Uint8Array(16));
    const [map, reset] = [encodeMessage(2, 2, 0, new Uint8Array(32)), encodeMessage(3, 13, 0, new Uint8Array(0))];
    for (const short of [read, encodeMessage(1, 10, 0, new Uint8Array(300))]) {
      const at = wire.server.got.length;
      await wire.client.send(short);
      await until(() => { wire.server.read(); return wire.server.got.length === at + short.length; }, 'a short message');
      await send(wire.client, [{ bytes: Buffer.concat([map, reset]), fds: 2 }], 1);
      await until(() => { wire.server.read(48); return wire.server.got.length === at + short.length + 64; }, 'both');
      expect(wire.server.files.at(-1)).toEqual({ at: at + short.length, sizes: [1, 2] });
      expect(wire.seen.messages.slice(-2).map(({ size, fds }) => [size, fds.length])).toEqual([[48, 2], [16, 0]]);
    }
  });

  it('a size that nobody has is said so, and passed on', async () => {
    using wire = await proxied();
    const header = encodeMessage(1, 10, 0, new Uint8Array(0));
    new DataView(header.buffer).setUint32(4, 0xffff_ffff, true);
    await wire.client.send(header);
    await until(() => { wire.server.read(); return wire.server.got.length === 16; }, 'the header');
    expect(wire.seen.anomalies).toEqual(['a header says that its message has 4294967295 bytes']);
  });

  it('more descriptors than are shown of one message are passed on all the same', async () => {
    using wire = await proxied();
    const message = encodeMessage(1, 10, 0, new Uint8Array(100));
    await wire.client.send(message.subarray(0, 16));
    let fds = 0;
    for (; fds <= MAX_DESCRIBED_FDS + 253; fds += 253) await send(wire.client, [{ bytes: Uint8Array.of(0), fds: 253 }], 1);
    await wire.client.send(message.subarray(16 + fds / 253));
    await until(() => { wire.server.read(); return wire.server.got.length === message.length; }, 'the message');
    expect(wire.server.files.flatMap(({ sizes }) => sizes)).toHaveLength(fds);
    await until(() => wire.seen.messages.length === 1, 'the report');
    expect(wire.seen.messages[0]!.fds).toHaveLength(MAX_DESCRIBED_FDS);
    expect(wire.seen.anomalies).toEqual([expect.stringContaining(`more than ${MAX_DESCRIBED_FDS} descriptors`) as string]);
  });

  it('descriptors that were lost on the way end the session: passing on less would be a lie', async () => {
    let losing = false;
    const sys = { ...linux, recvmsg: (...[fd, into, maxFds]: Parameters<typeof linux.recvmsg>) => {
      const got = linux.recvmsg(fd, into, maxFds);
      return got === undefined || !losing ? got : { ...got, fdsTruncated: true };
    } };
    using wire = await proxied(0, sys);
    await wire.client.send(encodeMessage(1, 13, 0, new Uint8Array(0)));
    await until(() => { wire.server.read(); return wire.server.got.length === 16; }, 'the message before');
    losing = true;
    await send(wire.client, [{ bytes: encodeMessage(2, 2, 0, new Uint8Array(32)), fds: 1 }], 1);
    await until(() => wire.seen.ends.length === 1, 'the end');
    expect(wire.seen.ends[0]).toContain('descriptors were lost');
    await until(() => { wire.server.read(); wire.client.read(); return wire.server.ended && wire.client.ended; }, 'both are hung up on');
    expect(wire.server.got).toHaveLength(16);
  });

  it('253 descriptors with one message, and more in its second half', async () => {
    using wire = await proxied();
    const bytes = encodeMessage(1, 8, 0, new Uint8Array(100));
    await send(wire.client, [{ bytes: bytes.subarray(0, 50), fds: 253 }, { bytes: bytes.subarray(50), fds: 253 }], 1);
    await until(() => { wire.server.read(); return wire.server.got.length === 116; }, 'the message');
    expect(wire.server.files.flatMap(({ sizes }) => sizes)).toEqual(Array.from({ length: 506 }, (_, i) => i + 1));
    await until(() => wire.seen.messages.length === 1, 'the report');
    expect(wire.seen.messages[0]!.fds).toHaveLength(506);
    expect(wire.seen.messages[0]!.fds[252]).toEqual({ kind: 'memfd', sizeBytes: 253, file: 253, name: 'memfd:ram' });
  });

  it.each([['within a message', encodeMessage(1, 10, 0, new Uint8Array(60_000)).subarray(0, 16)], ['behind a malformed header', new Uint8Array(16)]])('descriptors are not hoarded while the sink takes nothing (%s)', (_where, header) => {
    const [client, source] = linux.unixSocketPair();
    const [sink, server] = linux.unixSocketPair();
    const forwarder = new Forwarder(linux, source, sink, { descriptors: () => {}, exchange: (_message, fds) => fds, forwarded: () => {}, anomaly: () => {} });
    linux.sendmsg(client, header, []);
    while (forwarder.pump());
    forwarder.unhold();
    let filled = 0;
    for (let n: number | undefined = 0; n !== undefined; filled += n ?? 0) n = linux.sendmsg(sink, new Uint8Array(4096), []);
    const files = Array.from({ length: 253 }, () => memfd(1));
    for (let i = 0; i < 12; i++) expect(linux.sendmsg(client, Uint8Array.of(i), files)).toBe(1);
    const open = countOpenFds();
    while (forwarder.pump());
    // Runs that are held, and one more that was received.
    expect(countOpenFds() - open).toBeLessThanOrEqual(253 * (MAX_HELD_RUNS + 1));
    const seen = new Raw(server);
    for (; seen.got.length < header.length + filled + 12; forwarder.pump()) while (seen.read());
    expect(seen.files.map(({ at, sizes }) => [at - header.length - filled, sizes.length])).toEqual(Array.from({ length: 12 }, (_, i) => [i, 253]));
    forwarder.dispose();
    for (const fd of [client, source, sink, server, ...files]) linux.close(fd);
  });

  it('what is held when it is given up is closed: runs, those of the message, those of the next', () => {
    const files = [memfd(1), memfd(2)];
    const silent = { descriptors: () => {}, exchange: (_message: Uint8Array, fds: readonly number[]) => fds, forwarded: () => {}, anomaly: () => {} };
    for (const what of ['runs', 'next'] as const) {
      const [client, source] = linux.unixSocketPair();
      const [sink, server] = linux.unixSocketPair();
      const forwarder = new Forwarder(linux, source, sink, silent);
      if (what === 'runs') {
        while (linux.sendmsg(sink, new Uint8Array(4096), []) !== undefined);
        linux.sendmsg(client, encodeMessage(1, 2, 0, new Uint8Array(32)), files);
        while (forwarder.pump());
        expect(forwarder.blocked).toBe(true);
      } else {
        linux.sendmsg(client, encodeMessage(1, 9, 0, new Uint8Array(20)), []);
        while (forwarder.pump());
        linux.sendmsg(client, encodeMessage(1, 13, 0, new Uint8Array(0)), []);
        linux.sendmsg(client, encodeMessage(1, 2, 0, new Uint8Array(32)), files);
        expect(forwarder.pump()).toBe(true);
      }
      forwarder.dispose();
      for (const fd of [client, source, sink, server]) linux.close(fd);
    }
    for (const fd of files) linux.close(fd);
  });

  it('half a message is passed on when no more comes', async () => {
    using wire = await proxied();
    await wire.client.send(encodeMessage(1, 9, 0, new Uint8Array(16)).subarray(0, 20));
    await until(() => { wire.server.read(); return wire.server.got.length === 20; }, 'the half');
    await wire.client.send(new Uint8Array(12));
    await until(() => { wire.server.read(); return wire.server.got.length === 32; }, 'the other half');
    await until(() => wire.seen.messages.length === 1, 'the report');
    expect(wire.seen.messages[0]).toMatchObject({ framing: 'whole', size: 32 });
  });
});

/** The server's backlog. */
let full = false;

describe('flow', () => {
  it('a server that reads nothing stops its client, and the other direction goes on', async () => {
    using wire = await proxied();
    const block = encodeMessage(1, 10, 0x10, new Uint8Array(100_000));
    let taken = 0;
    let at = 0;
    const push = (): boolean => {
      const n = linux.sendmsg(wire.client.fd, Uint8Array.from(block.subarray(at)), []);
      if (n === undefined) return false;
      taken += n;
      at = (at + n) % block.length;
      return true;
    };
    for (let idle = 0; idle < 200;) {
      idle = push() ? 0 : idle + 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Two socket buffers and one message of ours: not what a client would like to push.
    expect(taken).toBeLessThan(4 << 20);
    await wire.server.send(encodeMessage(7, 11, 0, new Uint8Array(16)));
    await until(() => { wire.client.read(); return wire.client.got.length === 32; }, 'the other direction');
    await until(() => { wire.server.read(); return wire.server.got.length === taken; }, 'everything after all');
  });

  it('a half-close is passed on, and the answer still comes back', async () => {
    using wire = await proxied();
    await wire.client.send(encodeMessage(1, 13, 0, new Uint8Array(0)));
    linux.shutdownWrite(wire.client.fd);
    await until(() => { wire.server.read(); return wire.server.ended; }, 'the end');
    expect(wire.server.got).toHaveLength(16);
    await wire.server.send(encodeMessage(1, 13, 1, new Uint8Array(0)));
    await until(() => { wire.client.read(); return wire.client.got.length === 16; }, 'the answer');
    expect(wire.seen.ends).toEqual([]);
    linux.close(wire.server.fd);
    await until(() => { wire.client.read(); return wire.client.ended; }, 'the end of the session');
    await until(() => wire.seen.ends.length === 1, 'the report');
    expect(wire.seen.ends).toEqual(['the server hung up']);
  });

  it('what a client said last reaches the server', async () => {
    using wire = await proxied();
    await wire.client.send(encodeMessage(1, 10, 0x10, new Uint8Array(20)), []);
    linux.close(wire.client.fd);
    await until(() => { wire.server.read(); return wire.server.ended; }, 'the end');
    expect(wire.server.got).toHaveLength(36);
    expect(wire.seen.ends).toEqual(['the client hung up']);
  });

  it('the last words of a server that hangs up reach the client, also when it left something unread', async () => {
    using wire = await proxied();
    await wire.client.send(encodeMessage(1, 1, 0, new Uint8Array(20)));
    await until(() => wire.seen.messages.length === 1, 'the request');
    await wire.server.send(encodeMessage(1, 1, 0x21, new Uint8Array(0)));
    linux.close(wire.server.fd);
    await until(() => { wire.client.read(); return wire.client.ended; }, 'the end');
    expect(wire.client.got).toHaveLength(16);
  });

  it('a client that half-closed and then dies ends its session although its server is silent', async () => {
    using wire = await proxied();
    linux.shutdownWrite(wire.client.fd);
    await until(() => { wire.server.read(); return wire.server.ended; }, 'the end');
    linux.close(wire.client.fd);
    await until(() => wire.seen.ends.length === 1, 'the session ends');
    expect(wire.proxy.sessions).toBe(0);
  });

  it('a client that dies ends its session although its server takes nothing and is silent', async () => {
    const [client, proxyClient] = linux.unixSocketPair();
    const [proxyServer, server] = linux.unixSocketPair();
    // A server that has shut down its receiving half.
    const sys = { ...linux, sendmsg: (...[fd, bytes, fds]: Parameters<typeof linux.sendmsg>) => {
      if (fd === proxyServer && bytes.length > 0) throw new Error('EPIPE');
      return linux.sendmsg(fd, bytes, fds);
    } };
    const events = { descriptors: () => {}, exchange: (_message: Uint8Array, fds: readonly number[]) => fds, forwarded: () => {}, anomaly: () => {} };
    const channel = new Channel(sys, proxyClient, proxyServer, { up: events, down: events, ready: () => { while (channel.pump()); } });
    linux.sendmsg(client, encodeMessage(1, 13, 0, new Uint8Array(0)), []);
    while (channel.pump());
    linux.close(client);
    await until(() => channel.over !== undefined, 'the session ends');
    expect(channel.over).toBe('the client hung up');
    linux.close(server);
  });

  it('sessions one after the other and side by side do not mix', async () => {
    using wire = await proxied();
    const pairs = [{ client: wire.client, server: wire.server }, await wire.another(), await wire.another()];
    for (const [i, { client }] of pairs.entries()) await client.send(encodeMessage(i, 9, 0, new Uint8Array(16).fill(i)));
    for (const [i, { server }] of pairs.entries()) {
      await until(() => { server.read(); return server.got.length === 32; }, 'the message');
      expect(server.got[0]).toBe(i);
    }
    linux.close(pairs[1]!.client.fd);
    await until(() => { pairs[1]!.server.read(); return pairs[1]!.server.ended; }, 'the end');
    expect(wire.proxy.sessions).toBe(2);
    const again = await wire.another();
    await again.client.send(encodeMessage(9, 9, 0, new Uint8Array(16)));
    await until(() => { again.server.read(); return again.server.got.length === 32; }, 'the message');
    expect(new Set(wire.seen.messages.map((m) => m.session)).size).toBe(4);
  });

  it('more clients than sessions wait until others have left', async () => {
    using wire = await proxied();
    const ends: number[] = [];
    const connect = (): boolean => {
      const server = linux.unixAccept(wire.listener);
      if (server !== undefined) ends.push(server);
      return server !== undefined;
    };
    const clients: number[] = [];
    await until(() => {
      connect();
      // As far as there is room in the backlog.
      const client = clients.length < MAX_SESSIONS - 1 ? linux.unixTryConnect(wire.listen) : undefined;
      if (client !== undefined) clients.push(client);
      return wire.proxy.sessions === MAX_SESSIONS;
    }, 'as many as there may be');
    const waiting = linux.unixConnect(wire.listen);
    linux.sendmsg(waiting, encodeMessage(9, 9, 0, new Uint8Array(16)), []);
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(wire.proxy.sessions).toBe(MAX_SESSIONS);
    while (connect());
    linux.close(clients.pop()!);
    await until(() => connect(), 'the one that waited');
    const seen = new Raw(ends.pop()!);
    await until(() => { seen.read(); return seen.got.length === 32; }, 'its message');
    for (const fd of [...clients, ...ends, waiting, seen.fd]) linux.close(fd);
  });

  it('hangs up on clients whose server does not accept for long', async () => {
    using wire = await proxied(0, { ...linux, unixTryConnect: (path) => (full ? undefined : linux.unixTryConnect(path)) });
    full = true;
    const client = new Raw(linux.unixConnect(wire.listen));
    await until(() => { client.read(); return client.ended; }, 'the end');
    full = false;
    expect(wire.seen.ends).toEqual([expect.stringContaining('stayed full') as string]);
    linux.close(client.fd);
  });

  it('hangs up on clients whose server is not there', async () => {
    using wire = await proxied();
    linux.close(wire.listener);
    const client = linux.unixConnect(wire.listen);
    await until(() => linux.recvmsg(client, new Uint8Array(new ArrayBuffer(8)), 0)?.bytes === 0, 'the end');
    expect(wire.seen.ends).toEqual([expect.stringContaining('ECONNREFUSED') as string]);
    linux.close(client);
    // For the fixture to close.
    expect(memfd(1)).toBe(wire.listener);
  });
});

describe('the twin socket', () => {
  it('is traced: the client gets one of ours, and the reply stays as it is', async () => {
    using wire = await proxied();
    const [ours, theirs] = linux.unixSocketPair();
    const payload = encodeVersion({ major: 0, minor: 2, capabilities: { twinSocket: { supported: true, fdIndex: 1 } } });
    const reply = encodeMessage(3, 1, 1, payload);
    const other = memfd(5);
    await wire.server.send(reply, [other, theirs]);
    linux.close(theirs);
    linux.close(other);
    const into = new Uint8Array(new ArrayBuffer(4096));
    let got: ReturnType<typeof linux.recvmsg>;
    await until(() => (got = linux.recvmsg(wire.client.fd, into, 8)) !== undefined, 'the reply');
    expect(into.subarray(0, got!.bytes)).toEqual(reply);
    expect(linux.fstat(got!.fds[0]!).sizeBytes).toBe(5);
    const twin = got!.fds[1]!;
    linux.sendmsg(ours, encodeMessage(1, 11, 0, new Uint8Array(16)), []);
    await until(() => linux.recvmsg(twin, into, 0) !== undefined, 'a command by the twin');
    linux.sendmsg(twin, encodeMessage(1, 11, 1, new Uint8Array(20)), []);
    await until(() => linux.recvmsg(ours, into, 0) !== undefined, 'its reply');
    expect(wire.seen.messages.map((m) => [m.channel, m.from, m.size])).toEqual([['main', 'server', reply.length], ['twin', 'server', 32], ['twin', 'client', 36]]);
    // Both close together.
    linux.close(wire.client.fd);
    await until(() => linux.recvmsg(ours, into, 0)?.bytes === 0, 'the end of the twin');
    for (const fd of [ours, twin, got!.fds[0]!]) linux.close(fd);
  });
});

describe('what only looks like the twin socket', () => {
  const reply = encodeMessage(3, 1, 1, encodeVersion({ major: 0, minor: 2, capabilities: { twinSocket: { supported: true, fdIndex: 0 } } }));

  async function passed(wire: Awaited<ReturnType<typeof proxied>>, fd: number): Promise<number> {
    await wire.server.send(reply, [fd]);
    linux.close(fd);
    let got: ReturnType<typeof linux.recvmsg>;
    await until(() => (got = linux.recvmsg(wire.client.fd, new Uint8Array(4096), 8)) !== undefined, 'the reply');
    return got!.fds[0]!;
  }

  it('a file, and a second one, are passed on as they are', async () => {
    using wire = await proxied();
    const file = await passed(wire, memfd(77));
    expect(linux.fstat(file).sizeBytes).toBe(77);
    const first = linux.unixSocketPair();
    const second = linux.unixSocketPair();
    const inode = linux.fstat(second[1]).ino;
    const fds = [file, first[0], await passed(wire, first[1]), second[0], await passed(wire, second[1])];
    expect(linux.fstat(fds[4]!).ino).toBe(inode);
    for (const fd of fds) linux.close(fd);
  });
});

describe('the listening socket', () => {
  it('that somebody else has put there meanwhile stays', async () => {
    const wire = await proxied();
    unlinkSync(wire.listen);
    writeFileSync(wire.listen, 'mine');
    wire.proxy[Symbol.dispose]();
    expect(readFileSync(wire.listen, 'utf8')).toBe('mine');
    wire[Symbol.dispose]();
  });

  it('is ours alone, and is removed at the end', async () => {
    const wire = await proxied();
    expect(lstatSync(wire.listen).mode & 0o777).toBe(0o600);
    wire[Symbol.dispose]();
    expect(existsSync(wire.listen)).toBe(false);
  });

  it('a stale one is replaced, a live one and a plain file are left alone', () => {
    using folder = temporaryFolder();
    const listen = join(folder.path, 's');
    const options = { listen, connect: join(folder.path, 'c'), observer: recorder() };
    linux.close(linux.unixListen(listen, 1));
    {
      using _proxy = new TraceProxy(options);
      expect(() => new TraceProxy(options)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    }
    writeFileSync(listen, 'mine');
    expect(() => new TraceProxy(options)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    expect(readFileSync(listen, 'utf8')).toBe('mine');
  });
});
