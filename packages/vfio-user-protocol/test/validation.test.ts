/** What a server must refuse, by the rules of libvfio-user's test suite. */
import { describe, expect, test } from 'vitest';
import {
  CLOUD_HYPERVISOR, COMMANDS, LIBVFIO_USER, PROFILES, ProtocolError, QEMU, SPDK,
  checkVersionReply, commandName, decodeDeviceGetInfo, decodeDmaMap, decodeDmaRead, decodeDmaUnmap, decodeGetIrqInfo, decodeGetRegionInfo, decodeRegionInfo,
  decodeRegionRead, decodeRegionReadReply, decodeRegionWrite, decodeRegionWriteMulti, decodeSetIrqs, decodeVersion, dirtyBitmapBytes,
  effectiveCapabilities, encodeDeviceGetInfo, encodeDmaMap, encodeDmaRead, encodeDmaUnmap, encodeGetIrqInfo, encodeGetRegionInfo, encodeRegionData,
  encodeRegionInfo, encodeRegionRead, encodeRegionWriteMulti, encodeSetIrqs, encodeVersion, guessPeer, negotiateVersion,
  decodeDeviceFeature, decodeDeviceFeatureReply, decodeDmaUnmapReply, encodeDmaUnmapReply, decodeDmaLogging, decodeDmaLoggingReport, decodeDmaLoggingReportReply, decodeDmaReadReply,
  decodeDmaWrite, decodeDmaWriteReply, decodeGetRegionIoFds, decodeMigDataRead, decodeMigDataReadReply, decodeMigDataWrite, decodeMigDeviceState,
  decodeMigDeviceStateReply, decodeRegionIoFds, decodeRegionWriteReply, dialectOfWriteReply, encodeDeviceFeature, encodeDmaLogging,
  encodeDmaLoggingReport, encodeDmaReadReply, encodeDmaWrite, encodeGetRegionIoFds, encodeMigDataRead, encodeMigDataReadReply, encodeMigDataWrite,
  encodeRegionIoFds,
} from '../src/index.ts';
import type { IoFdRecord, PeerProfile, ProtocolErrorCode } from '../src/index.ts';

function refused(run: () => unknown): ProtocolError {
  try {
    run();
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
  throw new Error('accepted');
}
const expectRefused = (run: () => unknown, code: ProtocolErrorCode, errno = 22, consequence = 'reply'): void =>
  expect(refused(run)).toMatchObject({ code, errno, consequence });
const patch32 = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, value, true);
  return bytes;
};

