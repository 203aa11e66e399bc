/** The server's behaviour command by command, against rules that libvfio-user's test-suite established; the row ids are ours. */
import { linux } from '@emudev/linux';
import { QEMU } from '@emudev/vfio-user-protocol';
import { describe, expect, it } from 'vitest';
import { FakeDevice, memfd, serve } from './fixture.ts';
import { concat, CH_VERSION, ERROR, fields, header, LVU_VERSION, message, NO_REPLY, QEMU_VERSION, REPLY, u32, u64, version, type RawClient } from './raw-client.ts';

const EINVAL = 22;
const [VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, IO_FDS, IRQ_INFO, SET_IRQS, READ, WRITE, RESET, MULTI, FEATURE] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16];
const KIB4 = 0x1000n;

const caps = (text: string): Uint8Array => version(`{"capabilities":${text}}`);
const setIrqs = (flags: number, index: number, start: number, count: number, data: Uint8Array = new Uint8Array(0)): Uint8Array => fields(20 + data.length, flags, index, start, count, data);
const [NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER] = [1, 2, 4, 8, 16, 32];
const dmaMap = (address: bigint, size: bigint, offset = 0n, flags = 3): Uint8Array => fields(32, flags, offset, address, size);
const dmaUnmap = (address: bigint, size: bigint, flags = 0, argsz = 24): Uint8Array => fields(argsz, flags, address, size);

describe('VERSION', () => {
  it.each<[string, Uint8Array]>([
    ['V1 no payload', new Uint8Array(0)],
    ['V4 major 999', version('{}', 999)],
    ['V5 no NUL', version('{}').subarray(0, 6)],
    ['V6 half an object', version('{')], ['V6 a quote', version('"')],
    ['V7 capabilities a string', caps('"x"')],
    ['V8 max_msg_fds a string', caps('{"max_msg_fds":"1"}')], ['V8 negative', caps('{"max_msg_fds":-1}')], ['V8 too many', caps('{"max_msg_fds":1025}')],
    ['V9 migration no object', caps('{"migration":1}')], ['V10 pgsize a string', caps('{"migration":{"pgsize":"x"}}')],
  ])('%s: EINVAL, then closed, and the device never hears of it', async (_name, payload) => {
    await using s = await serve({ version: null });
    const reply = await s.client.request(VERSION, payload);
    expect([reply.size, reply.flags, reply.errno]).toEqual([16, REPLY | ERROR, EINVAL]);
    await s.client.closed;
    expect(s.device.log).toEqual([]);
  });

  it('V2 longer than the limit: EINVAL, closed', async () => {
    await using s = await serve({ version: null });
    s.client.send(header(7, VERSION, 1 << 20));
    expect(await s.client.next()).toMatchObject({ id: 7, errno: EINVAL, size: 16 });
    await s.client.closed;
  });

  it('V3 another command first: EINVAL, closed', async () => {
    await using s = await serve({ version: null });
    expect(await s.client.errno(999, fields(1))).toBe(EINVAL);
    await s.client.closed;
  });

  it.each<[string, Uint8Array, number]>([
    ['V11 no JSON', version(undefined), 2], ['V12 empty object', version('{}'), 2],
    ['V13 largest values', caps('{"max_msg_fds":1024,"max_data_xfer_size":1048576}'), 2],
    ['QEMU', QEMU_VERSION, 0], ['Cloud Hypervisor', CH_VERSION, 1], ['libvfio-user', LVU_VERSION, 2], ['a newer minor', version('{}', 0, 9), 2],
  ])('%s: answered with JSON, min(minor), shorter than any client\'s buffer', async (_name, payload, minor) => {
    await using s = await serve({ version: null });
    const reply = await s.client.request(VERSION, payload);
    expect([reply.flags, u32(reply.payload, 0) & 0xffff, u32(reply.payload, 0) >>> 16]).toEqual([REPLY, 0, minor]);
    expect(reply.size).toBeLessThanOrEqual(200);
    const text = new TextDecoder().decode(reply.payload.subarray(4));
    expect(text.endsWith('\0')).toBe(true);
    expect(JSON.parse(text.slice(0, -1))).toEqual({ capabilities: { max_msg_fds: 16, max_data_xfer_size: 1048576, max_dma_maps: 65535, pgsizes: 4096 } });
    expect(s.device.take()).toEqual(['attach']);
  });

  it('a profile that is forced bounds the minor version', async () => {
    await using s = await serve({ version: null, server: { peer: QEMU } });
    expect(u32((await s.client.request(VERSION, LVU_VERSION)).payload, 0)).toBe(0);
  });

  it('V16 with a descriptor: closed without a reply', async () => {
    await using s = await serve({ version: null });
    const fd = linux.eventfd();
    s.client.send(message(1, VERSION, LVU_VERSION), [fd]);
    linux.close(fd);
    await s.client.closed;
    expect(s.client.received).toBe(0);
  });

  it('once more, later: EINVAL, the session goes on', async () => {
    await using s = await serve();
    expect(await s.client.errno(VERSION, LVU_VERSION)).toBe(EINVAL);
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });
});

