/** A server that lies, stops or leaves: a typed error for every caller, nothing left open. */
import { Window } from '@emudev/dma';
import { countOpenFds, linux, withFaults } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CHANNEL, MAX_ABANDONED_REQUESTS, MAX_QUEUED_BYTES, MAX_SERVER_REQUEST_BYTES, MAX_SERVER_REQUESTS, VfioUserClient } from '../src/index.ts';
import type { ClientErrorCode, ClientEvent } from '../src/index.ts';
import { attach, connectTo, FakeServer, greet } from './fake-server.ts';
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

  test('an answer to what was given up, with the id but not the command of it', async () => {
    const held: p.Frame[] = [];
    using at = await attach((frame) => { held.push(frame); });
    const abort = new AbortController();
    const given = at.client.read(2, 0, 4, { signal: abort.signal });
    await expect.poll(() => held.length).toBe(1);
    abort.abort();
    await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    at.server.send(p.encodeMessage(held[0]!.id, p.VFIO_USER_REGION_WRITE, 1, read4(0, 2, 0)));
    expect((await at.client.closed).reason).toBe('bad-server');
  });

  test('more bytes of DMA messages than are held while the handler works', async () => {
    const [ours, theirs] = linux.unixSocketPair();
    using _server = new FakeServer(theirs, greet((frame, server) => { server.reply(frame); }));
    let writes = 0;
    const client = await VfioUserClient.connect({ fd: ours }, { dma: { read: () => {}, write: () => (writes++, new Promise<void>(() => {})) } });
    await client.dmaMap({ iova: 0n, sizeBytes: 1 << 20, readable: true, writable: true });
    const message = p.encodeMessage(1, p.VFIO_USER_DMA_WRITE, 0, p.encodeDmaWrite(0n, new Uint8Array(1 << 20), 'lvu'));
    let open = true;
    void client.closed.then(() => { open = false; });
    for (let sent = 0; open && sent < MAX_SERVER_REQUEST_BYTES + 2 * message.length;) {
      const n = linux.sendmsg(theirs, message.subarray(sent % message.length), []);
      if (n === undefined) await new Promise((resolve) => setImmediate(resolve));
      else sent += n;
    }
    client.close();
    expect([(await client.closed).reason, writes]).toEqual(['bad-server', 1]);
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

/** Each command with an answer that cannot be true. Afterwards the connection is closed and everything is released. */
describe('answers that end the connection', () => {
  type Lie = (frame: p.Frame, server: FakeServer) => void;
  const u32 = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, value, true);
    return bytes;
  };
  const u64 = (bytes: Uint8Array, at: number, value: bigint): Uint8Array => {
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(at, value, true);
    return bytes;
  };
  const reply = (make: (frame: p.Frame) => Uint8Array, fds = 0): Lie => (frame, server) => {
    withMemfd((fd) => { server.reply(frame, make(frame), new Array<number>(fds).fill(fd)); });
  };
  /** Region 0 of 4096 bytes, then what `chain` makes of the capability area (argsz 8192 worth of it). */
  const region = (change: (bytes: Uint8Array) => Uint8Array, info: Partial<p.RegionInfo> = {}, fds = 0): Lie => reply((frame) => {
    const { argsz } = p.decodeGetRegionInfo(frame.payload);
    const { payload, complete } = p.encodeRegionInfo({ flags: 7, index: 0, sizeBytes: 4096, fileOffset: 0, areas: [{ offset: 0, sizeBytes: 4096 }], msixMappable: true, ...info }, argsz);
    return complete ? change(payload) : payload;
  }, fds);
  const ioFds = (change: (bytes: Uint8Array) => Uint8Array, fds = 1, record: Partial<p.IoFdRecord> = {}): Lie => (frame, server) => {
    if (frame.command === p.VFIO_USER_DEVICE_GET_REGION_INFO) return server.reply(frame, p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 4096, fileOffset: 0 }, 32).payload);
    const { argsz, index } = p.decodeGetRegionIoFds(frame.payload);
    const { payload } = p.encodeRegionIoFds(index, [{ kind: 'ioeventfd', offset: 0, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 0n, ...record } as p.IoFdRecord], argsz);
    withMemfd((fd) => { server.reply(frame, change(payload), new Array<number>(fds).fill(fd)); });
  };
  const logged = (lie: Lie): Lie => (frame, server) => {
    const { feature } = frame.command === p.VFIO_USER_DEVICE_FEATURE ? p.decodeDeviceFeature(frame.payload) : { feature: -1 };
    if (feature === p.VFIO_DEVICE_FEATURE_DMA_LOGGING_START) server.reply(frame, frame.payload);
    else if (frame.command === p.VFIO_USER_DMA_MAP) server.reply(frame);
    else lie(frame, server);
  };
  const report = (change: (report: p.DmaLoggingReport) => Uint8Array): Lie => logged(reply((frame) => {
    const { data, argsz } = p.decodeDeviceFeature(frame.payload);
    return p.encodeDeviceFeature(p.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, p.VFIO_DEVICE_FEATURE_GET, change(p.decodeDmaLoggingReport(data, argsz)));
  }));
  const getReport = async (client: VfioUserClient): Promise<unknown> => {
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    const mapped = client.dma.map({ iova: 0n, sizeBytes: 64 * 4096, readable: true, writable: true, fd });
    await mapped.finally(() => { linux.close(fd); });
    await client.dirtyLog.start(4096);
    return client.dirtyLog.report(0n, 64n * 4096n, 4096);
  };
  const unmapDirty = async (client: VfioUserClient): Promise<unknown> => {
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    const mapped = client.dma.map({ iova: 0n, sizeBytes: 64 * 4096, readable: true, writable: true, fd });
    await mapped.finally(() => { linux.close(fd); });
    return client.dma.unmapDirty(0n, 64 * 4096, 4096);
  };
  const unmapReply = (change: (request: p.DmaUnmap) => Uint8Array): Lie => logged(reply((frame) => change(p.decodeDmaUnmap(frame.payload))));

  test.each<[string, (client: VfioUserClient) => Promise<unknown>, Lie]>([
    ['write: more written than sent', (c) => c.write(2, 0, new Uint8Array(4)), reply(() => p.encodeRegionData(0, 2, new Uint8Array(8)).fill(8, 12, 13).subarray(0, 16))],
    ['write: data in the answer', (c) => c.write(2, 0, new Uint8Array(4)), reply(() => p.encodeRegionData(0, 2, new Uint8Array(4)))],
    ['posted write: answered', async (c) => { await c.write(2, 0, new Uint8Array(4), { posted: true }); return c.reset(); }, (f, s) => { s.reply(f, p.encodeRegionData(0, 2, new Uint8Array(0))); }],
    ['posted write: an error answer', async (c) => { await c.write(2, 0, new Uint8Array(4), { posted: true }); return c.reset(); }, (f, s) => { s.refuse(f, p.EINVAL); }],
    ['writeMulti: more executed than sent', (c) => c.regions.writeMulti([0, 8].map((offset) => ({ region: 2, offset, data: new Uint8Array(4) }))), reply(() => p.encodeRegionWriteMultiReply(3))],
    ['writeMulti: 2^53 executed', (c) => c.regions.writeMulti([0, 8].map((offset) => ({ region: 2, offset, data: new Uint8Array(4) }))), reply(() => u64(new Uint8Array(8), 0, 1n << 53n))],
    ['writeMulti: nothing in the answer', (c) => c.regions.writeMulti([0, 8].map((offset) => ({ region: 2, offset, data: new Uint8Array(4) }))), reply(() => new Uint8Array(0))],
    ['reset: a payload', (c) => c.reset(), reply(() => new Uint8Array(1))],
    ['device info: cut short', (c) => c.deviceInfo(), reply(() => new Uint8Array(15))],
    ['device info: 2^32 - 1 regions', (c) => c.deviceInfo(), reply(() => new Uint8Array(16).fill(0xff))],
    ['interrupt info: another index', (c) => c.irqInfo(1), reply(() => p.encodeIrqInfo({ flags: 1, index: 2, count: 1 }))],
    ['interrupt info: 2049 vectors', (c) => c.irqInfo(1), reply(() => p.encodeIrqInfo({ flags: 1, index: 1, count: 2049 }))],
    ['interrupt info: longer than it is', (c) => c.irqInfo(1), reply(() => new Uint8Array(17))],
    ['region info: a chain that leads back to its beginning', (c) => c.regionInfo(0), region((b) => u32(b, 32 + 4, 32))],
    ['region info: a chain that leads back into the fixed part', (c) => c.regionInfo(0), region((b) => u32(b, 32 + 4, 8))],
    ['region info: a chain out of the message', (c) => c.regionInfo(0), region((b) => u32(b, 32 + 4, 4096))],
    ['region info: a chain that begins nowhere', (c) => c.regionInfo(0), region((b) => u32(b, 12, 0xffff_fff0))],
    ['region info: more areas than the message holds', (c) => c.regionInfo(0), region((b) => u32(b, 32 + 8, 100))],
    ['region info: 2^32 - 1 areas', (c) => c.regionInfo(0), region((b) => u32(b, 32 + 8, 0xffff_ffff))],
    ['region info: an area beyond the region', (c) => c.regionInfo(0), region((b) => b, { areas: [{ offset: 4096, sizeBytes: 1 }] })],
    ['region info: an area whose end overflows', (c) => c.regionInfo(0), region((b) => u64(u64(b, 48, (1n << 53n) - 4096n), 56, (1n << 53n) - 4096n))],
    ['region info: a size of 2^64 - 1', (c) => c.regionInfo(0), region((b) => u64(b, 16, (1n << 64n) - 1n))],
    ['region info: a file offset of 2^63', (c) => c.regionInfo(0), region((b) => u64(b, 24, 1n << 63n))],
    ['region info: a need of megabytes', (c) => c.regionInfo(0), region((b) => u32(b, 0, 1 << 20))],
    ['region info: two descriptors', (c) => c.regionInfo(0), region((b) => b, {}, 2)],
    ['io descriptors: of another region', (c) => c.regions.ioFds(0), ioFds((b) => u32(b, 8, 1))],
    ['io descriptors: an index beyond those passed', (c) => c.regions.ioFds(0), ioFds((b) => b, 1, { fdIndex: 1 })],
    ['io descriptors: an index, none passed', (c) => c.regions.ioFds(0), ioFds((b) => b, 0)],
    ['io descriptors: outside the region', (c) => c.regions.ioFds(0), ioFds((b) => b, 1, { offset: 4093 })],
    ['io descriptors: far outside', (c) => c.regions.ioFds(0), ioFds((b) => u64(b, 16 + 8, 1n << 60n))],
    ['io descriptors: a type nobody knows', (c) => c.regions.ioFds(0), ioFds((b) => u32(b, 16 + 20, 3))],
    ['io descriptors: fewer records than it counts', (c) => c.regions.ioFds(0), ioFds((b) => u32(u32(b, 12, 2), 0, 16 + 96))],
    ['io descriptors: 2^32 - 1 of them', (c) => c.regions.ioFds(0), ioFds((b) => u32(b, 12, 0xffff_ffff))],
    ['io descriptors: left out although there was room', (c) => c.regions.ioFds(0), ioFds((b) => b.subarray(0, 16), 0)],
    ['io descriptors: passed without a record', (c) => c.regions.ioFds(0), ioFds((b) => u32(u32(b, 12, 100), 0, 16 + 4800).subarray(0, 16))],
    ['set interrupts: a payload', (c) => c.maskIrq(0, 0), reply(() => new Uint8Array(20))],
    ['map: a payload', (c) => c.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true }), reply(() => new Uint8Array(32))],
    ['unmap: another address', (c) => c.dmaUnmapAll(), reply(() => p.encodeDmaUnmapReply({ argsz: 24, flags: 2, address: 4096n, size: 0n }))],
    ['unmap: another size', (c) => c.dmaUnmapAll(), reply(() => p.encodeDmaUnmapReply({ argsz: 24, flags: 2, address: 0n, size: 1n }))],
    ['unmap: other flags', (c) => c.dmaUnmapAll(), reply(() => p.encodeDmaUnmapReply({ argsz: 24, flags: 0, address: 0n, size: 0n }))],
    ['unmap: a bitmap nobody asked for', (c) => c.dmaUnmapAll(), reply(() => u32(new Uint8Array(40), 4, 1))],
    ['unmap with a bitmap: without one', unmapDirty, unmapReply(() => new Uint8Array(0))],
    ['unmap with a bitmap: with other flags', unmapDirty, unmapReply((r) => p.encodeDmaUnmapReply({ ...r, flags: 0 }))],
    ['unmap with a bitmap: shorter than asked for', unmapDirty, unmapReply((r) => p.encodeDmaUnmapReply(r, new Uint8Array(0)))],
    ['unmap with a bitmap: longer', unmapDirty, unmapReply((r) => p.encodeDmaUnmapReply(r, new Uint8Array(16)))],
    ['unmap with a bitmap: other pages', unmapDirty, unmapReply((r) => u64(p.encodeDmaUnmapReply(r, new Uint8Array(8)), 24, 8192n))],
    ['unmap with a bitmap: fewer bytes than it says', unmapDirty, unmapReply((r) => u64(p.encodeDmaUnmapReply(r, new Uint8Array(8)), 32, 16n))],
    ['feature SET: other data in the echo', (c) => c.features.set(2, Uint8Array.of(1, 2)), reply((f) => { const b = f.payload.slice(); b[8]!++; return b; })],
    ['feature SET: another feature in the echo', (c) => c.features.set(2, Uint8Array.of(1, 2)), reply((f) => u32(f.payload.slice(), 4, 0x20003))],
    ['feature SET: an echo cut short', (c) => c.features.set(2, Uint8Array.of(1, 2)), reply((f) => f.payload.slice(0, 9))],
    ['feature SET: a longer echo', (c) => c.features.set(2, Uint8Array.of(1, 2)), reply((f) => Uint8Array.from([...f.payload, 0]))],
    ['feature PROBE: no echo', (c) => c.features.probe(1, ['get']), reply(() => new Uint8Array(0))],
    ['feature GET: another feature', (c) => c.features.get(1, { maxBytes: 8 }), reply(() => p.encodeDeviceFeature(2, p.VFIO_DEVICE_FEATURE_GET, new Uint8Array(8)))],
    ['feature GET: the answer to a SET', (c) => c.features.get(1, { maxBytes: 8 }), reply(() => p.encodeDeviceFeature(1, p.VFIO_DEVICE_FEATURE_SET, new Uint8Array(8)))],
    ['feature GET: more than there is room for', (c) => c.features.get(1, { maxBytes: 8 }), reply(() => p.encodeDeviceFeature(1, p.VFIO_DEVICE_FEATURE_GET, new Uint8Array(9)))],
    ['migration flags: cut short', (c) => c.migration.capabilities(), reply(() => p.encodeDeviceFeature(1, p.VFIO_DEVICE_FEATURE_GET, new Uint8Array(7)))],
    ['migration state: none that exists', (c) => c.migration.state(), reply(() => p.encodeDeviceFeature(2, p.VFIO_DEVICE_FEATURE_GET, p.encodeMigDeviceState(8)))],
    ['migration data: more than asked for', (c) => c.migration.read(16), reply(() => p.encodeMigDataReadReply(new Uint8Array(17)))],
    ['migration data: a size beyond the message', (c) => c.migration.read(16), reply(() => u32(p.encodeMigDataReadReply(new Uint8Array(4)), 4, 16))],
    ['migration data: a size beyond what was asked for, in padding', (c) => c.migration.read(16), reply(() => u32(p.encodeMigDataReadReply(new Uint8Array(4), 16), 4, 17))],
    ['migration data: a header cut short', (c) => c.migration.read(16), reply(() => new Uint8Array(7))],
    ['migration data written: a payload', (c) => c.migration.write(new Uint8Array(4)), reply(() => new Uint8Array(8))],
    ['dirty pages: a bitmap too short', getReport, report((r) => p.encodeDmaLoggingReport(r, new Uint8Array(0)))],
    ['dirty pages: a bitmap too long', getReport, report((r) => p.encodeDmaLoggingReport(r, new Uint8Array(16)))],
    ['dirty pages: of another range', getReport, report((r) => p.encodeDmaLoggingReport({ ...r, iova: 0x1000n }, new Uint8Array(8)))],
    ['dirty pages: of a larger range', getReport, report((r) => p.encodeDmaLoggingReport({ ...r, length: r.length * 2n }, new Uint8Array(16)))],
    ['dirty pages: in other pages', getReport, report((r) => p.encodeDmaLoggingReport({ ...r, pageSize: 8192n }, new Uint8Array(8)))],
    ['dirty pages: in pages of 0 bytes', getReport, report((r) => p.encodeDmaLoggingReport({ ...r, pageSize: 0n }, new Uint8Array(8)))],
  ])('%s', async (_, call, lie) => {
    using at = await attach(lie, {}, { writeMultiple: true });
    await expect(call(at.client)).rejects.toMatchObject({ code: BAD });
    expect((await at.client.closed).reason).toBe('bad-server');
  });
});

