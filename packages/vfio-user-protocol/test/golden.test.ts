/** Bytes as libvfio-user and QEMU put them on the wire. */
import { expect, test } from 'vitest';
import {
  decodeDeviceFeature, decodeDeviceFeatureReply, decodeDeviceInfo, decodeDmaLogging, decodeDmaLoggingReport, decodeDmaLoggingReportReply, decodeDmaMap,
  decodeDmaUnmap, decodeDmaWriteReply, decodeGetRegionInfo, decodeHeader, decodeIrqInfo, decodeMigDataRead, decodeMigDataReadReply,
  decodeMigDeviceStateReply, decodeRegionInfo, decodeRegionIoFds, decodeRegionRead, decodeVersion, encodeDeviceFeature, encodeDeviceInfo,
  encodeDmaLogging, encodeDmaLoggingReport, encodeDmaMap, encodeDmaRead, encodeDmaReadReply, encodeDmaUnmap, encodeDmaWrite, encodeDmaWriteReply,
  encodeErrorReply, encodeGetRegionInfo, encodeIrqInfo, encodeMessage, encodeMigDataRead, encodeMigDataReadReply, encodeMigDataWrite,
  encodeMigDeviceState, encodeMigrationFeature, encodeRegionData, encodeRegionInfo, encodeRegionIoFds, encodeRegionRead, encodeRegionWriteMulti,
  encodeSetIrqs, encodeVersion, newRegionReadReply, newRegionWriteReply, REGION_DATA_AT, replyErrno, VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET,
} from '../src/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const expectHex = (got: Uint8Array, text: string): void => expect(hex(got)).toBe(text.replaceAll(' ', ''));

test('error reply: a header with type reply, the Error flag and the errno', () => {
  expectHex(encodeErrorReply(0xabcd, 9, 22), 'cdab 0900 10000000 21000000 16000000');
  expect(decodeHeader(bytes('cdab 0900 10000000 21000000 16000000'))).toEqual({ id: 0xabcd, command: 9, size: 16, flags: 0x21, error: 22 });
});

test('an error without a usable reason is EINVAL, a success is 0', () => {
  expect([{ flags: 0x21, error: 0 }, { flags: 0x21, error: 4096 }, { flags: 0x21, error: 0xffffffff }, { flags: 0x21, error: 2 }, { flags: 1, error: 5 }].map(replyErrno)).toEqual([22, 22, 22, 2, 0]);
});

test('VERSION of the sample client', () => {
  const json = '{"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024}}';
  const payload = bytes(`00000200${Buffer.from(json).toString('hex')}00`);
  const version = { major: 0, minor: 2, capabilities: { maxMsgFds: 32, maxDataXferSize: 1024 } };
  expect(decodeVersion(payload)).toEqual(version);
  expect(hex(encodeVersion(version))).toBe(hex(payload));
  expect(encodeMessage(55893, 1, 0, payload)).toHaveLength(82);
});

test('VERSION reply of libvfio-user, spaces and all', () => {
  const json = '{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, "migration": { "pgsize": 4096 } } }';
  expect(decodeVersion(bytes(`00000200${Buffer.from(json).toString('hex')}00`))).toEqual({
    major: 0, minor: 2, capabilities: { maxMsgFds: 8, maxDataXferSize: 1_048_576, migration: { pgsize: 4096 } },
  });
});

test('DEVICE_GET_INFO and DEVICE_GET_IRQ_INFO replies', () => {
  expectHex(encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 }), '10000000 03000000 09000000 05000000');
  expect(decodeDeviceInfo(bytes('10000000 03000000 09000000 05000000'))).toEqual({ flags: 3, numRegions: 9, numIrqs: 5 });
  expectHex(encodeIrqInfo({ flags: 1, index: 0, count: 1 }), '10000000 01000000 00000000 01000000');
  expect(decodeIrqInfo(bytes('10000000 01000000 00000000 01000000'))).toEqual({ flags: 1, index: 0, count: 1 });
});