describe('header', () => {
  it.each([['H1 size 15', 15], ['H2 size above the limit', 1048576 + 33]])('%s: EINVAL, then closed, for the bytes behind it mean nothing', async (_name, size) => {
    await using s = await serve();
    s.client.send(header(0x55, READ, size));
    expect(await s.client.next()).toMatchObject({ id: 0x55, command: READ, size: 16, flags: REPLY | ERROR, errno: EINVAL });
    await s.client.closed;
  });

  it('H3 a reply to nothing is counted, not answered: a late DMA reply looks the same', async () => {
    await using s = await serve();
    s.client.send(message(9, READ, new Uint8Array(16), REPLY));
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
    expect(s.server.session?.counters.strayReplies).toBe(1);
  });

  it('reserved message types: EINVAL', async () => {
    await using s = await serve();
    s.client.send(message(9, GET_INFO, new Uint8Array(16), 2));
    expect((await s.client.next()).errno).toBe(EINVAL);
  });

  it('H4 unknown and foreign commands: EINVAL', async () => {
    await using s = await serve();
    for (const command of [0, 11, 12, 14, 19, 0xffff]) expect(await s.client.errno(command, new Uint8Array(32))).toBe(EINVAL);
    expect(await s.client.errno(FEATURE, fields(16, 0x10001, 0, 0))).toBe(EINVAL);
  });

  it('H5 no payload where one is needed: EINVAL; RESET exempt', async () => {
    await using s = await serve();
    for (const command of [DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, IO_FDS, IRQ_INFO, SET_IRQS, READ, WRITE, MULTI]) expect(await s.client.errno(command, new Uint8Array(0))).toBe(EINVAL);
    s.device.take();
    expect(await s.client.errno(RESET, new Uint8Array(0))).toBe(0);
    expect(await s.client.errno(RESET, new Uint8Array(8))).toBe(0);
    expect(s.device.take()).toEqual(['quiesce reset', 'reset', 'resume', 'quiesce reset', 'reset', 'resume']);
  });

  it('H11 No_reply: never an answer, not even to an error', async () => {
    await using s = await serve();
    s.client.send(message(1, WRITE, fields(0n, 0, 4, 0x11223344), NO_REPLY));
    s.client.send(message(2, WRITE, fields(0n, 99, 4, 0), NO_REPLY));
    s.client.send(message(3, 999, fields(0), NO_REPLY));
    const reply = await s.client.request(READ, fields(0n, 0, 4));
    expect(u32(reply.payload, 16)).toBe(0x11223344);
    expect(s.server.session?.counters.errors).toBe(2);
  });
});

