/** The socket of their own that DMA messages get; what conformance/ says about it is not repeated. */
import { countOpenFds, linux, withFaults } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import type { ServerLimits } from '../src/limits.ts';
import { FakeDevice, nextEvent, serve, type Served } from './fixture.ts';
import { concat, fields, message, RawClient, REPLY, version } from './raw-client.ts';

const [VERSION, DMA_MAP, GET_INFO, READ, DMA_READ] = [1, 2, 4, 9, 11];
const TWIN_VERSION = version('{"capabilities":{"max_msg_fds":8,"twin_socket":{"supported":true}}}');
const info = fields(16, 0, 0, 0);

interface Twinned extends Served<FakeDevice> { readonly twin: RawClient }

/** A region access reads four bytes of the client's memory, which come by message. */
class Reading extends FakeDevice {
  override async read(_region: number, _offset: number, into: Uint8Array): Promise<void> {
    await this.host!.memory.read(0x1000n, into);
  }
}

async function twinned(limits: Partial<ServerLimits> = {}): Promise<Twinned> {
  const s = await serve({ device: new Reading(), version: null, server: { limits } });
  const reply = await s.client.request(VERSION, TWIN_VERSION);
  expect(reply.fds).toHaveLength(1);
  expect(await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0x1000n, 0x1000n))).toBe(0);
  const twin = new RawClient(reply.fds[0]!);
  return { ...s, twin, [Symbol.asyncDispose]: async () => { twin.close(); await s[Symbol.asyncDispose](); } };
}

describe('twin socket', () => {
  it('carries the DMA messages of an access whose reply comes on the main socket', async () => {
    await using s = await twinned();
    s.client.send(message(77, READ, fields(0n, 0, 4)));
    const asked = await s.twin.next();
    expect([asked.command, s.client.received]).toEqual([DMA_READ, 0]);
    s.twin.send(message(asked.id, DMA_READ, concat(asked.payload, fields(0xfeed)), REPLY));
    expect((await s.client.next()).payload).toEqual(fields(0n, 0, 4, 0xfeed));
  });

  it('a reply on the main socket is taken as well: it is found by its id', async () => {
    await using s = await twinned();
    s.client.send(message(77, READ, fields(0n, 0, 4)));
    const asked = await s.twin.next();
    s.client.send(message(asked.id, DMA_READ, concat(asked.payload, fields(0xbeef)), REPLY));
    expect((await s.client.next()).payload).toEqual(fields(0n, 0, 4, 0xbeef));
  });

  it('a command on it ends the session, its descriptors closed', async () => {
    const before = countOpenFds();
    const s = await twinned();
    const gone = nextEvent('disconnect');
    const fd = linux.eventfd();
    s.twin.send(message(1, GET_INFO, info), [fd]);
    linux.close(fd);
    expect(await gone).toMatchObject({ reason: 'protocol-error', error: { message: expect.stringContaining('DEVICE_GET_INFO on the twin') as unknown } });
    await s.client.closed;
    await s.twin.closed;
    await s[Symbol.asyncDispose]();
    expect(countOpenFds()).toBe(before);
  });

  it('commands on the main socket wait in it meanwhile, however many: the reply cannot be behind them', async () => {
    await using s = await twinned({ maxPendingMessages: 4 });
    s.client.send(message(77, READ, fields(0n, 0, 4)));
    const asked = await s.twin.next();
    for (let i = 0; i < 100; i++) s.client.send(message(78, GET_INFO, info));
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
    s.twin.send(message(asked.id, DMA_READ, concat(asked.payload, fields(0xfeed)), REPLY));
    expect((await s.client.next()).id).toBe(77);
    for (let i = 0; i < 100; i++) expect(await s.client.next()).toMatchObject({ id: 78, errno: 0 });
  });

  it.each(['twin', 'client'] as const)('closed by the client at the %s end: both go, the waiting access fails, nothing is left', async (which) => {
    const before = countOpenFds();
    const s = await twinned();
    s.client.send(message(77, READ, fields(0n, 0, 4)));
    await s.twin.next();
    const gone = nextEvent('disconnect');
    s[which].close();
    expect(await gone).toMatchObject({ reason: 'closed' });
    await (which === 'twin' ? s.client : s.twin).closed;
    await s[Symbol.asyncDispose]();
    expect(countOpenFds()).toBe(before);
  });

  it('is not given where the server has it switched off, or has no descriptors left; the main socket serves then', async () => {
    const broken = withFaults(linux, [{ call: 'unixSocketPair', nth: 1, errno: 'EMFILE' }]);
    for (const server of [{ twinSocket: false }, { sys: broken }]) {
      await using s = await serve({ device: new Reading(), version: null, server });
      const reply = await s.client.request(VERSION, TWIN_VERSION);
      expect(reply.fds).toEqual([]);
      expect(new TextDecoder().decode(reply.payload)).not.toContain('twin_socket');
      await s.client.errno(DMA_MAP, fields(32, 3, 0n, 0x1000n, 0x1000n));
      s.client.send(message(77, READ, fields(0n, 0, 4)));
      expect((await s.client.next()).command).toBe(DMA_READ);
    }
  });
});