describe('VERSION', () => {
  const text = (json: string, nul = true): Uint8Array => Uint8Array.from([0, 0, 2, 0, ...new TextEncoder().encode(json), ...(nul ? [0] : [])]);
  const caps = (json: string): Uint8Array => text(`{"capabilities":${json}}`);

  test.each([
    ['no payload', new Uint8Array(0)],
    ['no NUL', text('{}', false)],
    ['half an object', text('{')],
    ['half a string', text('"')],
    ['not an object', text('[]')],
    ['bad UTF-8', Uint8Array.of(0, 0, 2, 0, 0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d, 0)],
    ['capabilities is a string', caps('"x"')],
    ['capabilities is null', caps('null')],
    ['max_msg_fds is a string', caps('{"max_msg_fds":"1"}')],
    ['max_msg_fds is negative', caps('{"max_msg_fds":-1}')],
    ['max_msg_fds is 1025', caps('{"max_msg_fds":1025}')],
    ['max_msg_fds is a fraction', caps('{"max_msg_fds":1.5}')],
    ['max_data_xfer_size is 0', caps('{"max_data_xfer_size":0}')],
    ['migration is a number', caps('{"migration":1}')],
    ['migration.pgsize is a string', caps('{"migration":{"pgsize":"x"}}')],
    ['migration.pgsize is 4095', caps('{"migration":{"pgsize":4095}}')],
    ['twin_socket.supported is a number', caps('{"twin_socket":{"supported":1}}')],
    ['longer than the limit', caps(`{"x":"${'y'.repeat(5000)}"}`)],
  ])('refuses: %s', (_, payload) => expectRefused(() => decodeVersion(payload), 'ERR_VFU_VERSION', 22, 'close'));

  test('unknown keys are ignored, an absent JSON and an absent capabilities mean the defaults', () => {
    expect(decodeVersion(text('{"new":1,"capabilities":{"also_new":[1],"max_msg_fds":1024}}')).capabilities).toEqual({ maxMsgFds: 1024 });
    expect(decodeVersion(Uint8Array.of(0, 0, 2, 0))).toEqual({ major: 0, minor: 2 });
    expect(decodeVersion(text('{}'))).toEqual({ major: 0, minor: 2 });
    expect(effectiveCapabilities(undefined)).toEqual({
      maxMsgFds: 1, maxDataXferSize: 1_048_576, maxDmaMaps: 65_535, pgsizes: 4096, migration: undefined, writeMultiple: false, twinSocket: false,
    });
  });

  test('what a JSON object inherits is not in it, and -0 is 0', () => {
    (Object.prototype as { max_msg_fds?: number }).max_msg_fds = 7;
    try {
      expect(decodeVersion(caps('{}')).capabilities).toEqual({});
    } finally {
      delete (Object.prototype as { max_msg_fds?: number }).max_msg_fds;
    }
    expect(decodeVersion(caps('{"pgsizes":-0}')).capabilities).toEqual({ pgsizes: 0 });
  });

  test('a peer that announces more than is sensible does not raise what is sent to it', () => {
    expect(effectiveCapabilities({ maxDataXferSize: Number.MAX_SAFE_INTEGER }).maxDataXferSize).toBe(1_048_576);
    expect(effectiveCapabilities({ maxDataXferSize: 4 }).maxDataXferSize).toBe(4);
  });

  test('the lower minor wins, another major is refused', () => {
    expect([0, 1, 2, 9].map((minor) => negotiateVersion({ major: 0, minor }))).toEqual([0, 1, 2, 2]);
    expectRefused(() => negotiateVersion({ major: 999, minor: 0 }), 'ERR_VFU_VERSION', 22, 'close');
    expect(() => checkVersionReply({ major: 0, minor: 2 })).not.toThrow();
    expectRefused(() => checkVersionReply({ major: 0, minor: 3 }), 'ERR_VFU_VERSION', 22, 'close');
    expectRefused(() => checkVersionReply({ major: 1, minor: 0 }), 'ERR_VFU_VERSION', 22, 'close');
  });

  test('a reply with everything a server announces fits QEMU\'s buffer of about 214 bytes', () => {
    expect(encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 16, maxDataXferSize: 1_048_576, maxDmaMaps: 65_535, pgsizes: 4096, migration: { pgsize: 4096 } } }).length).toBeLessThan(198);
  });

  test('peers are told apart by what they propose', () => {
    expect(guessPeer({ major: 0, minor: 0, capabilities: {} })).toBe(QEMU);
    expect(guessPeer({ major: 0, minor: 1, capabilities: {} })).toBe(CLOUD_HYPERVISOR);
    expect(guessPeer({ major: 0, minor: 1 })).toBe(SPDK);
    expect(guessPeer({ major: 0, minor: 2, capabilities: {} })).toBe(LIBVFIO_USER);
  });
});

test('a profile is chosen by name, and what would break a peer is in it', () => {
  expect(Object.entries(PROFILES).map(([name, profile]) => [name, profile.name])).toEqual(['qemu', 'cloud-hypervisor', 'spdk', 'libvfio-user', 'spec'].map((name) => [name, name]));
  const named = (wanted: (profile: PeerProfile) => boolean): string[] => Object.values(PROFILES).filter(wanted).map(({ name }) => name);
  expect(named((profile) => !profile.takesWriteMultiple)).toEqual(['qemu']);
  expect(named((profile) => profile.maxMinor === 0)).toEqual(['qemu']);
  expect(named((profile) => profile.dmaDialect === 'qemu')).toEqual(['qemu']);
  expect(named((profile) => !profile.headerOnlyErrors)).toEqual(['cloud-hypervisor']);
  expect(named((profile) => profile.padsMigrationData)).toEqual(['libvfio-user']);
  expect(named((profile) => profile.fdOnUnmap)).toEqual(['spdk']);
  expect(named((profile) => profile.fdOnShortRegionInfo)).toEqual(['qemu', 'cloud-hypervisor']);
  expect(Object.values(PROFILES).map(({ maxFds }) => maxFds)).toEqual([16, 16, 7, 253, 253]);
});