interface Row { id: string; command: number; payload: Uint8Array; fds?: number; errno: number }
const rows: Row[] = [
  { id: 'I1', command: GET_INFO, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'I2', command: GET_INFO, payload: fields(8, 0, 0, 0), errno: EINVAL },
  { id: 'R1', command: REGION_INFO, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'R2', command: REGION_INFO, payload: fields(8, 0, 0, 0, 0n, 0n), errno: EINVAL },
  { id: 'R3', command: REGION_INFO, payload: fields(32, 0, 9, 0, 0n, 0n), errno: EINVAL },
  { id: 'F1', command: IO_FDS, payload: fields(16, 1, 0, 0), errno: EINVAL },
  { id: 'F2', command: IO_FDS, payload: fields(16, 0, 0, 1), errno: EINVAL },
  { id: 'F3', command: IO_FDS, payload: fields(15, 0, 0, 0), errno: EINVAL },
  { id: 'F4', command: IO_FDS, payload: fields((1 << 20) + 1, 0, 0, 0), errno: EINVAL },
  { id: 'F6', command: IO_FDS, payload: fields(16, 0, 4, 0), errno: EINVAL },
  { id: 'F8', command: IO_FDS, payload: fields(16, 0, 512, 0), errno: EINVAL },
  { id: 'F16', command: IO_FDS, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'Q1 payload', command: IRQ_INFO, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'Q1 argsz', command: IRQ_INFO, payload: fields(8, 0, 0, 0), errno: EINVAL },
  { id: 'Q1 index', command: IRQ_INFO, payload: fields(16, 0, 5, 0), errno: EINVAL },
  { id: 'S1 payload', command: SET_IRQS, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'S1 argsz', command: SET_IRQS, payload: fields(3, TRIGGER | NONE, 2, 0, 0), errno: EINVAL },
  { id: 'S2', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 5, 0, 0), errno: EINVAL },
  { id: 'S3 actions', command: SET_IRQS, payload: setIrqs(MASK | UNMASK | NONE, 2, 0, 1), errno: EINVAL },
  { id: 'S3 data', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE | BOOL, 2, 0, 1), errno: EINVAL },
  { id: 'S4 across the end', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 2, 2047, 2), errno: EINVAL },
  { id: 'S4 behind the end', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 2, 2049, 1), errno: EINVAL },
  { id: 'S4 overflow', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 2, 284, 0xffffffff), errno: EINVAL },
  { id: 'S5 ERR', command: SET_IRQS, payload: setIrqs(MASK | NONE, 3, 0, 1), errno: EINVAL },
  { id: 'S5 REQ', command: SET_IRQS, payload: setIrqs(MASK | NONE, 4, 0, 1), errno: EINVAL },
  { id: 'S6', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 3, 0, 2), errno: EINVAL },
  { id: 'S7 start', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 2, 1, 0), errno: EINVAL },
  { id: 'S7 mask', command: SET_IRQS, payload: setIrqs(MASK | NONE, 2, 0, 0), errno: EINVAL },
  { id: 'S7 bool', command: SET_IRQS, payload: setIrqs(TRIGGER | BOOL, 2, 0, 0), errno: EINVAL },
  { id: 'S8, H6', command: SET_IRQS, payload: setIrqs(TRIGGER | BOOL, 2, 0, 1, Uint8Array.of(1)), fds: 1, errno: EINVAL },
  { id: 'S9', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 2, 0, 1), fds: 1, errno: EINVAL },
  { id: 'S10', command: SET_IRQS, payload: setIrqs(TRIGGER | EVENTFD, 2, 0, 2), fds: 1, errno: EINVAL },
  { id: 'S11', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 4, 0, 0), errno: 0 },
  { id: 'S12', command: SET_IRQS, payload: setIrqs(TRIGGER | EVENTFD, 4, 0, 1), errno: 0 },
  { id: 'S14 short', command: SET_IRQS, payload: setIrqs(TRIGGER | BOOL, 2, 0, 2, Uint8Array.of(1)), errno: EINVAL },
  { id: 'S14 long', command: SET_IRQS, payload: setIrqs(TRIGGER | BOOL, 2, 0, 2, Uint8Array.of(1, 1, 1)), errno: EINVAL },
  { id: 'S17 mask', command: SET_IRQS, payload: setIrqs(MASK | NONE, 2, 0, 1), errno: 0 },
  { id: 'S17 unmask', command: SET_IRQS, payload: setIrqs(UNMASK | BOOL, 2, 0, 1, Uint8Array.of(1)), errno: 0 },
  { id: 'INTx, none there: disable', command: SET_IRQS, payload: setIrqs(TRIGGER | NONE, 0, 0, 0), errno: 0 },
  { id: 'INTx, none there: enable', command: SET_IRQS, payload: setIrqs(TRIGGER | EVENTFD, 0, 0, 1), fds: 1, errno: EINVAL },
  { id: 'A9', command: READ, payload: fields(2n ** 64n - 1n, 0, 256), errno: EINVAL },
  { id: 'A9 across the end', command: READ, payload: fields(0xfffn, 0, 2), errno: EINVAL },
  { id: 'A10', command: READ, payload: fields(0n, 0, 0), errno: 0 },
  { id: 'A10 write', command: WRITE, payload: fields(0n, 0, 0), errno: 0 },
  { id: 'A11', command: READ, payload: fields(0n, 2, (1 << 20) + 8), errno: EINVAL },
  { id: 'A12', command: WRITE, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'A12 less data than it says', command: WRITE, payload: fields(0n, 0, 8, 0), errno: EINVAL },
  { id: 'A13', command: READ, payload: fields(0n, 0xdeadbeef, 4), errno: EINVAL },
  { id: 'A13 absent region', command: READ, payload: fields(0n, 4, 4), errno: EINVAL },
  { id: 'D1', command: DMA_MAP, payload: dmaMap(0n, (8n << 40n) + KIB4), errno: 28 },
  { id: 'DMA_MAP unknown flag', command: DMA_MAP, payload: dmaMap(0n, KIB4, 0n, 0x13), errno: EINVAL },
  { id: 'DMA_MAP past 2^64', command: DMA_MAP, payload: dmaMap(2n ** 64n - KIB4, 2n * KIB4), errno: EINVAL },
  { id: 'DMA_MAP FILE_IO without a file', command: DMA_MAP, payload: dmaMap(0n, KIB4, 0n, 3 | 8), errno: EINVAL },
  { id: 'D6', command: DMA_MAP, payload: dmaMap(0n, KIB4, 0n, 0), errno: 0 },
  { id: 'U1 payload', command: DMA_UNMAP, payload: new Uint8Array(8), errno: EINVAL },
  { id: 'U1 argsz', command: DMA_UNMAP, payload: dmaUnmap(0n, KIB4, 0, 8), errno: EINVAL },
  { id: 'U1 huge argsz', command: DMA_UNMAP, payload: dmaUnmap(0n, KIB4, 0, (1 << 20) + 8), errno: EINVAL },
  { id: 'U2', command: DMA_UNMAP, payload: concat(dmaUnmap(0n, KIB4, 1, 4096), fields(4096n, 2n ** 64n - 1n)), errno: EINVAL },
  { id: 'U3', command: DMA_UNMAP, payload: concat(dmaUnmap(0n, KIB4, 1, 48), fields(4096n, 8n)), errno: EINVAL },
  { id: 'U4', command: DMA_UNMAP, payload: dmaUnmap(0n, KIB4, 4), errno: EINVAL },
  { id: 'U6', command: DMA_UNMAP, payload: dmaUnmap(0n, KIB4), errno: 2 },
  { id: 'U9', command: DMA_UNMAP, payload: dmaUnmap(0n, KIB4, 2), errno: EINVAL },
  { id: 'U10', command: DMA_UNMAP, payload: dmaUnmap(0n, 0n, 3), errno: EINVAL },
];

