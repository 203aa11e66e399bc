/** Clients that do not follow the protocol. Whatever they do: no crash, no hang, no descriptor or mapping left behind. */
import { readFileSync } from 'node:fs';
import { countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { FakeDevice, memfd, nextEvent, serve, window } from './fixture.ts';
import { concat, fields, header, LVU_VERSION, message, NO_REPLY, RawClient } from './raw-client.ts';

const [VERSION, DMA_MAP, GET_INFO, SET_IRQS, READ, WRITE] = [1, 2, 4, 8, 9, 10];
const info = fields(16, 0, 0, 0);

/** Runs a session and compares what is open before and after. The first run of a process opens things that stay (epoll, threads). */
async function leaves(run: () => Promise<void>): Promise<{ fds: number; mappings: number }> {
  await using warm = await serve();
  void warm;
  const before = { fds: countOpenFds(), mappings: countMappings('memfd:ram') };
  await run();
  return { fds: countOpenFds() - before.fds, mappings: countMappings('memfd:ram') - before.mappings };
}
const NOTHING = { fds: 0, mappings: 0 };

describe('messages in pieces', () => {
  it('one byte at a time are the same messages', async () => {
    await using s = await serve({ version: null });
    const bytes = concat(message(1, VERSION, LVU_VERSION), message(2, WRITE, fields(0n, 0, 4, 0x01020304)), message(3, READ, fields(0n, 0, 4)));
    for (const byte of bytes) {
      s.client.send(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await s.client.next()).id).toBe(1);
    expect((await s.client.next()).id).toBe(2);
    expect((await s.client.next()).payload).toEqual(fields(0n, 0, 4, 0x01020304));
  });

  it('cut anywhere, with a descriptor on the first byte, map the right file', async () => {
    await using s = await serve();
    const fd = memfd(0x1000);
    const bytes = message(1, DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n));
    for (const cut of [1, 15, 16, 17, 47]) {
      s.client.send(bytes.subarray(0, cut), [fd]);
      await new Promise((resolve) => setImmediate(resolve));
      s.client.send(bytes.subarray(cut));
      expect((await s.client.next()).errno).toBe(0);
      expect(s.device.host!.memory.translate(0n, 0x1000, 'write')).toBeDefined();
      expect(await s.client.errno(3, fields(24, 2, 0n, 0n))).toBe(0);
    }
    linux.close(fd);
  });

  it('that stop in the middle lose the connection: memory unmapped, descriptors closed', async () => {
    expect(await leaves(async () => {
      const s = await serve();
      const fd = memfd(0x1000);
      expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n), [fd])).toBe(0);
      s.client.send(message(2, DMA_MAP, fields(32, 3, 0n, 0x1000n, 0x1000n)).subarray(0, 20), [fd]);
      linux.close(fd);
      const gone = nextEvent('disconnect');
      s.client.close();
      expect(await gone).toMatchObject({ reason: 'connection-lost' });
      expect(s.device.take().slice(-3)).toEqual(['quiesce detach', 'detach connection-lost', 'resume']);
      await s.server.close();
    })).toEqual(NOTHING);
  });
});

describe('a client that stops in the middle of a message', () => {
  it('is gone after a while, and what it had sent is released', async () => {
    const before = countOpenFds();
    const s = await serve({ server: { limits: { messageTimeoutMs: 50 } } });
    const gone = nextEvent('disconnect');
    const fd = linux.eventfd();
    s.client.send(message(3, SET_IRQS, fields(20, 0x24, 2, 0, 1)).subarray(0, 30), [fd]);
    linux.close(fd);
    expect(await gone).toMatchObject({ reason: 'connection-lost', error: { code: 'ERR_SERVER_TIMEOUT' } });
    await s.client.closed;
    await s[Symbol.asyncDispose]();
    expect(countOpenFds()).toBe(before);
  });

  it('is not one that is silent between messages, nor one that always has half of the next message on its way', async () => {
    const limits = { messageTimeoutMs: 300 };
    await using s = await serve({ server: { limits } });
    const one = message(3, GET_INFO, fields(16, 0, 0, 0));
    const until = performance.now() + 2 * limits.messageTimeoutMs;
    s.client.send(one.subarray(0, 10));
    while (performance.now() < until) {
      s.client.send(concat(one.subarray(10), one.subarray(0, 10)));
      expect((await s.client.next()).errno).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    s.client.send(one.subarray(10));
    expect((await s.client.next()).errno).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 1.5 * limits.messageTimeoutMs));
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });
});

