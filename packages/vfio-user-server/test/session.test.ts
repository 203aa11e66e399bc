import { describe, expect, it } from 'vitest';
import type { QuiesceReason } from '@emudev/pci';
import { FakeDevice, memfd, nextEvent, serve } from './fixture.ts';
import { ERROR, concat, fields, message, NO_REPLY, QEMU_VERSION, u32, type Message } from './raw-client.ts';
import { linux } from '@emudev/linux';

const [DMA_MAP, GET_INFO, READ, WRITE, RESET] = [2, 4, 9, 10, 13];
const info = fields(16, 0, 0, 0);

/** Accesses finish when the test says so. */
class SlowDevice extends FakeDevice {
  readonly gates: (() => void)[] = [];
  #entered: (() => void) | undefined;
  override async write(_region: number, offset: number, from: Uint8Array): Promise<void> {
    this.log.push(`begin ${offset}`);
    this.#entered?.();
    await new Promise<void>((resolve) => this.gates.push(resolve));
    this.log.push(`end ${offset}`);
    this.bytes.set(from, offset);
  }
  entered(): Promise<void> {
    return new Promise((resolve) => { this.#entered = resolve; });
  }
}

describe('order', () => {
  it('holds while a handler is awaited: nothing is executed before its predecessor is answered', async () => {
    await using s = await serve({ device: new SlowDevice() });
    s.device.take();
    const entered = s.device.entered();
    s.client.send(concat(
      message(1, WRITE, fields(0n, 0, 4, 0xaaaa), NO_REPLY), message(2, WRITE, fields(0n, 0, 4, 0xbbbb)), message(3, READ, fields(0n, 0, 4)), message(4, GET_INFO, info),
    ));
    await entered;
    expect(s.device.take()).toEqual(['begin 0']);
    const second = s.device.entered();
    s.device.gates.shift()!();
    await second;
    expect(s.client.received).toBe(0);
    expect(s.device.take()).toEqual(['end 0', 'begin 0']);
    s.device.gates.shift()!();
    const replies = [await s.client.next(), await s.client.next(), await s.client.next()];
    expect(replies.map((r) => [r.id, r.command])).toEqual([[2, WRITE], [3, READ], [4, GET_INFO]]);
    expect(u32(replies[1]!.payload, 16)).toBe(0xbbbb);
    expect(s.device.take()).toEqual(['end 0', 'read 0 0 4']);
  });

  it('holds for hundreds of pipelined maps, the way QEMU sends them', async () => {
    await using s = await serve({ version: QEMU_VERSION });
    const fd = memfd(0x1000);
    for (let i = 0; i < 300; i++) await s.client.sendPatiently(message(i, DMA_MAP, fields(32, 3, 0n, BigInt(i) * 0x1000n, 0x1000n)), [fd]);
    for (let i = 0; i < 300; i++) expect(await s.client.next()).toMatchObject({ id: i, size: 16, errno: 0 });
    expect(s.server.session?.dmaMaps).toBe(300);
    linux.close(fd);
  });
});

describe('a handler that throws', () => {
  class Throwing extends FakeDevice {
    override read(): void {
      throw new TypeError('a bug');
    }
    override async write(): Promise<void> {
      await Promise.resolve();
      throw Object.assign(new Error('typed'), { errno: 19 });
    }
  }

  it('is EIO, a counter and an event; a typed error is its errno; the session goes on', async () => {
    await using s = await serve({ device: new Throwing() });
    const event = nextEvent('request-error');
    expect(await s.client.errno(READ, fields(0n, 0, 4))).toBe(5);
    expect(await event).toMatchObject({ device: 'fake', command: 'REGION_READ', errno: 5, unexpected: true, error: expect.any(TypeError) as unknown });
    expect(await s.client.errno(WRITE, fields(0n, 0, 4, 0))).toBe(19);
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
    expect(s.server.session?.counters).toMatchObject({ errors: 2, unexpectedErrors: 1 });
  });

  it('does not lose resume: reset that throws', async () => {
    const device = new FakeDevice();
    device.reset = () => { throw new Error('no'); };
    await using s = await serve({ device });
    s.device.take();
    expect(await s.client.errno(RESET, new Uint8Array(0))).toBe(5);
    expect(s.device.take()).toEqual(['quiesce reset', 'resume']);
  });

  it('in attach: VERSION fails, closed, no detach', async () => {
    const device = new FakeDevice();
    device.attach = () => Promise.reject(Object.assign(new Error('busy'), { errno: 16 }));
    await using s = await serve({ device, version: null });
    expect(await s.client.errno(1, QEMU_VERSION)).toBe(16);
    await s.client.closed;
    expect(s.device.log).toEqual([]);
  });

  it('in detach: the client\'s memory and descriptors are released all the same', async () => {
    const device = new FakeDevice();
    device.detach = () => { throw new Error('no'); };
    const s = await serve({ device });
    const fd = memfd(0x1000);
    await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n), [fd]);
    linux.close(fd);
    const fault = nextEvent('fault');
    s.client.close();
    expect(await fault).toMatchObject({ what: 'detach' });
    await s.server.close();
    expect(device.log.slice(-1)).toEqual(['resume']);
  });
});