describe('argsz and payload length', () => {
  test.each([
    ['DEVICE_GET_INFO', encodeDeviceGetInfo(), decodeDeviceGetInfo],
    ['DEVICE_GET_REGION_INFO', encodeGetRegionInfo(0), decodeGetRegionInfo],
    ['DEVICE_GET_IRQ_INFO', encodeGetIrqInfo(0), decodeGetIrqInfo],
    ['DMA_MAP', encodeDmaMap({ flags: 3, fdOffset: 0n, address: 0n, size: 4096n }), (b: Uint8Array) => decodeDmaMap(b, 0)],
    ['DMA_UNMAP', encodeDmaUnmap({ flags: 0, address: 0n, size: 4096n }), decodeDmaUnmap],
    ['DEVICE_SET_IRQS', encodeSetIrqs({ action: 'trigger', index: 2, start: 0, count: 1, data: 'none' }), (b: Uint8Array) => decodeSetIrqs(b, 0, () => 1)],
  ] as const)('%s: 8 bytes and argsz 8 are refused, a larger argsz or payload is not', (_, payload, decode) => {
    expectRefused(() => decode(payload.slice(0, 8)), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decode(patch32(payload.slice(), 0, 8)), 'ERR_VFU_ARGSZ');
    expect(() => decode(patch32(payload.slice(), 0, 4064))).not.toThrow();
    const padded = new Uint8Array(4064);
    padded.set(payload);
    expect(() => decode(padded)).not.toThrow();
  });
});

describe('DMA_MAP', () => {
  const map = { flags: 3, fdOffset: 0n, address: 0x1000n, size: 0x1000n };
  const decode = (over: object, fds = 1): unknown => decodeDmaMap(encodeDmaMap({ ...map, ...over }), fds);
  test('flags', () => {
    expectRefused(() => decode({ flags: 16 }), 'ERR_VFU_FLAGS');
    expectRefused(() => decode({ flags: 0x8000_0001 }), 'ERR_VFU_FLAGS');
    expectRefused(() => decode({ flags: 12 }), 'ERR_VFU_FLAGS');
    expectRefused(() => decode({ flags: 7 }, 0), 'ERR_VFU_FDS');
    expectRefused(() => decode({ flags: 11 }, 0), 'ERR_VFU_FDS');
    expect(decode({ flags: 0 }, 0), 'message mode without permissions').toBeDefined();
  });
  test('ranges: up to the end of the address space, not beyond; the file within off_t', () => {
    expect(decode({ address: (1n << 64n) - 0x1000n })).toBeDefined();
    expect(decode({ size: 0n })).toBeDefined();
    expectRefused(() => decode({ address: (1n << 64n) - 0x800n }), 'ERR_VFU_RANGE');
    expectRefused(() => decode({ fdOffset: (1n << 63n) - 0x1000n }), 'ERR_VFU_RANGE');
    expect(decode({ fdOffset: (1n << 63n) - 0x1000n }, 0), 'means nothing without a file').toBeDefined();
  });
});

describe('DMA_UNMAP', () => {
  const unmap = (over: object): unknown => decodeDmaUnmap(encodeDmaUnmap({ flags: 0, address: 0n, size: 0n, ...over }));
  test('flags are a whole value, ALL takes no range', () => {
    expectRefused(() => unmap({ flags: 4 }), 'ERR_VFU_FLAGS');
    expectRefused(() => unmap({ flags: 3 }), 'ERR_VFU_FLAGS');
    expectRefused(() => unmap({ flags: 2, size: 4096n }), 'ERR_VFU_RANGE');
    expectRefused(() => unmap({ flags: 2, address: 4096n }), 'ERR_VFU_RANGE');
    expectRefused(() => unmap({ argsz: 1_048_576 + 8 }), 'ERR_VFU_ARGSZ');
  });
  test('a bitmap request must add up: header present, size exact, room in argsz', () => {
    const size = 65n * 4096n;
    const good = { flags: 1, size, bitmap: { pageSize: 4096n, bytes: 16n } };
    expect(unmap(good)).toMatchObject({ bitmap: { bytes: 16n } });
    expectRefused(() => unmap({ flags: 1, size }), 'ERR_VFU_PAYLOAD');
    expectRefused(() => unmap({ ...good, bitmap: { pageSize: 4096n, bytes: (1n << 64n) - 8n }, argsz: 56 }), 'ERR_VFU_RANGE');
    expectRefused(() => unmap({ ...good, bitmap: { pageSize: 4095n, bytes: 16n } }), 'ERR_VFU_RANGE');
    expectRefused(() => unmap({ ...good, argsz: 55 }), 'ERR_VFU_ARGSZ');
  });
  test('bitmap length: a bit per page in whole words, and as many bytes as a reply says', () => {
    expect([1n, 64n, 65n].map((pages) => dirtyBitmapBytes(pages * 4096n, 4096n))).toEqual([8n, 8n, 16n]);
    expect(dirtyBitmapBytes(4097n, 4096n)).toBe(8n);
    const request = { argsz: 48, flags: 1, address: 0n, size: 4096n, bitmap: { pageSize: 4096n, bytes: 8n } };
    const reply = encodeDmaUnmapReply(request, new Uint8Array(8));
    expect(decodeDmaUnmapReply(reply).dirty).toHaveLength(8);
    expectRefused(() => decodeDmaUnmapReply(reply.subarray(0, 47)), 'ERR_VFU_PAYLOAD', 22, 'close');
    expectRefused(() => decodeDmaUnmapReply(patch32(reply.slice(), 32, 16)), 'ERR_VFU_PAYLOAD', 22, 'close');
    expect([0n, 3n, 8192n].map((page) => dirtyBitmapBytes(4096n, page))).toEqual([-1n, -1n, -1n]);
  });
});