describe('descriptors', () => {
  it('on every command, 253 at a time, are closed', async () => {
    expect(await leaves(async () => {
      await using s = await serve();
      const fd = linux.eventfd();
      const fds = Array<number>(253).fill(fd);
      for (const command of [2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 99]) {
        await s.client.request(command, new Uint8Array(48), fds);
        s.client.send(message(1, command, new Uint8Array(48), NO_REPLY), fds);
      }
      expect(await s.client.errno(GET_INFO, info)).toBe(0);
      linux.close(fd);
    })).toEqual(NOTHING);
  });

  it('more than one on DMA_MAP: the first counts, the others are closed', async () => {
    expect(await leaves(async () => {
      await using s = await serve();
      const fd = memfd(0x1000);
      expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n), [fd, fd, fd])).toBe(0);
      linux.close(fd);
    })).toEqual(NOTHING);
  });

  it('that are kept (vectors, those that mask, FILE_IO regions) are closed with the session', async () => {
    expect(await leaves(async () => {
      await using s = await serve();
      const fd = linux.eventfd();
      for (let start = 0; start < 64; start += 16) expect(await s.client.errno(SET_IRQS, fields(20, 0x24, 2, start, 16), Array<number>(16).fill(fd))).toBe(0);
      for (const flags of [0x0c, 0x14]) expect(await s.client.errno(SET_IRQS, fields(20, flags, 2, 0, 1), [fd])).toBe(0);
      const file = memfd(0x1000);
      for (const address of [0n, 0x1000n]) expect(await s.client.errno(DMA_MAP, fields(32, 11, 0n, address, 0x1000n), [file])).toBe(0);
      linux.close(fd);
      linux.close(file);
    })).toEqual(NOTHING);
  });

  it('behind FILE_IO regions are kept once per region, and closed with it', async () => {
    await using s = await serve();
    const file = memfd(0x1000);
    const before = countOpenFds();
    for (let i = 0; i < 3; i++) expect(await s.client.errno(DMA_MAP, fields(32, 11, 0n, 0n, 0x1000n), [file])).toBe(0);
    expect(countOpenFds()).toBe(before + 1);
    expect(await s.client.errno(3, fields(24, 0, 0n, 0x1000n))).toBe(0);
    expect(countOpenFds()).toBe(before);
    linux.close(file);
  });

  it('for interrupts keep their flags: the client, whose they are too, may sleep on them', async () => {
    await using s = await serve();
    const fd = linux.eventfd();
    linux.setNonBlocking(fd, false);
    expect(await s.client.errno(SET_IRQS, fields(20, 0x24, 2, 0, 1), [fd])).toBe(0);
    expect(Number.parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8) & 0o4000).toBe(0);
    linux.close(fd);
  });

  it('of messages behind the one at which the connection broke are closed', async () => {
    expect(await leaves(async () => {
      await using s = await serve({ server: { sys: withFaults(linux, [{ call: 'sendmsg', nth: 2, errno: 'EPIPE', times: 100 }]) } });
      const fd = memfd(0x1000);
      const gone = nextEvent('disconnect');
      s.client.send(concat(message(1, GET_INFO, info), message(2, DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n))), [fd]);
      linux.close(fd);
      expect(await gone).toMatchObject({ reason: 'connection-lost' });
    })).toEqual(NOTHING);
  });

  it('in commands that were never executed are closed too', async () => {
    expect(await leaves(async () => {
      const device = new FakeDevice();
      let release: (() => void) | undefined;
      device.write = () => new Promise<void>((resolve) => { release = resolve; });
      await using s = await serve({ device });
      const fd = memfd(0x1000);
      s.client.send(message(1, WRITE, fields(0n, 0, 4, 1)));
      for (let i = 0; i < 8; i++) s.client.send(message(2, DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n)), Array<number>(20).fill(fd));
      linux.close(fd);
      while (release === undefined) await new Promise((resolve) => setImmediate(resolve));
      const gone = nextEvent('disconnect');
      s.client.close();
      while (s.server.session?.state !== 'ending') await new Promise((resolve) => setImmediate(resolve));
      release();
      await gone;
    })).toEqual(NOTHING);
  });

  it('dropped by the kernel (too many open files) end the session: which message lost them cannot be told', async () => {
    let truncate = false;
    const sys = { ...linux, recvmsg: (...args: Parameters<typeof linux.recvmsg>) => {
      const got = linux.recvmsg(...args);
      return got === undefined || !truncate ? got : { ...got, fdsTruncated: true };
    } };
    await using s = await serve({ server: { sys } });
    truncate = true;
    const gone = nextEvent('disconnect');
    s.client.send(message(1, GET_INFO, info));
    expect(await gone).toMatchObject({ reason: 'protocol-error' });
  });
});

