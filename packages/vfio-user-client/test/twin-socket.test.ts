/** The server's commands on a socket of their own. */
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VfioUserClient } from '../src/index.ts';
import type { ConnectOptions } from '../src/index.ts';
import { ANNOUNCED, FakeServer } from './fake-server.ts';
import type { Attached, Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

/** A server that passes `fds` with its greeting and says `twinSocket` about them. */
async function attach(twinSocket: p.Capabilities['twinSocket'], fds: number[], handler: Handler = (frame, server) => { server.reply(frame); }, options: ConnectOptions = {}): Promise<Attached> {
  const [ours, theirs] = linux.unixSocketPair();
  const server = new FakeServer(theirs, (frame, self) => {
    if (frame.command === p.VFIO_USER_VERSION) self.reply(frame, p.encodeVersion({ major: 0, minor: 2, capabilities: { ...ANNOUNCED, ...(twinSocket === undefined ? {} : { twinSocket }) } }), fds);
    else if (frame.command === p.VFIO_USER_DEVICE_GET_INFO) self.reply(frame, p.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }));
    else handler(frame, self);
  });
  try {
    const client = await VfioUserClient.connect({ fd: ours }, { twinSocket: true, ...options });
    return { client, server, [Symbol.dispose]: () => { client.close(); server.close(); } };
  } catch (error) {
    server.close();
    throw error;
  } finally {
    for (const fd of fds) linux.close(fd);
  }
}

describe('granted', () => {
  test('DMA messages come and are answered there, whatever is in flight on the main socket', async () => {
    const [ours, theirs] = linux.unixSocketPair();
    const answers: p.Frame[] = [];
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const memory = Uint8Array.from({ length: 4096 }, (_, i) => i);
    const held: p.Frame[] = [];
    using at = await attach({ supported: true, fdIndex: 1 }, [linux.eventfd(), theirs], (frame, server) => {
      if (frame.command === p.VFIO_USER_DEVICE_RESET) held.push(frame);
      else server.reply(frame);
    });
    using twin = new FakeServer(ours, (frame) => { answers.push(frame); resolve(undefined); });
    expect(at.client.hasTwinSocket).toBe(true);
    await at.client.dma.map({ iova: 0n, sizeBytes: 4096, readable: true, writable: true, memory });
    const reset = at.client.reset();
    twin.send(p.encodeMessage(9, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: 4n, count: 3 })));
    await promise;
    expect(p.decodeDmaReadReply(answers[0]!.payload, 'lvu').data).toEqual(Uint8Array.of(4, 5, 6));
    at.server.reply(held[0]!);
    await reset;
    expect(at.server.seen.some((frame) => p.isReply(frame.flags))).toBe(false);
  });

  test.each<[string, (main: FakeServer, twin: FakeServer) => void]>([
    ['a command on the main socket', (main) => { main.send(p.encodeMessage(1, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: 0n, count: 4 }))); }],
    ['a reply on the twin', (_, twin) => { twin.send(p.encodeErrorReply(1, p.VFIO_USER_DEVICE_RESET, 5)); }],
    ['a bad size on the twin', (_, twin) => { twin.send(p.encodeHeader({ id: 1, command: 11, size: 3, flags: 0, error: 0 })); }],
  ])('%s ends both', async (_, lie) => {
    const [ours, theirs] = linux.unixSocketPair();
    using at = await attach({ supported: true, fdIndex: 0 }, [theirs], () => {});
    using twin = new FakeServer(ours, () => {});
    const reset = at.client.reset();
    lie(at.server, twin);
    await expect(reset).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BAD_SERVER' });
    expect((await at.client.closed).reason).toBe('bad-server');
    await Promise.all([twin.ended, at.server.ended]);
  });

  test.each(['main', 'twin'] as const)('the end of the %s socket is the end of both', async (which) => {
    const [ours, theirs] = linux.unixSocketPair();
    using at = await attach({ supported: true, fdIndex: 0 }, [theirs], () => {});
    using twin = new FakeServer(ours, () => {});
    (which === 'main' ? at.server : twin).close();
    expect((await at.client.closed).reason).toBe('server-closed');
    await Promise.all([twin.ended, at.server.ended]);
  });
});