describe('quiescence', () => {
  it('that fails ends the session: EBUSY, an event, and the device is detached', async () => {
    class Stuck extends FakeDevice {
      override quiesce(reason: QuiesceReason): Promise<void> {
        this.log.push(`quiesce ${reason}`);
        return reason === 'dma-map' ? Promise.reject(new Error('lcore 1 never came by')) : Promise.resolve();
      }
    }
    await using s = await serve({ device: new Stuck() });
    s.device.take();
    const gone = nextEvent('disconnect');
    expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0n, 0x1000n))).toBe(16);
    expect(await gone).toMatchObject({ reason: 'quiesce-failed', error: { code: 'ERR_SERVER_QUIESCE' } });
    await s.client.closed;
    expect(s.device.take()).toEqual(['quiesce dma-map', 'quiesce detach', 'detach protocol-error', 'resume']);
  });
});

describe('limits', () => {
  it('a client that reads no replies is not served further, and loses nothing', async () => {
    await using s = await serve({ server: { limits: { maxPendingOutputBytes: 64 << 10 } } });
    const n = 128;
    s.device.read = (_region, _offset, into) => { into[0] = 1; };
    s.client.reading = false;
    for (let i = 0; i < n; i++) s.client.send(message(i, READ, fields(0n, 2, 64 << 10)));
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    // What fits into the socket (some 200 KiB) and the limit, not the 8 MiB that were asked for.
    expect(s.server.session?.counters.commands).toBeGreaterThan(1);
    expect(s.server.session?.counters.commands).toBeLessThan(16);
    s.client.reading = true;
    const replies: Message[] = [];
    while (replies.length < n) replies.push(await s.client.next());
    expect(replies.map((r) => r.id)).toEqual(Array.from({ length: n }, (_, i) => i));
    expect(replies.every((r) => (r.flags & ERROR) === 0 && r.size === 32 + (64 << 10))).toBe(true);
  });

  it('input waits in the socket while a slow handler runs', async () => {
    await using s = await serve({ device: new SlowDevice(), server: { limits: { maxPendingMessages: 8, maxPendingInputBytes: 4096 } } });
    const entered = s.device.entered();
    s.client.send(message(0, WRITE, fields(0n, 0, 4, 1)));
    await entered;
    let sent = 0;
    const posted = message(0, GET_INFO, info, NO_REPLY);
    // Until the socket is full: the server has stopped reading.
    while (linux.sendmsg(s.client.fd, posted, []) === posted.length) {
      sent++;
      if (sent % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(s.server.session?.counters.commands).toBe(2);
    s.device.gates.shift()!();
    expect((await s.client.next()).command).toBe(WRITE);
    while (s.server.session?.counters.commands !== 2 + sent) await new Promise((resolve) => setImmediate(resolve));
  });
});
