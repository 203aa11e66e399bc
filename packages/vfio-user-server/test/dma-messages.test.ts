import { linux } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { FakeDevice, memfd, serve, type Served } from './fixture.ts';
import { concat, CH_VERSION, ERROR, fields, header, LVU_VERSION, message, QEMU_VERSION, REPLY, u32, u64, version } from './raw-client.ts';

const [DMA_MAP, GET_INFO, WRITE, DMA_READ, DMA_WRITE] = [2, 4, 10, 11, 12];

/** A session with 64 KiB at 0x10000 that came without a descriptor. */
async function remote(of: Uint8Array, server = {}): Promise<Served<FakeDevice>> {
  const s = await serve({ version: of, server });
  expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0x10000n, 0x10000n))).toBe(0);
  return s;
}
const pattern = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => i * 7);

describe('memory without a descriptor', () => {
  it('lvu: 64-bit counts, chunked by the client\'s max_data_xfer_size', async () => {
    await using s = await remote(LVU_VERSION);
    const data = pattern(2048 + 42);
    const written = Promise.resolve(s.device.host!.memory.write(0x10100n, data));
    const got: Uint8Array[] = [];
    for (const [at, count] of [[0, 1024], [1024, 1024], [2048, 42]] as const) {
      const m = await s.client.next();
      expect([m.command, m.flags, u64(m.payload, 0), u64(m.payload, 8), m.payload.length]).toEqual([DMA_WRITE, 0, 0x10100n + BigInt(at), BigInt(count), 16 + count]);
      got.push(m.payload.slice(16));
      s.client.send(message(m.id, DMA_WRITE, fields(u64(m.payload, 0), BigInt(count)), REPLY));
    }
    await written;
    expect(concat(...got)).toEqual(data);
    const into = new Uint8Array(2000);
    const read = Promise.resolve(s.device.host!.memory.read(0x10000n, into));
    for (const count of [1024, 976]) {
      const m = await s.client.next();
      expect([m.command, u64(m.payload, 8)]).toEqual([DMA_READ, BigInt(count)]);
      s.client.send(message(m.id, DMA_READ, concat(fields(u64(m.payload, 0), BigInt(count)), pattern(count)), REPLY));
    }
    await read;
    expect(into).toEqual(concat(pattern(1024), pattern(976)));
  });

  it('qemu: 32-bit counts, data at byte 12, a header-only reply to writes', async () => {
    await using s = await remote(QEMU_VERSION);
    const written = Promise.resolve(s.device.host!.memory.write(0x10003n, Uint8Array.of(1))).then(() => s.device.host!.memory.write(0x10000n, Uint8Array.of(1, 2, 3, 4, 5, 6)));
    // An old one does not see that it was asked for more than 4 bytes.
    const probe = await s.client.next();
    expect([probe.command, probe.payload]).toEqual([DMA_READ, concat(fields(0x10000n), fields(4, 1))]);
    s.client.send(message(probe.id, DMA_READ, concat(fields(0x10000n, 4), Uint8Array.of(0, 0, 0, 0), fields(0)), REPLY));
    const first = await s.client.next();
    expect(first.payload).toEqual(concat(fields(0x10003n, 1), Uint8Array.of(1, 0, 0, 0)));
    s.client.send(header(first.id, DMA_WRITE, 16, REPLY));
    const w = await s.client.next();
    expect(w.payload).toEqual(concat(fields(0x10000n, 6), Uint8Array.of(1, 2, 3, 4, 5, 6)));
    s.client.send(header(w.id, DMA_WRITE, 16, REPLY));
    await written;
    const into = new Uint8Array(6);
    const read = Promise.resolve(s.device.host!.memory.read(0x10000n, into));
    const r = await s.client.next();
    s.client.send(message(r.id, DMA_READ, concat(fields(0x10000n, 6), Uint8Array.of(9, 8, 7, 6, 5, 4), fields(0)), REPLY));
    await read;
    expect([...into]).toEqual([9, 8, 7, 6, 5, 4]);
  });

  it('newer qemu: 64-bit counts, found out without a change of memory', async () => {
    await using s = await remote(QEMU_VERSION);
    const into = new Uint8Array(6);
    // Whoever comes meanwhile waits for the same answer.
    const both = Promise.all([s.device.host!.memory.write(0x10000n, Uint8Array.of(1, 2, 3, 4, 5)), s.device.host!.memory.read(0x10010n, into)]);
    const probe = await s.client.next();
    expect([probe.command, u64(probe.payload, 8)]).toEqual([DMA_READ, 0x1_0000_0004n]);
    s.client.send(header(probe.id, DMA_READ, 16, REPLY | ERROR, 7));
    const w = await s.client.next();
    expect([w.command, w.payload]).toEqual([DMA_WRITE, concat(fields(0x10000n, 5n), Uint8Array.of(1, 2, 3, 4, 5))]);
    s.client.send(message(w.id, DMA_WRITE, fields(0x10000n, 5n), REPLY));
    const r = await s.client.next();
    s.client.send(message(r.id, DMA_READ, concat(fields(0x10010n, 6n), Uint8Array.of(9, 8, 7, 6, 5, 4)), REPLY));
    await both;
    expect([...into]).toEqual([9, 8, 7, 6, 5, 4]);
  });

  it('qemu: an answer that says nothing about the dialect is asked for again; until then the one is used that writes nothing wrong', async () => {
    await using s = await remote(QEMU_VERSION);
    const written = Promise.resolve(s.device.host!.memory.write(0x10000n, Uint8Array.of(1, 2, 3, 4)));
    const probe = await s.client.next();
    s.client.send(header(probe.id, DMA_READ, 16, REPLY | ERROR, 1));
    const w = await s.client.next();
    expect(w.payload).toEqual(concat(fields(0x10000n, 4), Uint8Array.of(1, 2, 3, 4)));
    s.client.send(header(w.id, DMA_WRITE, 16, REPLY | ERROR, 7));
    await expect(written).rejects.toMatchObject({ errno: 7 });
    void Promise.resolve(s.device.host!.memory.write(0x10000n, Uint8Array.of(1))).catch(() => undefined);
    expect(u64((await s.client.next()).payload, 8)).toBe(0x1_0000_0004n);
  });

  it('and mapped memory too, where a device asks for messages', async () => {
    await using s = await serve();
    const fd = memfd(0x1000);
    expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n), [fd])).toBe(0);
    linux.close(fd);
    const written = s.device.host!.dmaMessages!.write(8n, Uint8Array.of(1));
    const m = await s.client.next();
    expect([m.command, m.payload]).toEqual([DMA_WRITE, concat(fields(8n, 1n), Uint8Array.of(1))]);
    s.client.send(message(m.id, DMA_WRITE, fields(8n, 1n), REPLY));
    await written;
    await using other = await serve({ version: CH_VERSION });
    expect(other.device.host!.dmaMessages).toBeUndefined();
  });

  it('the dialect can be forced', async () => {
    await using s = await remote(LVU_VERSION, { dmaDialect: 'qemu' });
    const written = Promise.resolve(s.device.host!.memory.write(0x10000n, Uint8Array.of(1, 2, 3, 4, 5)));
    const w = await s.client.next();
    expect(w.payload).toHaveLength(17);
    s.client.send(header(w.id, DMA_WRITE, 16, REPLY));
    await written;
  });

  it('is out of reach for a client that serves no DMA messages: an error at once, nothing on the wire', async () => {
    await using s = await remote(CH_VERSION);
    await expect((async () => { await s.device.host!.memory.read(0x10000n, new Uint8Array(4)); })()).rejects.toMatchObject({ errno: 14 });
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });

  it('works inside a handler, with client commands arriving before the reply', async () => {
    class Copier extends FakeDevice {
      override async write(_region: number, _offset: number, from: Uint8Array): Promise<void> {
        const bytes = new Uint8Array(4);
        await this.host!.memory.read(0x10000n, bytes);
        this.log.push(`copied ${bytes.join(',')} for ${from[0]!}`);
      }
    }
    await using s = await serve({ device: new Copier() });
    await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0x10000n, 0x10000n));
    s.device.take();
    s.client.send(concat(message(1, WRITE, fields(0n, 0, 4, 1)), message(2, GET_INFO, fields(16, 0, 0, 0)), message(3, WRITE, fields(0n, 0, 4, 2))));
    const first = await s.client.next();
    expect(first.command).toBe(DMA_READ);
    s.client.send(concat(message(4, GET_INFO, fields(16, 0, 0, 0)), message(first.id, DMA_READ, concat(fields(0x10000n, 4n), Uint8Array.of(1, 2, 3, 4)), REPLY)));
    expect((await s.client.next()).id).toBe(1);
    expect((await s.client.next()).id).toBe(2);
    const second = await s.client.next();
    expect(second.command).toBe(DMA_READ);
    s.client.send(message(second.id, DMA_READ, concat(fields(0x10000n, 4n), Uint8Array.of(5, 6, 7, 8)), REPLY));
    expect([(await s.client.next()).id, (await s.client.next()).id]).toEqual([3, 4]);
    expect(s.device.take()).toEqual(['copied 1,2,3,4 for 1', 'copied 5,6,7,8 for 2']);
  });

  it('is read past the input limits while a reply is awaited, up to a hard one', async () => {
    await using s = await serve({ server: { limits: { maxPendingMessages: 4 } }, device: Object.assign(new FakeDevice(), { write: async function (this: FakeDevice): Promise<void> { await this.host!.memory.read(0x10000n, new Uint8Array(4)); } }) });
    await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0x10000n, 0x10000n));
    s.client.send(message(1, WRITE, fields(0n, 0, 4, 1)));
    const ask = await s.client.next();
    for (let i = 0; i < 12; i++) s.client.send(message(100 + i, GET_INFO, fields(16, 0, 0, 0)));
    // Let the server see them, and stop reading if it were to.
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    s.client.send(message(ask.id, DMA_READ, concat(fields(0x10000n, 4n), fields(0)), REPLY));
    expect(await s.client.next()).toMatchObject({ id: 1, errno: 0 });
    for (let i = 0; i < 12; i++) expect((await s.client.next()).id).toBe(100 + i);
    s.client.send(message(2, WRITE, fields(0n, 0, 4, 1)));
    await s.client.next();
    for (let i = 0; i < 17; i++) s.client.send(message(i, GET_INFO, fields(16, 0, 0, 0)));
    await s.client.closed;
  });
});

