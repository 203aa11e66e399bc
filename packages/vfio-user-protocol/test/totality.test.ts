/**
 * Whatever bytes come (arbitrary ones, plausible ones, valid messages with something wrong): a decoder returns or throws a
 * ProtocolError of the right consequence, and looks at nothing but its input.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as p from '../src/index.ts';
import { type Consequence, ProtocolError } from '../src/index.ts';

const MAX = 1 << 20;
const GET = p.VFIO_DEVICE_FEATURE_GET;
const SET = p.VFIO_DEVICE_FEATURE_SET;
const data = Uint8Array.from({ length: 24 }, (_, i) => i + 1);
const REQUEST = 'reply';
const REPLY = 'close';

/** What a refusal means, how it is decoded, and messages that are not refused. */
type Row = readonly [Consequence, (bytes: Uint8Array) => unknown, ...Uint8Array[]];

const unmapRequest = { argsz: 72, flags: 1, address: 0x1000n, size: 0x100000n, bitmap: { pageSize: 4096n, bytes: 32n } };
const records: p.IoFdRecord[] = [
  { kind: 'ioeventfd', offset: 0, sizeBytes: 4, fdIndex: 0, flags: 1, datamatch: 5n },
  { kind: 'shadow', offset: 8, sizeBytes: 4, fdIndex: 1, flags: 0, datamatch: 0n, memoryFdIndex: 2, memoryOffset: 16 },
  { kind: 'ioregionfd', offset: 16, sizeBytes: 8, fdIndex: -1, flags: 2, userData: 9n },
];
const info: p.RegionInfo = { flags: 7, index: 1, sizeBytes: 0x8000, fileOffset: 0, areas: [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x4000, sizeBytes: 0x2000 }], type: { type: 1, subtype: 2 }, msixMappable: true };
const version: p.Version = { major: 0, minor: 2, capabilities: { maxMsgFds: 16, maxDataXferSize: MAX, migration: { pgsize: 4096 }, writeMultiple: true, twinSocket: { supported: true, fdIndex: 0 } } };
const region = { offset: 8, region: 1, count: data.length };
const logging = p.encodeDmaLogging({ pageSize: 4096n, ranges: [{ iova: 0n, length: 0x10000n }, { iova: 0x20000n, length: 0x1000n }] });
const report = { iova: 0n, length: 0x100000n, pageSize: 4096n };
const payloadOf = (message: Uint8Array): Uint8Array => message.slice(p.HEADER_BYTES);