const BAR1 = { flags: 7, index: 1, sizeBytes: 0x3000, fileOffset: 0, areas: [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x2000, sizeBytes: 0x1000 }] };
const BAR1_FULL = `50000000 0f000000 01000000 20000000 0030000000000000 0000000000000000 0100 0100 00000000 02000000 00000000
  0000000000000000 0010000000000000 0020000000000000 0010000000000000`.replaceAll(/\s/g, '');

test('region info: 32 bytes without capabilities', () => {
  const { payload, complete } = encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 8, fileOffset: 0 }, 40);
  expectHex(payload, '20000000 03000000 00000000 00000000 0800000000000000 0000000000000000');
  expect(complete).toBe(true);
});

test('region info: no room for the chain, so argsz tells the need and CAPS is clear', () => {
  const { payload, complete } = encodeRegionInfo(BAR1, 79);
  expectHex(payload, '50000000 07000000 01000000 00000000 0030000000000000 0000000000000000');
  expect(complete).toBe(false);
  expect(decodeRegionInfo(payload)).toEqual({ argsz: 80, flags: 7, index: 1, sizeBytes: 0x3000, fileOffset: 0 });
});

test('region info: room for the chain', () => {
  const { payload, complete } = encodeRegionInfo(BAR1, 80);
  expectHex(payload, BAR1_FULL);
  expect(complete).toBe(true);
  expect(decodeRegionInfo(bytes(BAR1_FULL))).toEqual({ argsz: 80, ...BAR1 });
  expect(encodeRegionInfo(BAR1, 4096).payload, 'never padded to argsz').toHaveLength(80);
});

test('DMA_MAP and DMA_UNMAP ALL', () => {
  const map = '20000000 03000000 0010000000000000 0020000000000000 0030000000000000';
  expectHex(encodeDmaMap({ flags: 3, fdOffset: 0x1000n, address: 0x2000n, size: 0x3000n }), map);
  expect(decodeDmaMap(bytes(map), 1)).toEqual({ argsz: 32, flags: 3, fdOffset: 0x1000n, address: 0x2000n, size: 0x3000n });
  const all = '18000000 02000000 0000000000000000 0000000000000000';
  expectHex(encodeDmaUnmap({ flags: 2, address: 0n, size: 0n }), all);
  expect(decodeDmaUnmap(bytes(all))).toEqual({ argsz: 24, flags: 2, address: 0n, size: 0n });
});

test('REGION_READ of the configuration space', () => {
  expectHex(encodeRegionRead({ offset: 0, region: 7, count: 64 }), '0000000000000000 07000000 40000000');
  expect(decodeRegionRead(bytes('0000000000000000 07000000 40000000'), 1024)).toEqual({ offset: 0, region: 7, count: 64 });
});

test('whole region replies: a read has room for the data, a write echoes', () => {
  const access = { offset: 0x1_0000_0004, region: 0, count: 4 };
  const reply = newRegionReadReply(7, access);
  reply.set([1, 2, 3, 4], REGION_DATA_AT);
  expectHex(reply, '0700 0900 24000000 01000000 00000000 0400000001000000 00000000 04000000 01020304');
  expectHex(newRegionWriteReply(7, access), '0700 0a00 20000000 01000000 00000000 0400000001000000 00000000 04000000');
  expectHex(encodeRegionData(4, 2, Uint8Array.of(9)), '0400000000000000 02000000 01000000 09');
});

test('SET_IRQS of the sample client: one eventfd for INTx', () => {
  expectHex(encodeSetIrqs({ action: 'trigger', index: 0, start: 0, count: 1, data: 'eventfd' }), '14000000 24000000 00000000 00000000 01000000');
});

test('REGION_WRITE_MULTI: 24 bytes an entry', () => {
  expectHex(encodeRegionWriteMulti([{ offset: 8, region: 1, data: Uint8Array.of(0xaa, 0xbb) }]), '0100000000000000 0800000000000000 01000000 02000000 aabb000000000000');
});