describe('every other rule with one message', () => {
  it.each(rows)('$id → $errno, and the session goes on', async ({ command, payload, fds = 0, errno }) => {
    await using s = await serve();
    const sent = Array.from({ length: fds }, () => linux.eventfd());
    expect(await s.client.errno(command, payload, sent)).toBe(errno);
    for (const fd of sent) linux.close(fd);
    expect(await s.client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  });
});

describe('information', () => {
  it('I3 GET_INFO: 16 bytes whatever argsz says', async () => {
    await using s = await serve();
    expect((await s.client.request(GET_INFO, fields(32, 0, 0, 0))).payload).toEqual(fields(16, 3, 9, 5));
  });

  it('a device that cannot be reset says so, and refuses', async () => {
    await using s = await serve({ device: Object.assign(new FakeDevice(), { resettable: false }) });
    expect(u32((await s.client.request(GET_INFO, fields(16, 0, 0, 0))).payload, 4)).toBe(2);
    expect(await s.client.errno(RESET, new Uint8Array(0))).toBe(EINVAL);
    expect(s.device.take()).not.toContain('reset');
  });

  it.each<[string, number, number, bigint]>([['R4 BAR0', 0, 3, 0x1000n], ['R7 configuration space', 7, 3, 4096n], ['R9 unused', 5, 0, 0n], ['R13 64-bit BAR', 2, 3, 1n << 33n], ['its upper half', 3, 0, 0n]])(
    '%s: 32 bytes, no capabilities', async (_name, index, flags, size) => {
      await using s = await serve();
      expect((await s.client.request(REGION_INFO, concat(fields(40, 0, index, 0, 0n, 0n), new Uint8Array(8)))).payload).toEqual(fields(32, flags, index, 0, size, 0n));
    });

  it('R5, R6 sparse areas: short without a descriptor, complete with exactly one', async () => {
    const file = memfd(0x10000, 'bar');
    const device = new FakeDevice();
    device.regions.push({ index: 1, sizeBytes: 0x8000, readable: true, writable: true, mmap: { areas: [{ offset: 0x2000, sizeBytes: 0x1000 }, { offset: 0x4000, sizeBytes: 0x2000 }], backing: { fd: file, offset: 0x8000 } } });
    await using s = await serve({ device });
    const short = await s.client.request(REGION_INFO, fields(32, 0, 1, 0, 0n, 0n));
    expect(short.payload).toEqual(fields(80, 7, 1, 0, 0x8000n, 0x8000n));
    expect(short.fds).toEqual([]);
    const full = await s.client.request(REGION_INFO, concat(fields(80, 0, 1, 0, 0n, 0n), new Uint8Array(48)));
    expect(full.payload).toEqual(fields(80, 15, 1, 32, 0x8000n, 0x8000n, 0x00010001, 0, 2, 0, 0x2000n, 0x1000n, 0x4000n, 0x2000n));
    expect(full.fds).toHaveLength(1);
    expect(linux.fstat(full.fds[0]!).ino).toBe(linux.fstat(file).ino);
    // The device keeps its own.
    linux.close(full.fds[0]!);
    expect(linux.isValidFd(file)).toBe(true);
    linux.close(file);
  });

  it('F5, F7 GET_REGION_IO_FDS: none', async () => {
    await using s = await serve();
    expect((await s.client.request(IO_FDS, fields(4096, 0, 2, 0))).payload).toEqual(fields(16, 0, 2, 0));
  });

  it('Q2, Q3, Q4 GET_IRQ_INFO, and 0 vectors for an index the device lacks', async () => {
    await using s = await serve();
    for (const [index, flags, count] of [[2, 1, 2048], [3, 1, 1], [4, 1, 1], [0, 0, 0]] as const) {
      expect((await s.client.request(IRQ_INFO, fields(32, 0, index, 0))).payload).toEqual(fields(16, flags, index, count));
    }
  });
});

describe('SET_IRQS', () => {
  async function attach(client: RawClient, index: number, start: number, counters: readonly number[]): Promise<number[]> {
    const fds = counters.map((n) => linux.eventfd(n));
    expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, index, start, counters.length), fds)).toBe(0);
    return fds;
  }

  it.each<[string, Uint8Array]>([['S15 NONE', setIrqs(TRIGGER | NONE, 2, 1, 1)], ['S16 BOOL', setIrqs(TRIGGER | BOOL, 2, 0, 2, Uint8Array.of(0, 1))]])('%s fires vector 1 only', async (_name, fire) => {
    await using s = await serve();
    const [a, b] = await attach(s.client, 2, 0, [4, 8]);
    expect(await s.client.errno(SET_IRQS, fire)).toBe(0);
    expect([linux.eventfdDrain(a!), linux.eventfdDrain(b!)]).toEqual([4, 9]);
    linux.close(a!);
    linux.close(b!);
  });

  it('S13, S20 the device finds the descriptor, a replacement takes over, and each change is made while it is quiescent', async () => {
    await using s = await serve();
    s.device.take();
    const [first] = await attach(s.client, 2, 8, [4]);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 8 1', 'resume']);
    const old = s.device.host!.irqFd(2, 8);
    const [second] = await attach(s.client, 2, 8, [0]);
    linux.eventfdSignal(s.device.host!.irqFd(2, 8));
    expect([linux.eventfdDrain(first!), linux.eventfdDrain(second!)]).toEqual([4, 1]);
    expect(linux.isValidFd(old)).toBe(false);
    linux.close(first!);
    linux.close(second!);
  });

  it('keeps a table per index: MSI-X vector 0 and ERR vector 0 are two things', async () => {
    await using s = await serve();
    const fds = [...(await attach(s.client, 2, 0, [0])), ...(await attach(s.client, 3, 0, [0]))];
    linux.eventfdSignal(s.device.host!.irqFd(3, 0));
    expect(fds.map((fd) => linux.eventfdDrain(fd))).toEqual([0, 1]);
    fds.forEach((fd) => { linux.close(fd); });
  });

  it('de-assigns exactly the range named, and disables all with 0 + 0', async () => {
    await using s = await serve();
    const fds = await attach(s.client, 2, 4, [0, 0, 0]);
    s.device.take();
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, 2, 5, 1))).toBe(0);
    expect([4, 5, 6].map((v) => s.device.host!.irqFd(2, v) >= 0)).toEqual([true, false, true]);
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | NONE, 2, 0, 0))).toBe(0);
    expect([4, 5, 6].map((v) => s.device.host!.irqFd(2, v) >= 0)).toEqual([false, false, false]);
    expect(s.device.take()).toEqual(['quiesce irqs', 'irqsChanged 2 5 1', 'resume', 'quiesce irqs', 'irqsChanged 2 0 2048', 'resume']);
    // Nothing to take away: the device is left alone.
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, 2, 0, 1))).toBe(0);
    expect(s.device.take()).toEqual([]);
    fds.forEach((fd) => { linux.close(fd); });
  });

  it('refuses a descriptor a write could hang on', async () => {
    await using s = await serve();
    const [a, b] = linux.unixSocketPair();
    expect(await s.client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, 2, 0, 1), [a])).toBe(EINVAL);
    expect(s.device.host!.irqFd(2, 0)).toBe(-1);
    linux.close(a);
    linux.close(b);
  });
});