describe('SET_IRQS', () => {
  const MSIX = 2, ERR = 3, REQ = 4;
  const counts = [0, 0, 2048, 1, 1];
  interface Raw { flags: number; index?: number; start?: number; count?: number; data?: number[]; fds?: number }
  const decode = ({ flags, index = MSIX, start = 0, count = 1, data = [], fds = 0 }: Raw): unknown => {
    const payload = new Uint8Array(20 + data.length);
    [20, flags, index, start, count].forEach((value, i) => patch32(payload, 4 * i, value));
    payload.set(data, 20);
    return decodeSetIrqs(payload, fds, (i) => counts[i]);
  };
  const NONE = 1, BOOL = 2, EVENTFD = 4, MASK = 8, UNMASK = 16, TRIGGER = 32;

  test.each<[string, Raw, ProtocolErrorCode]>([
    ['an index that does not exist', { flags: TRIGGER | NONE, index: 5 }, 'ERR_VFU_INDEX'],
    ['two actions', { flags: MASK | UNMASK | NONE }, 'ERR_VFU_FLAGS'],
    ['no action', { flags: NONE }, 'ERR_VFU_FLAGS'],
    ['two data types', { flags: TRIGGER | NONE | BOOL }, 'ERR_VFU_FLAGS'],
    ['no data type', { flags: TRIGGER }, 'ERR_VFU_FLAGS'],
    ['an unknown flag', { flags: TRIGGER | NONE | 64 }, 'ERR_VFU_FLAGS'],
    ['an end beyond the last vector', { flags: TRIGGER | NONE, start: 2047, count: 2 }, 'ERR_VFU_RANGE'],
    ['a start beyond the last vector', { flags: TRIGGER | NONE, start: 2049 }, 'ERR_VFU_RANGE'],
    ['an overflowing end', { flags: TRIGGER | NONE, start: 284, count: 0xffff_ffff }, 'ERR_VFU_RANGE'],
    ['MASK on ERR', { flags: MASK | NONE, index: ERR }, 'ERR_VFU_FLAGS'],
    ['MASK on REQ', { flags: MASK | NONE, index: REQ }, 'ERR_VFU_FLAGS'],
    ['two vectors of ERR', { flags: TRIGGER | NONE, index: ERR, count: 2 }, 'ERR_VFU_RANGE'],
    ['count 0 from vector 1', { flags: TRIGGER | NONE, start: 1, count: 0 }, 'ERR_VFU_RANGE'],
    ['count 0 with MASK', { flags: MASK | NONE, count: 0 }, 'ERR_VFU_RANGE'],
    ['count 0 with BOOL', { flags: TRIGGER | BOOL, count: 0 }, 'ERR_VFU_RANGE'],
    ['descriptors with BOOL', { flags: TRIGGER | BOOL, data: [1], fds: 1 }, 'ERR_VFU_FDS'],
    ['descriptors with NONE', { flags: TRIGGER | NONE, fds: 1 }, 'ERR_VFU_FDS'],
    ['fewer descriptors than vectors', { flags: TRIGGER | EVENTFD, count: 2, fds: 1 }, 'ERR_VFU_FDS'],
    ['more descriptors than vectors', { flags: TRIGGER | EVENTFD, count: 1, fds: 2 }, 'ERR_VFU_FDS'],
    ['fewer bools than vectors', { flags: TRIGGER | BOOL, count: 2, data: [1] }, 'ERR_VFU_PAYLOAD'],
    ['more bools than vectors', { flags: TRIGGER | BOOL, count: 2, data: [1, 1, 1] }, 'ERR_VFU_PAYLOAD'],
  ])('refuses %s', (_, raw, code) => expectRefused(() => decode(raw), code));

  test('ERR and REQ fire one vector at a time, however many a device claims', () => {
    const payload = encodeSetIrqs({ action: 'trigger', index: ERR, start: 0, count: 2, data: 'none' });
    expectRefused(() => decodeSetIrqs(payload, 0, () => 8), 'ERR_VFU_FLAGS');
  });

  test('accepts: disable every existing index, de-assign, attach, fire by bools', () => {
    for (const index of [0, 1, 2, 3, 4]) expect(decode({ flags: TRIGGER | NONE, index, count: 0 })).toMatchObject({ index, count: 0 });
    expect(decode({ flags: TRIGGER | EVENTFD, index: REQ })).toMatchObject({ data: 'eventfd' });
    expect(decode({ flags: TRIGGER | EVENTFD, start: 2046, count: 2, fds: 2 })).toMatchObject({ action: 'trigger', start: 2046, count: 2 });
    expect(decode({ flags: UNMASK | BOOL, count: 2, data: [0, 1] })).toMatchObject({ action: 'unmask', data: Uint8Array.of(0, 1) });
  });
});