const DECODERS: Readonly<Record<string, Row>> = {
  header: [REPLY, (b) => p.decodeHeader(b), p.encodeErrorReply(1, 9, 22)],
  'VERSION, either way': [REPLY, p.decodeVersion, p.encodeVersion(version), p.encodeVersion({ major: 0, minor: 0 })],
  DMA_MAP: [REQUEST, (b) => p.decodeDmaMap(b, 1), p.encodeDmaMap({ flags: 7, fdOffset: 0n, address: 0x1000n, size: 0x1000n }), p.encodeDmaMap({ flags: 11, fdOffset: 0n, address: 0n, size: 0n })],
  DMA_UNMAP: [REQUEST, p.decodeDmaUnmap, p.encodeDmaUnmap(unmapRequest), p.encodeDmaUnmap({ argsz: 24, flags: 2, address: 0n, size: 0n })],
  'DMA_UNMAP reply': [REPLY, p.decodeDmaUnmapReply, p.encodeDmaUnmapReply(unmapRequest, new Uint8Array(32)), p.encodeDmaUnmapReply({ argsz: 24, flags: 0, address: 0n, size: 4096n })],
  GET_INFO: [REQUEST, p.decodeDeviceGetInfo, p.encodeDeviceGetInfo()],
  'GET_INFO reply': [REPLY, p.decodeDeviceInfo, p.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 })],
  GET_REGION_INFO: [REQUEST, p.decodeGetRegionInfo, p.encodeGetRegionInfo(1, 80)],
  'GET_REGION_INFO reply': [REPLY, p.decodeRegionInfo, p.encodeRegionInfo(info, 4096).payload, p.encodeRegionInfo(info, 32).payload],
  GET_REGION_IO_FDS: [REQUEST, p.decodeGetRegionIoFds, p.encodeGetRegionIoFds(0, 4096)],
  'GET_REGION_IO_FDS reply': [REPLY, (b) => p.decodeRegionIoFds(b, 3), p.encodeRegionIoFds(0, records, MAX).payload, p.encodeRegionIoFds(0, records.slice(0, 1), MAX, 40).payload, p.encodeRegionIoFds(0, records, 16).payload],
  GET_IRQ_INFO: [REQUEST, p.decodeGetIrqInfo, p.encodeGetIrqInfo(2)],
  'GET_IRQ_INFO reply': [REPLY, p.decodeIrqInfo, p.encodeIrqInfo({ flags: 1, index: 2, count: 2048 })],
  SET_IRQS: [
    REQUEST, (b) => p.decodeSetIrqs(b, b.length === 20 ? 2 : 0, (index) => (index < 5 ? 64 : undefined)),
    p.encodeSetIrqs({ action: 'trigger', index: 2, start: 3, count: 2, data: 'eventfd' }), p.encodeSetIrqs({ action: 'unmask', index: 0, start: 0, count: 3, data: Uint8Array.of(1, 0, 1) }),
  ],
  REGION_READ: [REQUEST, (b) => p.decodeRegionRead(b, MAX), p.encodeRegionRead(region)],
  'REGION_READ reply': [REPLY, (b) => p.decodeRegionReadReply(b, region), p.encodeRegionData(8, 1, data)],
  REGION_WRITE: [REQUEST, (b) => p.decodeRegionWrite(b, MAX), p.encodeRegionData(8, 1, data)],
  'REGION_WRITE reply': [REPLY, (b) => p.decodeRegionWriteReply(b, region), payloadOf(p.newRegionWriteReply(1, region))],
  REGION_WRITE_MULTI: [REQUEST, p.decodeRegionWriteMulti, p.encodeRegionWriteMulti([{ offset: 0, region: 0, data: data.subarray(0, 8) }, { offset: 8, region: 1, data: data.subarray(0, 3) }])],
  'REGION_WRITE_MULTI reply': [REPLY, p.decodeRegionWriteMultiReply, p.encodeRegionWriteMultiReply(2)],
  'DMA_READ (lvu)': [REQUEST, (b) => p.decodeDmaRead(b, 'lvu', MAX), p.encodeDmaRead({ address: 0x1000n, count: 64 })],
  'DMA_READ (qemu)': [REQUEST, (b) => p.decodeDmaRead(b, 'qemu', MAX), p.encodeDmaRead({ address: 0x1000n, count: 64 })],
  'DMA_READ reply (lvu)': [REPLY, (b) => p.decodeDmaReadReply(b, 'lvu'), p.encodeDmaReadReply(0x1000n, data, 'lvu')],
  'DMA_READ reply (qemu)': [REPLY, (b) => p.decodeDmaReadReply(b, 'qemu'), p.encodeDmaReadReply(0x1000n, data, 'qemu')],
  'DMA_WRITE (lvu)': [REQUEST, (b) => p.decodeDmaWrite(b, 'lvu', MAX), p.encodeDmaWrite(0x1000n, data, 'lvu')],
  'DMA_WRITE (qemu)': [REQUEST, (b) => p.decodeDmaWrite(b, 'qemu', MAX), p.encodeDmaWrite(0x1000n, data, 'qemu')],
  'DMA_WRITE reply (lvu)': [REPLY, (b) => p.decodeDmaWriteReply(b, 'lvu'), p.encodeDmaWriteReply({ address: 0x1000n, count: 64 }, 'lvu')],
  'DMA_WRITE reply (qemu)': [REPLY, (b) => p.decodeDmaWriteReply(b, 'qemu'), p.encodeDmaWriteReply({ address: 0x1000n, count: 64 }, 'qemu')],
  DEVICE_FEATURE: [REQUEST, p.decodeDeviceFeature, p.encodeDeviceFeature(6, SET, logging), p.encodeDeviceFeature(1, GET)],
  'DEVICE_FEATURE reply': [REPLY, p.decodeDeviceFeatureReply, p.encodeDeviceFeature(2, GET, p.encodeMigDeviceState(2))],
  'feature MIGRATION, reply': [REPLY, p.decodeMigrationFeatureReply, p.encodeMigrationFeature(5)],
  'feature MIG_DEVICE_STATE': [REQUEST, p.decodeMigDeviceState, p.encodeMigDeviceState(3)],
  'feature MIG_DEVICE_STATE, reply': [REPLY, p.decodeMigDeviceStateReply, p.encodeMigDeviceState(3)],
  'feature DMA_LOGGING_START': [REQUEST, p.decodeDmaLogging, logging],
  'feature DMA_LOGGING_REPORT': [REQUEST, (b) => p.decodeDmaLoggingReport(b, 4096), p.encodeDmaLoggingReport(report)],
  'feature DMA_LOGGING_REPORT, reply': [REPLY, p.decodeDmaLoggingReportReply, p.encodeDmaLoggingReport(report, new Uint8Array(32))],
  MIG_DATA_READ: [REQUEST, (b) => p.decodeMigDataRead(b, MAX), p.encodeMigDataRead(1024)],
  'MIG_DATA_READ reply': [REPLY, (b) => p.decodeMigDataReadReply(b, 64), p.encodeMigDataReadReply(data, 64)],
  MIG_DATA_WRITE: [REQUEST, (b) => p.decodeMigDataWrite(b, MAX), p.encodeMigDataWrite(data)],
};