/** Odd, but the connection can go on: only this request fails. */
describe('answers that fail one request', () => {
  const goesOn = async (call: (client: VfioUserClient) => Promise<unknown>, code: ClientErrorCode, handler: Handler, errno?: number): Promise<void> => {
    using at = await attach((frame, server) => { if (frame.command === p.VFIO_USER_DEVICE_RESET) server.reply(frame); else handler(frame, server); });
    await expect(call(at.client)).rejects.toMatchObject({ code, ...(errno === undefined ? {} : { errno }) });
    await at.client.reset();
  };

  test.each([[0, 22], [4096, 22], [0xffff_ffff, 22], [4095, 4095], [95, 95]])('an error with errno %i reads as %i', async (sent, seen) => {
    await goesOn((client) => client.irqInfo(0), 'ERR_VFU_CLIENT_REFUSED', (frame, server) => { server.refuse(frame, sent); }, seen);
  });

  test('an error with a body of any length and with descriptors: drained, closed', async () => {
    await goesOn((client) => client.irqInfo(0), 'ERR_VFU_CLIENT_REFUSED', (frame, server) => {
      const message = p.encodeMessage(frame.id, frame.command, 0x21, new Uint8Array(5000));
      message[12] = 5;
      withMemfd((fd) => { server.send(message, [fd]); });
    }, 5);
  });

  test('region info whose need keeps growing', async () => {
    let need = 40;
    await goesOn((client) => client.regionInfo(0), 'ERR_VFU_CLIENT_SHORT', (frame, server) => {
      const { payload } = p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 4096, fileOffset: 0 }, 32);
      payload[0] = need += 8;
      server.reply(frame, payload);
    });
  });

  test('io descriptors whose number keeps growing', async () => {
    let count = 16;
    await goesOn((client) => client.regions.ioFds(0), 'ERR_VFU_CLIENT_SHORT', (frame, server) => {
      if (frame.command === p.VFIO_USER_DEVICE_GET_REGION_INFO) return server.reply(frame, p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 4096, fileOffset: 0 }, 32).payload);
      const record: p.IoFdRecord = { kind: 'ioeventfd', offset: 0, sizeBytes: 4, fdIndex: -1, flags: 0, datamatch: 0n };
      server.reply(frame, p.encodeRegionIoFds(0, new Array<p.IoFdRecord>((count += 8)).fill(record), 16).payload);
    });
  });

  test('a report without a bitmap, as libvfio-user gives across regions', async () => {
    await goesOn((client) => client.features.get(8, { maxBytes: 32 }), 'ERR_VFU_CLIENT_SHORT', (frame, server) => { server.reply(frame); });
  });
});