describe('region access', () => {
  test('an offset of 2^53 or more is out of every range', () => {
    expectRefused(() => decodeRegionRead(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 1, 0, 0), 4096), 'ERR_VFU_RANGE');
    expectRefused(() => decodeRegionRead(Uint8Array.of(0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 1, 0, 0), 4096), 'ERR_VFU_RANGE');
    expect(decodeRegionRead(Uint8Array.of(255, 255, 255, 255, 255, 255, 31, 0, 0, 0, 0, 0, 0, 1, 0, 0), 4096).offset).toBe(Number.MAX_SAFE_INTEGER);
  });
  test('count within the limit and equal to the data', () => {
    expectRefused(() => decodeRegionRead(encodeRegionRead({ offset: 0, region: 0, count: 4097 }), 4096), 'ERR_VFU_RANGE');
    const write = encodeRegionData(0, 0, new Uint8Array(8));
    expectRefused(() => decodeRegionWrite(write.subarray(0, 23), 4096), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeRegionWrite(patch32(write.slice(), 12, 7), 4096), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeRegionWrite(write.subarray(0, 8), 4096), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeRegionWrite(write, 7), 'ERR_VFU_RANGE');
    expectRefused(() => decodeRegionReadReply(patch32(write.slice(), 12, 9)), 'ERR_VFU_PAYLOAD', 22, 'close');
  });
  test('REGION_WRITE_MULTI: count bounded, entries of at most 8 bytes, exact length', () => {
    const multi = encodeRegionWriteMulti([{ offset: 0, region: 0, data: Uint8Array.of(1) }]);
    expectRefused(() => decodeRegionWriteMulti(patch32(multi.slice(), 4, 1)), 'ERR_VFU_RANGE');
    expectRefused(() => decodeRegionWriteMulti(patch32(multi.slice(), 0, 2)), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeRegionWriteMulti(patch32(multi.slice(), 20, 9)), 'ERR_VFU_RANGE');
  });
});

test('DMA_READ above the announced size is E2BIG, in the upper half of the count too', () => {
  expectRefused(() => decodeDmaRead(encodeDmaRead({ address: 0n, count: 4097 }), 'lvu', 4096), 'ERR_VFU_RANGE', 7);
  expectRefused(() => decodeDmaRead(encodeDmaRead({ address: 0n, count: 2 ** 32 }), 'lvu', 4096), 'ERR_VFU_RANGE', 7);
});