describe('region access', () => {
  it('writes and reads, each reply of the exact length', async () => {
    await using s = await serve();
    expect((await s.client.request(WRITE, fields(0x10n, 0, 8, 0x11223344, 0x55667788))).payload).toEqual(fields(0x10n, 0, 8));
    expect((await s.client.request(READ, fields(0x10n, 0, 8))).payload).toEqual(fields(0x10n, 0, 8, 0x11223344, 0x55667788));
    expect(s.device.take()).toEqual(['attach', 'write 0 16 68,51,34,17,136,119,102,85', 'read 0 16 8']);
  });

  it('REGION_WRITE_MULTI: all in order, or none', async () => {
    await using s = await serve();
    s.device.take();
    const entry = (offset: bigint, region: number, count: number, byte: number): Uint8Array => concat(fields(offset, region, count), new Uint8Array(8).fill(byte));
    const reply = await s.client.request(MULTI, concat(fields(2n), entry(0n, 0, 1, 1), entry(4n, 0, 2, 2)));
    expect(u64(reply.payload, 0)).toBe(2n);
    expect(s.device.take()).toEqual(['write 0 0 1', 'write 0 4 2,2']);
    expect(await s.client.errno(MULTI, concat(fields(2n), entry(0n, 0, 1, 1), entry(0n, 99, 1, 2)))).toBe(EINVAL);
    expect(await s.client.errno(MULTI, concat(fields(1n << 40n), entry(0n, 0, 1, 1)))).toBe(EINVAL);
    expect(s.device.take()).toEqual([]);
  });

  it('a region without that access refuses', async () => {
    const device = new FakeDevice();
    device.regions.push({ index: 1, sizeBytes: 16, readable: true, writable: false });
    await using s = await serve({ device });
    expect(await s.client.errno(WRITE, fields(0n, 1, 4, 0))).toBe(EINVAL);
    expect(await s.client.errno(READ, fields(0n, 1, 4))).toBe(0);
  });

  it('answers a client that cannot read errors with bodies of the success length', async () => {
    await using s = await serve({ version: CH_VERSION });
    const read = await s.client.request(READ, fields(0xfffn, 0, 4));
    expect([read.flags, read.errno]).toEqual([REPLY | ERROR, EINVAL]);
    expect(read.payload).toEqual(fields(0xfffn, 0, 4, 0xffffffff));
    expect((await s.client.request(WRITE, fields(0xfffn, 0, 4, 1))).payload).toEqual(fields(0xfffn, 0, 4));
    expect((await s.client.request(DMA_UNMAP, dmaUnmap(0n, KIB4))).payload).toEqual(dmaUnmap(0n, KIB4));
    // A count beyond what is announced allocates nothing.
    expect((await s.client.request(READ, fields(0n, 0, 0xffffffff))).size).toBe(32);
  });
});