test('the table has every decoder of the package', () => {
  const exported = Object.keys(p).filter((name) => name.startsWith('decode'));
  const used = Object.values(DECODERS).map(([, decode]) => decode.name === '' || !decode.name.startsWith('decode') ? decode.toString() : decode.name).join('\n');
  expect(exported.filter((name) => !new RegExp(`${name}\\b`).test(used))).toEqual([]);
});

const EDGES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, 36, 40, 47, 48, 80, 0x1000, 0xffff, 0x10000, 0x20_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];
const plausible = fc.array(fc.constantFrom(...EDGES), { maxLength: 40 }).map((words) => new Uint8Array(Uint32Array.from(words).buffer));
const json = fc.json({ maxDepth: 3 }).map((text) => Uint8Array.from([0, 0, 2, 0, ...new TextEncoder().encode(text), 0]));

type Mutate = (bytes: Uint8Array) => Uint8Array;
const where = fc.nat(200);
const MUTATIONS: fc.Arbitrary<Mutate> = fc.oneof(
  fc.tuple(where, fc.nat(7)).map(([at, bit]): Mutate => (b) => b.map((byte, i) => (i === at % b.length ? byte ^ (1 << bit) : byte))),
  where.map((at): Mutate => (b) => b.slice(0, at % (b.length + 1))),
  fc.uint8Array({ minLength: 1, maxLength: 20 }).map((tail): Mutate => (b) => Uint8Array.from([...b, ...tail])),
  fc.tuple(where, fc.constantFrom(...EDGES)).map(([at, value]): Mutate => (b) => {
    const words = Math.floor(b.length / 4);
    if (words > 0) new DataView(b.buffer).setUint32(4 * (at % words), value, true);
    return b;
  }),
  fc.tuple(where, where).map(([from, to]): Mutate => (b) => b.copyWithin(to % (b.length + 1), from % (b.length + 1))),
);

/** A valid message with up to three things wrong. */
function mutated(valid: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc.tuple(fc.constantFrom(...valid), fc.array(MUTATIONS, { minLength: 1, maxLength: 3 })).map(([bytes, mutations]) => mutations.reduce<Uint8Array>((b, mutate) => mutate(b), bytes.slice()));
}

/** As the array, but an index that it does not have is an error, not undefined. */
function strict(bytes: Uint8Array): Uint8Array {
  return new Proxy(bytes, {
    get(target, key) {
      if (typeof key === 'string' && /^\d+$/.test(key) && Number(key) >= target.length) throw new Error(`byte ${key} of ${target.length}`);
      if (key === 'subarray') return (from?: number, to?: number) => strict(target.subarray(from, to));
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

describe.each(Object.entries(DECODERS))('%s', (name, [consequence, decode, ...valid]) => {
  /** Canaries on both sides: a decoder that leaves its input sees other bytes the second time. */
  const run = (bytes: Uint8Array, canary: number): unknown => {
    const room = new Uint8Array(bytes.length + 128).fill(canary);
    room.set(bytes, 64);
    try {
      return decode(room.subarray(64, 64 + bytes.length));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      expect(error.consequence).toBe(consequence);
      return error.code;
    }
  };

  test('takes what is valid', () => {
    for (const bytes of valid) expect(run(bytes, 0xff)).not.toBeTypeOf('string');
  });
  test('returns or throws a ProtocolError, from its input alone', () => {
    const input = fc.oneof({ weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) }, { weight: 1, arbitrary: plausible }, { weight: 1, arbitrary: json }, { weight: 4, arbitrary: mutated(valid) });
    fc.assert(fc.property(input, (bytes) => {
      expect(run(bytes, 0)).toEqual(run(bytes, 0xff));
      // A TextDecoder takes no proxy.
      if (name.startsWith('VERSION')) return;
      try {
        decode(strict(bytes));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    }), { numRuns: 300 });
  });
});