describe('DEVICE_FEATURE', () => {
  const GET = 0x10000, SET = 0x20000, PROBE = 0x40000;
  test('flags: at least one operation, GET and SET together only to ask for both, no unknown bit; in a reply as well', () => {
    for (const operations of [0, GET | SET, GET | 0x80000, 0x8000_0000]) {
      expectRefused(() => decodeDeviceFeature(encodeDeviceFeature(1, operations)), 'ERR_VFU_FLAGS');
      expectRefused(() => decodeDeviceFeatureReply(encodeDeviceFeature(1, operations)), 'ERR_VFU_FLAGS', 22, 'close');
    }
    for (const operations of [GET, SET, PROBE, PROBE | GET | SET]) expect(decodeDeviceFeature(encodeDeviceFeature(1, operations))).toMatchObject({ feature: 1, operations });
  });
  test('length and argsz', () => {
    expectRefused(() => decodeDeviceFeature(encodeDeviceFeature(1, GET).subarray(0, 7)), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeDeviceFeature(encodeDeviceFeature(1, PROBE, undefined, 2)), 'ERR_VFU_ARGSZ');
    expect(decodeDeviceFeature(encodeDeviceFeature(1, GET, undefined, 0xffff_ffff)).argsz).toBe(0xffff_ffff);
    expectRefused(() => decodeMigDeviceState(new Uint8Array(7)), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeMigDeviceStateReply(new Uint8Array(7)), 'ERR_VFU_PAYLOAD', 22, 'close');
  });
  test('DMA_LOGGING_START: page size a power of two, ranges within the address space, as many as announced', () => {
    const range = { iova: 0n, length: 4096n };
    const start = (over: object): unknown => decodeDmaLogging(encodeDmaLogging({ pageSize: 4096n, ranges: [range], ...over }));
    expect(start({ ranges: [{ iova: (1n << 64n) - 4096n, length: 4096n }] }), 'up to the last byte').toBeDefined();
    expectRefused(() => start({ pageSize: 0n }), 'ERR_VFU_RANGE');
    expectRefused(() => start({ pageSize: 4097n }), 'ERR_VFU_RANGE');
    expectRefused(() => start({ ranges: [{ iova: 0n, length: 0n }] }), 'ERR_VFU_RANGE');
    expectRefused(() => start({ ranges: [{ iova: 1n << 63n, length: (1n << 63n) + 1n }] }), 'ERR_VFU_RANGE');
    expectRefused(() => start({ ranges: Array.from({ length: 257 }, () => range) }), 'ERR_VFU_RANGE');
    expectRefused(() => decodeDmaLogging(patch32(encodeDmaLogging({ pageSize: 4096n, ranges: [range] }), 8, 2)), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeDmaLogging(new Uint8Array(15)), 'ERR_VFU_PAYLOAD');
  });
  test('DMA_LOGGING_REPORT: the bitmap has room in argsz and in a message', () => {
    const report = (over: object, argsz: number): unknown => decodeDmaLoggingReport(encodeDmaLoggingReport({ iova: 0n, length: 65n * 4096n, pageSize: 4096n, ...over }), argsz);
    expect(report({}, 48)).toMatchObject({ bitmapBytes: 16 });
    expectRefused(() => report({}, 47), 'ERR_VFU_ARGSZ');
    expectRefused(() => report({ pageSize: 0n }, 4096), 'ERR_VFU_RANGE');
    expectRefused(() => report({ pageSize: 3n }, 4096), 'ERR_VFU_RANGE');
    expectRefused(() => report({ pageSize: 1n << 20n }, 4096), 'ERR_VFU_RANGE');
    expectRefused(() => report({ length: (1n << 63n), pageSize: 1n }, 0xffff_ffff), 'ERR_VFU_RANGE');
    const most = BigInt(1_048_576 - 32) * 8n * 4096n;
    expect(report({ length: most }, 0xffff_ffff)).toMatchObject({ bitmapBytes: 1_048_576 - 32 });
    expectRefused(() => report({ length: most + 4096n }, 0xffff_ffff), 'ERR_VFU_RANGE');
  });
  test('a report whose bitmap has another length ends the connection', () => {
    const range = { iova: 0n, length: 65n * 4096n, pageSize: 4096n };
    expect(decodeDmaLoggingReportReply(encodeDmaLoggingReport(range, new Uint8Array(16))).bitmap).toHaveLength(16);
    for (const bytes of [0, 8, 15, 17]) expectRefused(() => decodeDmaLoggingReportReply(encodeDmaLoggingReport(range, new Uint8Array(bytes))), 'ERR_VFU_PAYLOAD', 22, 'close');
  });
});