test('not granted: commands come on the main socket as ever', async () => {
  using at = await attach({ supported: false }, []);
  expect(at.client.hasTwinSocket).toBe(false);
  using without = await attach(undefined, []);
  expect(without.client.hasTwinSocket).toBe(false);
});

describe('lies', () => {
  const BAD = { code: 'ERR_VFU_CLIENT_BAD_SERVER' };
  test('granted without an index, beyond the descriptors, or without any', async () => {
    await expect(attach({ supported: true }, [linux.eventfd()])).rejects.toMatchObject(BAD);
    await expect(attach({ supported: true, fdIndex: 1 }, [linux.eventfd()])).rejects.toMatchObject(BAD);
    await expect(attach({ supported: true, fdIndex: 0 }, [])).rejects.toMatchObject(BAD);
  });

  test('something that is no socket', async () => {
    await expect(attach({ supported: true, fdIndex: 0 }, [linux.eventfd()])).rejects.toMatchObject(BAD);
    await expect(attach({ supported: true, fdIndex: 0 }, [linux.memfdCreate('no-socket', { allowSealing: true })])).rejects.toMatchObject(BAD);
  });

  test('nobody asked', async () => {
    const [ours, theirs] = linux.unixSocketPair();
    await expect(attach({ supported: true, fdIndex: 0 }, [theirs], undefined, { twinSocket: false })).rejects.toMatchObject(BAD);
    linux.close(ours);
  });
});

describe('what is announced', () => {
  const announced = async (options: ConnectOptions): Promise<p.Version> => {
    const [ours, theirs] = linux.unixSocketPair();
    using server = new FakeServer(theirs, (_, self) => { self.close(); });
    await expect(VfioUserClient.connect({ fd: ours }, options)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
    return p.decodeVersion(server.seen[0]!.payload);
  };

  test('by default, and by wish', async () => {
    expect(await announced({})).toEqual({ major: 0, minor: 2, capabilities: { maxMsgFds: 16, maxDataXferSize: 1 << 20, maxDmaMaps: 65_535, pgsizes: 4096 } });
    expect(await announced({ minor: 0, twinSocket: true, capabilities: { maxMsgFds: 3, maxDataXferSize: 1024, migration: { pgsize: 4096 } } }))
      .toEqual({ major: 0, minor: 0, capabilities: { maxMsgFds: 3, maxDataXferSize: 1024, maxDmaMaps: 65_535, pgsizes: 4096, migration: { pgsize: 4096 }, twinSocket: { supported: true } } });
  });

  test('what could not be kept is refused before anything is sent, and the descriptor closed', async () => {
    for (const options of [{ minor: 3 }, { minor: -1 }, { capabilities: { maxMsgFds: 254 } }, { capabilities: { maxDataXferSize: 1 << 21 } }, { capabilities: { maxDataXferSize: 0 } }, { twinSocket: true, capabilities: { maxMsgFds: 0 } }, { reconnect: {} }]) {
      const [ours, theirs] = linux.unixSocketPair();
      await expect(VfioUserClient.connect({ fd: ours }, options)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
      linux.close(theirs);
    }
  });

  test('a higher minor version than was proposed is a lie', async () => {
    await expect(attach(undefined, [], undefined, { minor: 1, twinSocket: false })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BAD_SERVER' });
  });

  test('more descriptors than announced end the connection', async () => {
    const fd = linux.eventfd();
    using at = await attach(undefined, [], (frame, server) => { server.reply(frame, undefined, [fd, fd, fd]); }, { capabilities: { maxMsgFds: 2 } });
    await expect(at.client.reset()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_BAD_SERVER' });
    linux.close(fd);
  });
});