describe('DMA', () => {
  it('U5, G1 maps a file, the device sees it, unmaps with the request echoed', async () => {
    await using s = await serve();
    s.device.take();
    const fd = memfd(0x3000);
    linux.pwrite(fd, fields(0xc0ffee), 0x1000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0x10000n, 0x2000n, 0x1000n), [fd])).toBe(0);
    const bytes = new Uint8Array(4);
    void s.device.host!.memory.read(0x10000n, bytes);
    expect(u32(bytes, 0)).toBe(0xc0ffee);
    expect(s.server.session?.dmaMaps).toBe(1);
    expect((await s.client.request(DMA_UNMAP, dmaUnmap(0x10000n, 0x2000n), [fd])).payload).toEqual(dmaUnmap(0x10000n, 0x2000n));
    expect(s.device.take()).toEqual(['quiesce dma-map', 'memoryChanged', 'resume', 'quiesce dma-unmap', 'memoryChanged', 'resume']);
    expect(() => s.device.host!.memory.read(0x10000n, bytes)).toThrow();
    linux.close(fd);
  });

  it('D2 more regions than announced: ENOSPC as in the kernel\'s VFIO; U8 ALL removes the others', async () => {
    await using s = await serve({ server: { limits: { maxDmaMaps: 64 } } });
    for (let i = 0; i < 64; i++) expect(await s.client.errno(DMA_MAP, dmaMap(BigInt(i) * KIB4, KIB4))).toBe(0);
    expect(await s.client.errno(DMA_MAP, dmaMap(64n * KIB4, KIB4))).toBe(28);
    expect(s.server.session?.dmaMaps).toBe(64);
    expect((await s.client.request(DMA_UNMAP, dmaUnmap(0n, 0n, 2))).payload).toEqual(dmaUnmap(0n, 0n, 2));
    expect(s.server.session?.dmaMaps).toBe(0);
  });

  it('D7 the same region twice is one; another file there is EEXIST', async () => {
    await using s = await serve();
    const [a, b] = [memfd(0x1000), memfd(0x1000)];
    for (const [fd, errno] of [[a, 0], [a, 0], [b, 17]] as const) expect(await s.client.errno(DMA_MAP, dmaMap(0n, KIB4), [fd])).toBe(errno);
    expect(s.server.session?.dmaMaps).toBe(1);
    linux.close(a);
    linux.close(b);
  });

  it('D9 FILE_IO: reached through the descriptor, which is closed with the region', async () => {
    await using s = await serve();
    const fd = memfd(0x2000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0x4000n, KIB4, KIB4, 3 | 8), [fd])).toBe(0);
    const memory = s.device.host!.memory;
    await memory.write(0x4010n, fields(0xfeed));
    const seen = new Uint8Array(4);
    linux.pread(fd, seen, 0x1010);
    expect(u32(seen, 0)).toBe(0xfeed);
    await memory.read(0x4010n, seen.fill(0));
    expect(u32(seen, 0)).toBe(0xfeed);
    // What would be SIGBUS with a mapping is an error here.
    linux.ftruncate(fd, 0x1000);
    await expect(memory.read(0x4010n, seen)).rejects.toMatchObject({ errno: 14 });
    linux.close(fd);
  });

  it('a map that fails leaves the device running and unchanged', async () => {
    await using s = await serve();
    s.device.take();
    const fd = memfd(0x1000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, 0x2000n), [fd])).toBe(EINVAL);
    expect(s.device.take()).toEqual(['quiesce dma-map', 'resume']);
    linux.close(fd);
  });
});