describe('silence and failing calls', () => {
  it.each([['nothing', new Uint8Array(0)], ['half a VERSION', message(1, VERSION, LVU_VERSION).subarray(0, 30)]])('a client that sends %s is disconnected in time', async (_name, bytes) => {
    const gone = nextEvent('disconnect');
    await using s = await serve({ version: null, server: { limits: { negotiationTimeoutMs: 30 } } });
    if (bytes.length > 0) s.client.send(bytes);
    await s.client.closed;
    expect(await gone).toMatchObject({ reason: 'negotiation-timeout' });
    expect(s.device.log).toEqual([]);
  });

  it.each(['recvmsg', 'sendmsg'] as const)('a %s that fails ends the session, with the device detached', async (call) => {
    await using s = await serve({ server: { sys: withFaults(linux, [{ call, nth: 3, errno: 'ECONNRESET', times: 100 }]) } });
    const gone = nextEvent('disconnect');
    s.client.send(concat(message(1, GET_INFO, info), message(2, GET_INFO, info), message(3, GET_INFO, info)));
    expect(await gone).toMatchObject({ reason: 'connection-lost' });
    expect(s.device.take()).toEqual(['attach', 'quiesce detach', 'detach connection-lost', 'resume']);
  });

  it('replies taken in small pieces by the socket arrive whole', async () => {
    const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => linux.sendmsg(fd, bytes.subarray(0, 7), fds) };
    await using s = await serve({ server: { sys } });
    expect((await s.client.request(READ, fields(0n, 0, 64))).size).toBe(96);
    s.client.send(concat(message(1, GET_INFO, info), message(2, READ, fields(0n, 0, 8))));
    expect([(await s.client.next()).size, (await s.client.next()).size]).toEqual([32, 40]);
  });
});

describe('a descriptor whose reply has to wait for the socket', () => {
  it('goes out with its first byte, and the duplicate is closed', async () => {
    expect(await leaves(async () => {
      let full = 2;
      const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (fds.length > 0 && full-- > 0 ? undefined : linux.sendmsg(fd, bytes, fds)) };
      const file = memfd(0x1000, 'bar');
      const device = new FakeDevice();
      device.regions.push({ index: 1, sizeBytes: 0x1000, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 0x1000 }], backing: { fd: file, offset: 0 } } });
      await using s = await serve({ device, server: { sys } });
      const reply = await s.client.request(5, fields(64, 0, 1, 0, 0n, 0n));
      expect(full).toBe(-1);
      expect(linux.fstat(reply.fds[0]!).ino).toBe(linux.fstat(file).ino);
      for (const fd of [...reply.fds, file]) linux.close(fd);
    })).toEqual(NOTHING);
  });
});

describe('a descriptor whose reply never leaves', () => {
  it('is closed with the connection', async () => {
    expect(await leaves(async () => {
      const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (fds.length > 0 ? undefined : linux.sendmsg(fd, bytes, fds)) };
      const file = memfd(0x1000, 'bar');
      const device = new FakeDevice();
      device.regions.push({ index: 1, sizeBytes: 0x1000, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 0x1000 }], backing: { fd: file, offset: 0 } } });
      await using s = await serve({ device, server: { sys } });
      s.client.send(message(1, 5, fields(64, 0, 1, 0, 0n, 0n)));
      while (s.server.session?.counters.commands !== 2) await new Promise((resolve) => setImmediate(resolve));
      const gone = nextEvent('disconnect');
      s.client.close();
      await gone;
      linux.close(file);
    })).toEqual(NOTHING);
  });
});

describe('any bytes at all', () => {
  it('leave a server that serves the next client, and nothing else', async () => {
    expect(await leaves(async () => { await babble(); })).toEqual(NOTHING);
  });

  async function babble(): Promise<void> {
    const device = new FakeDevice();
    await using server = new VfioUserServer(device, { window, limits: { dmaReplyTimeoutMs: 5 } });
    const command = fc.record({
      command: fc.integer({ min: 0, max: 20 }), flags: fc.constantFrom(0, 0, 0, 0x10, 1, 0x21, 7), payload: fc.uint8Array({ maxLength: 64 }),
      size: fc.option(fc.integer({ min: 0, max: 200 }), { freq: 8, nil: undefined }), fds: fc.nat({ max: 3 }),
    });
    const eventfd = linux.eventfd();
    await fc.assert(fc.asyncProperty(fc.array(command, { maxLength: 30 }), async (commands) => {
      const [ours, theirs] = linux.unixSocketPair();
      server.adoptConnection(ours);
      const client = new RawClient(theirs);
      await client.request(VERSION, LVU_VERSION);
      for (const c of commands) {
        const bytes = concat(header(1, c.command, c.size ?? 16 + c.payload.length, c.flags), c.payload);
        try {
          client.send(bytes, Array<number>(c.fds).fill(eventfd));
        } catch {
          break; // the server has closed
        }
      }
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
    }), { numRuns: 150 });
    linux.close(eventfd);
    expect(device.log.filter((l) => l === 'attach')).toHaveLength(device.log.filter((l) => l.startsWith('detach')).length);
    expect(device.log.filter((l) => l.startsWith('quiesce'))).toHaveLength(device.log.filter((l) => l === 'resume').length);
  }
});