describe('MIG_DATA', () => {
  test('sizes: within the limit, covered by argsz, and by the data of a write', () => {
    expectRefused(() => decodeMigDataRead(encodeMigDataRead(5), 4), 'ERR_VFU_RANGE');
    expectRefused(() => decodeMigDataRead(patch32(encodeMigDataRead(5), 0, 12), 5), 'ERR_VFU_ARGSZ');
    const write = encodeMigDataWrite(new Uint8Array(5));
    expectRefused(() => decodeMigDataWrite(write, 4), 'ERR_VFU_RANGE');
    expectRefused(() => decodeMigDataWrite(write.subarray(0, 12), 5), 'ERR_VFU_PAYLOAD');
    expectRefused(() => decodeMigDataWrite(patch32(write.slice(), 0, 12), 5), 'ERR_VFU_ARGSZ');
    expectRefused(() => decodeMigDataRead(new Uint8Array(7), 4), 'ERR_VFU_PAYLOAD');
  });
  test('a reply gives no more than was asked for and than it has', () => {
    const reply = encodeMigDataReadReply(Uint8Array.of(1, 2, 3), 8);
    expect(decodeMigDataReadReply(reply, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expectRefused(() => decodeMigDataReadReply(reply, 2), 'ERR_VFU_RANGE', 22, 'close');
    expectRefused(() => decodeMigDataReadReply(patch32(reply.slice(), 4, 9), 100), 'ERR_VFU_RANGE', 22, 'close');
  });
});

describe('GET_REGION_IO_FDS', () => {
  const record = (over: object = {}): IoFdRecord => ({ kind: 'shadow', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 0n, memoryFdIndex: 1, memoryOffset: 16, ...over });
  test('request: flags and count are 0, argsz 16 to 1 MiB', () => {
    expectRefused(() => decodeGetRegionIoFds(patch32(encodeGetRegionIoFds(0), 4, 1)), 'ERR_VFU_FLAGS');
    expectRefused(() => decodeGetRegionIoFds(patch32(encodeGetRegionIoFds(0), 12, 1)), 'ERR_VFU_FLAGS');
    expectRefused(() => decodeGetRegionIoFds(encodeGetRegionIoFds(0, 15)), 'ERR_VFU_ARGSZ');
    expectRefused(() => decodeGetRegionIoFds(encodeGetRegionIoFds(0, 1_048_577)), 'ERR_VFU_ARGSZ');
  });
  test('all records or none, and argsz tells the need', () => {
    expect(encodeRegionIoFds(3, [record(), record()], 111)).toMatchObject({ complete: false, payload: { length: 16 } });
    expect(decodeRegionIoFds(encodeRegionIoFds(3, [record(), record()], 111).payload, 0)).toEqual({ argsz: 112, index: 3, count: 2, records: [] });
    expect(encodeRegionIoFds(3, [record(), record()], 112)).toMatchObject({ complete: true, payload: { length: 112 } });
    expect(() => encodeRegionIoFds(3, [record()], 4096, 40)).toThrow(RangeError);
  });
  test('a reply that names descriptors that did not come, unknown types, or does not add up, ends the connection', () => {
    const reply = encodeRegionIoFds(3, [record()], 4096).payload;
    expect(decodeRegionIoFds(reply, 2).records).toEqual([record()]);
    expectRefused(() => decodeRegionIoFds(reply, 1), 'ERR_VFU_FDS', 22, 'close');
    expectRefused(() => decodeRegionIoFds(reply, 0), 'ERR_VFU_FDS', 22, 'close');
    expectRefused(() => decodeRegionIoFds(patch32(reply.slice(), 36, 3), 2), 'ERR_VFU_INDEX', 22, 'close');
    expectRefused(() => decodeRegionIoFds(patch32(reply.slice(), 0, 63), 2), 'ERR_VFU_ARGSZ', 22, 'close');
    expectRefused(() => decodeRegionIoFds(patch32(reply.slice(), 12, 1025), 2), 'ERR_VFU_RANGE', 22, 'close');
    expectRefused(() => decodeRegionIoFds(reply.subarray(0, 63), 2), 'ERR_VFU_PAYLOAD', 22, 'close');
    expectRefused(() => decodeRegionIoFds(patch32(encodeRegionIoFds(3, [{ ...record(), kind: 'ioregionfd', userData: 0n } as IoFdRecord], 4096, 40).payload, 36, 2), 2), 'ERR_VFU_INDEX', 22, 'close');
  });
});

test('a header alone answers an access of no bytes, and no other', () => {
  const access = { offset: 8, region: 2, count: 0 };
  const nothing = new Uint8Array(0);
  expect(decodeRegionReadReply(nothing, access)).toEqual({ ...access, data: nothing });
  expect(decodeRegionWriteReply(nothing, access)).toEqual(access);
  for (const request of [undefined, { ...access, count: 1 }]) {
    expectRefused(() => decodeRegionReadReply(nothing, request), 'ERR_VFU_PAYLOAD', 22, 'close');
    expectRefused(() => decodeRegionWriteReply(nothing, request), 'ERR_VFU_PAYLOAD', 22, 'close');
  }
});

describe('DMA replies', () => {
  test('libvfio-user echoes 64 bits of count, one table of the specification 32, QEMU nothing', () => {
    const reply = encodeDmaRead({ address: 0x400n, count: 1024 });
    expect(decodeDmaWriteReply(reply, 'lvu')).toEqual({ address: 0x400n, count: 1024 });
    expect(decodeDmaWriteReply(reply.subarray(0, 12), 'lvu')).toEqual({ address: 0x400n, count: 1024 });
    expectRefused(() => decodeDmaWriteReply(reply.subarray(0, 11), 'lvu'), 'ERR_VFU_PAYLOAD', 22, 'close');
    expect(decodeDmaWriteReply(new Uint8Array(0), 'qemu')).toBeUndefined();
    expect([new Uint8Array(0), reply, reply.subarray(0, 12)].map(dialectOfWriteReply)).toEqual(['qemu', 'lvu', 'lvu']);
  });
  test('the data of a read is as long as its count says, in both dialects', () => {
    for (const dialect of ['lvu', 'qemu'] as const) {
      const reply = encodeDmaReadReply(0x400n, Uint8Array.of(1, 2, 3, 4, 5), dialect);
      expect(decodeDmaReadReply(reply, dialect).data).toEqual(Uint8Array.of(1, 2, 3, 4, 5));
      expectRefused(() => decodeDmaReadReply(reply.subarray(0, reply.length - 1), dialect), 'ERR_VFU_PAYLOAD', 22, 'close');
      expectRefused(() => decodeDmaReadReply(patch32(reply.slice(), 8, 6), dialect), 'ERR_VFU_PAYLOAD', 22, 'close');
    }
  });
  test('a write request has exactly its data, at least 16 bytes', () => {
    for (const dialect of ['lvu', 'qemu'] as const) {
      const write = encodeDmaWrite(0x400n, Uint8Array.of(1, 2, 3, 4, 5), dialect);
      expect(decodeDmaWrite(write, dialect, 5).data).toEqual(Uint8Array.of(1, 2, 3, 4, 5));
      expectRefused(() => decodeDmaWrite(write.subarray(0, write.length - 1), dialect, 5), 'ERR_VFU_PAYLOAD');
      expectRefused(() => decodeDmaWrite(write, dialect, 4), 'ERR_VFU_RANGE', 7);
    }
  });
});

describe('region info from a hostile server', () => {
  const full = (): Uint8Array => encodeRegionInfo({ flags: 7, index: 0, sizeBytes: 0x4000, fileOffset: 0, areas: [{ offset: 0, sizeBytes: 0x1000 }], msixMappable: true }, 4096).payload;
  const bad = (payload: Uint8Array, code: ProtocolErrorCode = 'ERR_VFU_RANGE'): void => expectRefused(() => decodeRegionInfo(payload), code, 22, 'close');

  test('a chain that points backwards, at itself, at the fixed part, or out of the payload', () => {
    for (const next of [1, 16, 32, 39, 65, 0xffff_ffff]) bad(patch32(full(), 36, next));
    for (const first of [8, 31, 66, 0xffff_fff8]) bad(patch32(full(), 12, first));
  });
  test('a chain without end', () => {
    const chain = (capabilities: number): Uint8Array => {
      const payload = new Uint8Array(32 + 8 * capabilities);
      [payload.length, 8, 0, 32].forEach((value, i) => patch32(payload, 4 * i, value));
      for (let i = 0; i < capabilities - 1; i++) patch32(payload, 36 + 8 * i, 40 + 8 * i);
      return payload;
    };
    expect(decodeRegionInfo(chain(16)).argsz).toBe(32 + 8 * 16);
    bad(chain(17));
  });
  test('more areas than fit, or than anybody needs', () => {
    bad(patch32(full(), 40, 3), 'ERR_VFU_PAYLOAD');
    bad(patch32(full(), 40, 0xffff_ffff));
  });
  test('an area outside the region, an overflowing one, a size of 2^53', () => {
    bad(patch32(full(), 48, 0x4000));
    bad(patch32(full(), 56, 0x5000));
    bad(patch32(full(), 60, 0x8000_0000));
    bad(patch32(full(), 20, 0x20_0000));
  });
});

test('commands have names, 14 and beyond the last do not', () => {
  expect(commandName(13)).toBe('DEVICE_RESET');
  expect(commandName(14)).toBe('command 14');
  expect(COMMANDS.has(19)).toBe(false);
});
