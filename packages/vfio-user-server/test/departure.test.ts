/** Devices that do not do what they are asked in time, and clients that leave meanwhile: nothing goes away under a running burst, nobody waits for ever. */
import { openSync } from 'node:fs';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { countMappings, countOpenFds, linux, withFaults } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { FakeDevice, memfd, nextEvent, serve, window } from './fixture.ts';
import { concat, fields, header, LVU_VERSION, message, NO_REPLY, RawClient } from './raw-client.ts';

const [VERSION, DMA_MAP, GET_INFO, GET_REGION_INFO, WRITE] = [1, 2, 4, 5, 10];
const info = fields(16, 0, 0, 0);
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });
const mapOf = (iova: bigint): Uint8Array => fields(32, 3, 0n, iova, 0x1000n);

/** A device whose threads are stuck until the test says otherwise. */
class StuckDevice extends FakeDevice {
  stuck = false;
  override quiesce(reason: Parameters<FakeDevice['quiesce']>[0]): Promise<void> {
    return this.stuck ? Promise.reject(new Error('lcore 0 passed no checkpoint')) : super.quiesce(reason);
  }
}

describe('a device that does not become quiescent when its client has left', () => {
  it('keeps memory and interrupts of that client until it is, and the next client waits', async () => {
    const device = new StuckDevice();
    await using server = new VfioUserServer(device, { window });
    const [ours, theirs] = linux.unixSocketPair();
    server.adoptConnection(ours);
    const client = new RawClient(theirs);
    await client.request(VERSION, LVU_VERSION);
    const fd = memfd(0x1000, 'stuck');
    expect(await client.errno(DMA_MAP, mapOf(0n), [fd])).toBe(0);
    device.take();
    device.stuck = true;
    const fault = nextEvent('fault');
    const gone = nextEvent('disconnect');
    client.close();
    expect(await fault).toMatchObject({ what: 'quiesce' });
    expect({ mapped: countMappings('memfd:stuck'), state: server.session?.state, log: device.take() }).toEqual({ mapped: 1, state: 'ending', log: [] });
    device.stuck = false;
    expect(await gone).toMatchObject({ reason: 'closed' });
    expect({ mapped: countMappings('memfd:stuck'), log: device.take() }).toEqual({ mapped: 0, log: ['quiesce detach', 'detach closed', 'resume'] });
    linux.close(fd);
  });

  it('does not keep the server from closing; what its threads may use stays mapped', async () => {
    const device = new StuckDevice();
    const s = await serve({ device });
    const fd = memfd(0x1000, 'kept');
    expect(await s.client.errno(DMA_MAP, mapOf(0n), [fd])).toBe(0);
    device.stuck = true;
    await s.server.close();
    expect(countMappings('memfd:kept')).toBe(1);
    expect(device.take()).toContain('detach server-closed');
    s.client.close();
    linux.close(fd);
  });
});

describe('a command that never ends', () => {
  const limits = { departureTimeoutMs: 30 };

  it('does not keep the next client out, nor the server from closing', async () => {
    const device = new FakeDevice();
    device.write = () => new Promise<void>(() => undefined);
    const server = new VfioUserServer(device, { window, limits });
    for (let n = 0; n < 2; n++) {
      const [ours, theirs] = linux.unixSocketPair();
      server.adoptConnection(ours);
      const client = new RawClient(theirs);
      await client.request(VERSION, LVU_VERSION);
      client.send(message(1, WRITE, fields(0n, 0, 4, 1)));
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
    }
    expect(device.take()).toEqual(['attach', 'quiesce detach', 'detach closed', 'resume', 'attach', 'quiesce detach', 'detach closed', 'resume']);
    await server.close();
  });

  it('and ends at last changes nothing any more: the memory of a client that left is not mapped', async () => {
    const device = new FakeDevice();
    const fds = countOpenFds();
    let late: (() => void) | undefined;
    device.quiesce = (reason) => (reason === 'dma-map' ? new Promise((resolve) => { late = resolve; }) : Promise.resolve());
    const server = new VfioUserServer(device, { window, limits });
    const [ours, theirs] = linux.unixSocketPair();
    server.adoptConnection(ours);
    const client = new RawClient(theirs);
    await client.request(VERSION, LVU_VERSION);
    const fd = memfd(0x1000, 'late');
    client.send(message(1, DMA_MAP, mapOf(0n)), [fd]);
    linux.close(fd);
    while (late === undefined) await turn();
    const gone = nextEvent('disconnect');
    client.close();
    await gone;
    const refused = nextEvent('request-error');
    late();
    expect(await refused).toMatchObject({ command: 'DMA_MAP', errno: 16 });
    await turn();
    expect({ mapped: countMappings('memfd:late'), fds: countOpenFds() }).toEqual({ mapped: 0, fds });
    await server.close();
  });
});