test('DMA messages, libvfio-user dialect', () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5);
  expectHex(encodeDmaRead({ address: 0x400n, count: 5 }), '0004000000000000 0500000000000000');
  expectHex(encodeDmaReadReply(0x400n, data, 'lvu'), '0004000000000000 0500000000000000 0102030405');
  expectHex(encodeDmaWrite(0x400n, data, 'lvu'), '0004000000000000 0500000000000000 0102030405');
  expectHex(encodeDmaWriteReply({ address: 0x400n, count: 5 }, 'lvu'), '0004000000000000 0500000000000000');
});

test('DMA messages, QEMU dialect: 32-bit count, data at 12, a tail of zeroes, an empty write reply', () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5);
  expectHex(encodeDmaReadReply(0x400n, data, 'qemu'), '0004000000000000 05000000 0102030405 00000000');
  expectHex(encodeDmaWrite(0x400n, data, 'qemu'), '0004000000000000 05000000 0102030405');
  expectHex(encodeDmaWrite(0x400n, Uint8Array.of(1), 'qemu'), '0004000000000000 01000000 01 000000');
  expectHex(encodeDmaWriteReply({ address: 0x400n, count: 5 }, 'qemu'), '');
});

test('an error of libvfio-user with the body of a success: the header is all that counts', () => {
  const header = decodeHeader(bytes('0df0 0900 24000000 21000000 16000000'));
  expect([header.size, replyErrno(header)]).toEqual([36, 22]);
});

test('GET_REGION_INFO of the sample client: padded to its argsz', () => {
  expectHex(encodeGetRegionInfo(1), '20000000 00000000 01000000 00000000 0000000000000000 0000000000000000');
  expect(decodeGetRegionInfo(bytes(`50000000 00000000 01000000 00000000 ${'00'.repeat(64)}`))).toEqual({ argsz: 80, index: 1 });
});

test('DEVICE_FEATURE: the state, a probe, START without ranges, a report, PRE_COPY', () => {
  const state = bytes('10000000 02000100 02000000 00000000');
  expect(decodeDeviceFeatureReply(state)).toMatchObject({ argsz: 16, feature: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, operations: VFIO_DEVICE_FEATURE_GET });
  expect(decodeMigDeviceStateReply(decodeDeviceFeatureReply(state).data)).toBe(2);
  expectHex(encodeDeviceFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_PROBE), '08000000 06000400');
  expect(decodeDeviceFeature(bytes('08000000 06000400'))).toMatchObject({ feature: 6, operations: VFIO_DEVICE_FEATURE_PROBE });
  const start = '18000000 06000200 0010000000000000 00000000 00000000';
  expectHex(encodeDeviceFeature(6, VFIO_DEVICE_FEATURE_SET, encodeDmaLogging({ pageSize: 4096n, ranges: [] })), start);
  expect(decodeDmaLogging(decodeDeviceFeature(bytes(start)).data)).toEqual({ pageSize: 4096n, ranges: [] });
  expectHex(encodeDeviceFeature(2, VFIO_DEVICE_FEATURE_SET, encodeMigDeviceState(6)), '10000000 02000200 06000000 ffffffff');
  const range = { iova: 0x1000n, length: 0x1000n, pageSize: 4096n };
  const report = encodeDeviceFeature(8, VFIO_DEVICE_FEATURE_GET, encodeDmaLoggingReport(range), 40);
  expectHex(report, '28000000 08000100 0010000000000000 0010000000000000 0010000000000000');
  expect(decodeDmaLoggingReport(decodeDeviceFeature(report).data, 40)).toEqual({ ...range, bitmapBytes: 8 });
  const reply = bytes('28000000 08000100 0010000000000000 0010000000000000 0010000000000000 0100000000000000');
  expect(encodeMessage(153, 16, 1, reply)).toHaveLength(56);
  expectHex(encodeDeviceFeature(8, VFIO_DEVICE_FEATURE_GET, encodeDmaLoggingReport(range, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))), hex(reply));
  expect(decodeDmaLoggingReportReply(decodeDeviceFeatureReply(reply).data)).toEqual({ ...range, bitmap: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) });
  expectHex(encodeDeviceFeature(1, VFIO_DEVICE_FEATURE_GET, encodeMigrationFeature(5)), '10000000 01000100 0500000000000000');
});