describe('a server that stops', () => {
  test.each([3, 16, 20])('after %i bytes of a message: the request times out, nothing stays', async (bytes) => {
    using at = await attach((frame, server) => { withMemfd((fd) => { server.send(p.encodeMessage(frame.id, frame.command, 1, p.encodeRegionData(0, 2, new Uint8Array(4))).subarray(0, bytes), [fd]); }); }, { timeoutMs: 20 });
    await expect(at.client.read(2, 0, 4)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_TIMEOUT' });
  });

  test('and goes on in the middle of it: the stream is in step', async () => {
    let rest: Uint8Array | undefined;
    using at = await attach((frame, server) => {
      if (rest !== undefined) { server.send(rest); server.reply(frame); return; }
      const whole = p.encodeMessage(frame.id, frame.command, 1, p.encodeRegionData(0, 2, Uint8Array.of(1, 2, 3, 4)));
      server.send(whole.subarray(0, 21));
      rest = whole.subarray(21);
    });
    const read = at.client.read(2, 0, 4);
    await expect.poll(() => rest).toBeDefined();
    await at.client.reset();
    expect([...(await read)]).toEqual([1, 2, 3, 4]);
  });
});

test('a file under a mapping cannot be truncated any more', async () => {
  using window = Window.open();
  const fd = linux.memfdCreate('doorbells', { allowSealing: true });
  linux.ftruncate(fd, 8192);
  using at = await attach((frame, server) => { server.reply(frame, p.encodeRegionInfo({ flags: 7, index: 0, sizeBytes: 8192, fileOffset: 0 }, 32).payload, [fd]); });
  using mapping = await at.client.mapRegion(0, window);
  expect(() => { linux.ftruncate(fd, 0); }).toThrow();
  expect(window.u8[mapping.at(4096, 1)!]).toBe(0);
  linux.close(fd);
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

  test('however many answers came too late: only those that are still missing count', async () => {
    const held: p.Frame[] = [];
    using at = await attach((frame, server) => {
      if (frame.command === p.VFIO_USER_REGION_READ) return void held.push(frame);
      for (const late of held.splice(0)) server.reply(late, p.encodeRegionData(0, 2, new Uint8Array(4)));
      server.reply(frame);
    });
    const some = Math.ceil(MAX_ABANDONED_REQUESTS / 2) + 1;
    for (let round = 0; round < 3; round++) {
      const reads = Array.from({ length: some }, () => at.client.read(2, 0, 4, { timeoutMs: 20 }));
      for (const result of await Promise.allSettled(reads)) expect(result).toMatchObject({ reason: { code: 'ERR_VFU_CLIENT_TIMEOUT' } });
      await at.client.reset();
    }
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

  test('stray descriptors on a DMA message are closed', async () => {
    using at = await attach(() => {});
    withMemfd((fd) => at.server.send(p.encodeMessage(1, p.VFIO_USER_DMA_READ, 0, p.encodeDmaRead({ address: 0n, count: 4 })), [fd, fd]));
    await expect.poll(() => at.server.seen.map((frame) => frame.error)).toEqual([p.EFAULT]);
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

  test('in the very receive that brings the last answer of connect: the client is there, ended, and says so', async () => {
    const twice: Handler = (frame, server) => {
      if (frame.command === p.VFIO_USER_VERSION) return server.reply(frame, p.encodeVersion({ major: 0, minor: 2, capabilities: {} }));
      const answer = p.encodeMessage(frame.id, frame.command, p.VFIO_USER_F_TYPE_REPLY, p.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }));
      // One send: the second answers nothing.
      server.send(Uint8Array.from([...answer, ...answer]));
    };
    const client = await connectTo(twice);
    expect((await client.closed).reason).toBe('bad-server');
    await expect(client.reset()).rejects.toMatchObject({ code: BAD });
    await client[Symbol.asyncDispose]();
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

  test('who gives up a message that has begun to leave does not cut it off', async () => {
    let room = Infinity;
    const sendmsg: Sys['sendmsg'] = (fd, bytes, fds) => {
      const n = room === 0 ? undefined : linux.sendmsg(fd, bytes.subarray(0, room), fds);
      room -= n ?? 0;
      return n;
    };
    using at = await attach((frame, server) => server.reply(frame, frame.command === p.VFIO_USER_REGION_WRITE ? p.encodeRegionData(0, 2, new Uint8Array(4)).subarray(0, 16) : undefined), { sys: { ...linux, sendmsg } });
    room = 20;
    const abort = new AbortController();
    const given = at.client.write(2, 0, new Uint8Array(4), { signal: abort.signal });
    await expect.poll(() => room).toBe(0);
    abort.abort();
    await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    room = Infinity;
    await at.client.reset();
    expect(at.server.seen.map((frame) => frame.command)).toEqual([p.VFIO_USER_REGION_WRITE, p.VFIO_USER_DEVICE_RESET]);
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