describe('what one client can take from others', () => {
  it('FILE_IO takes regular files only, and few: each keeps a descriptor, however many regions lie in it', async () => {
    await using s = await serve({ server: { limits: { maxFileIoMaps: 2 } } });
    const fileIo = (iova: bigint): Uint8Array => fields(32, 11, 0n, iova, 0x1000n);
    const [a, b, c] = [memfd(0x1000), memfd(0x1000), memfd(0x1000)];
    const event = linux.eventfd();
    expect(await s.client.errno(DMA_MAP, fileIo(0n), [event])).toBe(22);
    const before = countOpenFds();
    for (const [iova, fd, errno] of [[0n, a, 0], [0x1000n, b, 0], [0x2000n, c, 28], [0n, a, 0], [0x3000n, a, 0]] as const) expect(await s.client.errno(DMA_MAP, fileIo(iova), [fd])).toBe(errno);
    expect(countOpenFds() - before).toBe(2);
    // The descriptor goes with the last region of its file.
    for (const [iova, left] of [[0n, 2], [0x1000n, 1], [0x3000n, 0]] as const) {
      expect(await s.client.errno(3, fields(24, 0, iova, 0x1000n))).toBe(0);
      expect(countOpenFds() - before).toBe(left);
    }
    expect(await s.client.errno(DMA_MAP, fileIo(0x2000n), [c])).toBe(0);
    for (const fd of [a, b, c, event]) linux.close(fd);
  });

  it('FILE_IO takes no file that is shorter than the region, and so none of /proc, which may block', async () => {
    await using s = await serve();
    const [file, pseudo] = [memfd(0x2000), openSync('/proc/self/maps', 'r')];
    const fileIo = (offset: bigint, size: bigint): Uint8Array => fields(32, 9, offset, 0n, size);
    for (const [fd, offset, size] of [[file, 0x2000n, 0x1000n], [file, 0x1000n, 0x2000n], [file, 2n ** 64n - 0x1000n, 0x1000n], [pseudo, 0n, 0x1000n]] as const) {
      expect(await s.client.errno(DMA_MAP, fileIo(offset, size), [fd])).toBe(22);
    }
    expect(await s.client.errno(DMA_MAP, fileIo(0x1000n, 0x1000n), [file])).toBe(0);
    for (const fd of [file, pseudo]) linux.close(fd);
  });

  it('replies with descriptors that it does not read are not made without end', async () => {
    const file = memfd(0x1000, 'bar');
    const device = new FakeDevice();
    device.regions.push({ index: 1, sizeBytes: 0x1000, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 0x1000 }], backing: { fd: file, offset: 0 } } });
    const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (fds.length > 0 ? undefined : linux.sendmsg(fd, bytes, fds)) };
    await using s = await serve({ device, server: { sys, limits: { maxPendingOutputFds: 8 } } });
    const before = countOpenFds();
    for (let n = 0; n < 100; n++) s.client.send(message(n, GET_REGION_INFO, fields(64, 0, 1, 0, 0n, 0n)));
    while (countOpenFds() - before < 9) await turn();
    for (let n = 0; n < 20; n++) await turn();
    expect(countOpenFds() - before).toBe(9);
    linux.close(file);
  });

  it('not the time of the thread: a full queue of commands is worked off in turns', async () => {
    const device = new FakeDevice();
    let writes = 0;
    device.write = () => {
      writes++;
      for (const until = performance.now() + 1; performance.now() < until;);
    };
    await using s = await serve({ device });
    const one = message(1, WRITE, fields(0n, 0, 4, 1), NO_REPLY);
    s.client.send(concat(...Array<Uint8Array>(300).fill(one)));
    let turns = 0;
    let last = 0;
    while (writes < 300) {
      await turn();
      if (writes > last && last > 0) turns++;
      last = writes;
    }
    // Without turns everybody else waits for all 300.
    expect(turns).toBeGreaterThan(4);
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
  });

  it('not the log: replies that nobody waits for are told once', async () => {
    const faults: unknown[] = [];
    const listener = (event: unknown): void => { faults.push(event); };
    subscribe('emudev:vfio-user-server:fault', listener);
    await using s = await serve();
    for (let n = 0; n < 50; n++) s.client.send(header(n, 11, 16, 1));
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
    unsubscribe('emudev:vfio-user-server:fault', listener);
    expect(faults).toHaveLength(1);
    expect(s.server.session?.counters.strayReplies).toBe(50);
  });
});

describe('a process that is out of descriptors', () => {
  it('cannot watch a new connection: it is closed, and the next one is served when there are some again', async () => {
    // The listener's is the first watch.
    const sys = withFaults(linux, [{ call: 'watch', nth: 2, errno: 'EMFILE' }]);
    const path = `/tmp/emudev-departure-${process.pid}.sock`;
    await using server = new VfioUserServer(new FakeDevice(), { window, sys });
    await server.listen(path);
    const fault = nextEvent('fault');
    const refused = RawClient.connect(path);
    expect(await fault).toMatchObject({ what: 'serving a connection' });
    await refused.closed;
    refused.close();
    const client = RawClient.connect(path);
    expect((await client.request(VERSION, LVU_VERSION)).errno).toBe(0);
    client.close();
  });

  it('cannot change what it watches: that session ends, and only it', async () => {
    const sys = { ...withFaults(linux, [{ call: 'watch', nth: 2, errno: 'ENOSPC' }]), sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (bytes.length > 1000 ? undefined : linux.sendmsg(fd, bytes, fds)) };
    await using s = await serve({ server: { sys } });
    const gone = nextEvent('disconnect');
    s.client.send(message(1, 9, fields(0n, 0, 2000)));
    expect(await gone).toMatchObject({ reason: 'connection-lost' });
  });
});