test('MIG_DATA_READ: the last chunk of the sample is padded to what was asked for', () => {
  expectHex(encodeMigDataRead(1024), '08040000 00040000');
  expect(decodeMigDataRead(bytes('08040000 00040000'), 1024)).toBe(1024);
  const last = encodeMigDataReadReply(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 1024);
  expectHex(last, `10000000 08000000 0102030405060708 ${'00'.repeat(1016)}`);
  expect(encodeMessage(1, 17, 1, last)).toHaveLength(1048);
  expect(decodeMigDataReadReply(last, 1024)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  expectHex(encodeMigDataWrite(Uint8Array.of(1, 2)), '0a000000 02000000 0102');
});

test('DMA_WRITE of 1024 bytes and its reply', () => {
  const data = new Uint8Array(1024).fill(0x41);
  expectHex(encodeDmaWrite(0n, data, 'lvu'), `0000000000000000 0004000000000000 ${'41'.repeat(1024)}`);
  expect(decodeDmaWriteReply(bytes('0000000000000000 0004000000000000'), 'lvu')).toEqual({ address: 0n, count: 1024 });
});

test('GET_REGION_IO_FDS: a shadow ioeventfd in 48 bytes, an ioeventfd of the specification in 40', () => {
  const shadow = { kind: 'shadow', offset: 8, sizeBytes: 0x16, fdIndex: 0, flags: 0, datamatch: 0n, memoryFdIndex: 1, memoryOffset: 0x10 } as const;
  const wide = '40000000 00000000 00000000 01000000 0800000000000000 1600000000000000 00000000 02000000 00000000 01000000 1000000000000000 0000000000000000';
  expectHex(encodeRegionIoFds(0, [shadow], 64).payload, wide);
  expect(decodeRegionIoFds(bytes(wide), 2).records).toEqual([shadow]);
  const ioeventfd = { kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: -1, flags: 1, datamatch: 0x0102n } as const;
  const narrow = '38000000 00000000 02000000 01000000 0800000000000000 0400000000000000 ffffffff 00000000 01000000 00000000 0201000000000000';
  expectHex(encodeRegionIoFds(2, [ioeventfd], 56, 40).payload, narrow);
  expect(decodeRegionIoFds(bytes(narrow), 0).records).toEqual([ioeventfd]);
});

test('VERSION reply that grants a twin socket to a device that migrates', () => {
  const json = '{"capabilities":{"max_msg_fds":16,"migration":{"pgsize":4096},"twin_socket":{"supported":true,"fd_index":0}}}';
  const payload = bytes(`00000200${Buffer.from(json).toString('hex')}00`);
  const version = { major: 0, minor: 2, capabilities: { maxMsgFds: 16, migration: { pgsize: 4096 }, twinSocket: { supported: true, fdIndex: 0 } } };
  expect(decodeVersion(payload)).toEqual(version);
  expect(hex(encodeVersion(version))).toBe(hex(payload));
});

test('SET_IRQS with bools counts them in argsz', () => {
  expectHex(encodeSetIrqs({ action: 'unmask', index: 0, start: 0, count: 2, data: Uint8Array.of(0, 1) }), '16000000 12000000 00000000 00000000 02000000 0001');
});

test('DMA_MAP by file I/O', () => {
  expectHex(encodeDmaMap({ flags: 11, fdOffset: 0n, address: 0x1000n, size: 0x2000n }), '20000000 0b000000 0000000000000000 0010000000000000 0020000000000000');
});