describe('replies that are wrong', () => {
  const cases: [string, (id: number) => Uint8Array, number][] = [
    ['an error', (id) => header(id, DMA_READ, 16, REPLY | ERROR, 13), 13],
    ['an error without a number', (id) => header(id, DMA_READ, 16, REPLY | ERROR, 0), 22],
    ['another address', (id) => message(id, DMA_READ, concat(fields(0x20000n, 4n), fields(0)), REPLY), 5],
    ['less data than asked for', (id) => message(id, DMA_READ, concat(fields(0x10000n, 2n), Uint8Array.of(1, 2)), REPLY), 5],
    ['more data than asked for', (id) => message(id, DMA_READ, concat(fields(0x10000n, 8n), new Uint8Array(8)), REPLY), 5],
    ['no payload', (id) => header(id, DMA_READ, 16, REPLY), 5],
  ];
  it.each(cases)('%s: this access fails, the session goes on', async (_name, reply, errno) => {
    await using s = await remote(LVU_VERSION);
    const read = Promise.resolve(s.device.host!.memory.read(0x10000n, new Uint8Array(4)));
    const settled = expect(read).rejects.toMatchObject({ errno });
    s.client.send(reply((await s.client.next()).id));
    await settled;
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });

  it('to another message or command are not taken for it', async () => {
    await using s = await remote(LVU_VERSION);
    const into = new Uint8Array(4);
    const read = Promise.resolve(s.device.host!.memory.read(0x10000n, into));
    const m = await s.client.next();
    s.client.send(concat(
      message(m.id + 1, DMA_READ, concat(fields(0x10000n, 4n), fields(1)), REPLY), message(m.id, DMA_WRITE, fields(0x10000n, 4n), REPLY),
      message(m.id, DMA_READ, concat(fields(0x10000n, 4n), fields(2)), REPLY),
    ));
    await read;
    expect([u32(into, 0), s.server.session?.counters.strayReplies]).toEqual([2, 2]);
  });

  it('that never come: ETIMEDOUT', async () => {
    await using s = await remote(LVU_VERSION, { limits: { dmaReplyTimeoutMs: 20 } });
    await expect(s.device.host!.memory.read(0x10000n, new Uint8Array(4))).rejects.toMatchObject({ code: 'ERR_SERVER_DMA_MESSAGE', errno: 110 });
  });

  it('from a client that left: EIO, so that a waiting handler ends and the detach comes', async () => {
    await using s = await remote(version('{"capabilities":{}}'));
    const settled = expect(s.device.host!.memory.read(0x10000n, new Uint8Array(4))).rejects.toMatchObject({ errno: 5 });
    await s.client.next();
    s.client.close();
    await settled;
  });
});
