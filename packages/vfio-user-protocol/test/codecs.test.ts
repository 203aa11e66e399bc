/** Encode and decode are inverses, for every request and reply of every command. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as p from '../src/index.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER));
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const data = fc.uint8Array({ maxLength: 64 });
const MAX = 1 << 20;
const vectors = (): number => 2048;

describe('round trips', () => {
  const roundTrip = <T>(name: string, value: fc.Arbitrary<T>, there: (value: T) => Uint8Array, back: (bytes: Uint8Array) => unknown): void => {
    test(name, () => fc.assert(fc.property(value, (v) => void expect(back(there(v))).toEqual(v)), { numRuns: 100 }));
  };

  roundTrip('header', fc.record({ id: u16, command: u16, size: u32, flags: u32, error: u32 }), p.encodeHeader, (b) => p.decodeHeader(b));
  roundTrip(
    'DMA_MAP',
    fc.record({ argsz: fc.integer({ min: 32, max: 0xffff_ffff }), flags: fc.constantFrom(0, 1, 2, 3, 5, 11), fdOffset: u64.map((v) => v >> 2n), address: u64, size: u64 })
      .map((m) => ({ ...m, size: (m.size % ((1n << 64n) - m.address)) >> 2n })),
    p.encodeDmaMap, (b) => p.decodeDmaMap(b, 1),
  );
  roundTrip('DMA_UNMAP', fc.record({ argsz: fc.integer({ min: 24, max: MAX }), flags: fc.constant(0), address: u64, size: u64 }), p.encodeDmaUnmap, p.decodeDmaUnmap);
  roundTrip(
    'DMA_UNMAP with bitmap',
    fc.integer({ min: 1, max: 1 << 20 }).map((pages) => ({ flags: 1, address: 0x1000n, size: BigInt(pages) * 4096n, bitmap: { pageSize: 4096n, bytes: p.dirtyBitmapBytes(BigInt(pages) * 4096n, 4096n) } })),
    p.encodeDmaUnmap, (b) => withoutArgsz(p.decodeDmaUnmap(b)),
  );
  roundTrip(
    'DMA_UNMAP reply with bitmap',
    fc.integer({ min: 1, max: 8 }).chain((words) => fc.uint8Array({ minLength: words * 8, maxLength: words * 8 })),
    (dirty) => p.encodeDmaUnmapReply({ argsz: 40 + dirty.length, flags: 1, address: 0n, size: 1n, bitmap: { pageSize: 4096n, bytes: BigInt(dirty.length) } }, dirty),
    (b) => Uint8Array.from(p.decodeDmaUnmapReply(b).dirty!),
  );
  roundTrip('device info', fc.record({ flags: u32, numRegions: u32, numIrqs: u32 }), p.encodeDeviceInfo, p.decodeDeviceInfo);
  roundTrip('GET_INFO', fc.record({ argsz: fc.integer({ min: 16, max: 0xffff_ffff }) }), (v) => p.encodeDeviceGetInfo(v.argsz), p.decodeDeviceGetInfo);
  roundTrip('irq info', fc.record({ flags: u32, index: u32, count: u32 }), p.encodeIrqInfo, p.decodeIrqInfo);
  roundTrip('GET_IRQ_INFO', fc.record({ argsz: fc.integer({ min: 16, max: 0xffff_ffff }), index: u32 }), (v) => p.encodeGetIrqInfo(v.index, v.argsz), p.decodeGetIrqInfo);
  roundTrip('GET_REGION_INFO', fc.record({ argsz: fc.integer({ min: 32, max: 0xffff_ffff }), index: u32 }), (v) => p.encodeGetRegionInfo(v.index, v.argsz), p.decodeGetRegionInfo);
  const area = fc.record({ offset: fc.integer({ min: 0, max: 2 ** 40 }), sizeBytes: fc.integer({ min: 0, max: 2 ** 40 }) });
  roundTrip(
    'region info with every mix of capabilities',
    fc.record({
      flags: u32.map((f) => (f & ~p.VFIO_REGION_INFO_FLAG_CAPS) >>> 0), index: u32, sizeBytes: fc.constant(2 ** 41), fileOffset: u53,
      areas: fc.array(area, { maxLength: 12 }), type: fc.record({ type: u32, subtype: u32 }), msixMappable: fc.constant(true as const),
    }, { requiredKeys: ['flags', 'index', 'sizeBytes', 'fileOffset'] }),
    (v) => p.encodeRegionInfo(v, 1 << 16).payload, (b) => withoutArgsz(p.decodeRegionInfo(b)),
  );
  roundTrip('REGION_READ', fc.record({ offset: u53, region: u32, count: fc.nat(MAX) }), p.encodeRegionRead, (b) => p.decodeRegionRead(b, MAX));
  roundTrip('REGION_WRITE', fc.record({ offset: u53, region: u32, data }), (v) => p.encodeRegionData(v.offset, v.region, v.data), (b) => {
    const { offset, region, count, data: copy } = p.decodeRegionWrite(b, MAX);
    expect(count).toBe(copy.length);
    return { offset, region, data: copy };
  });
  roundTrip('REGION_READ reply', fc.record({ offset: u53, region: u32, data }), (v) => {
    const reply = p.newRegionReadReply(1, { offset: v.offset, region: v.region, count: v.data.length });
    reply.set(v.data, p.REGION_DATA_AT);
    return reply;
  }, (b) => {
    const { offset, region, data: copy } = p.decodeRegionReadReply(b.subarray(p.HEADER_BYTES));
    return { offset, region, data: copy };
  });
  roundTrip('REGION_WRITE reply', fc.record({ offset: u53, region: u32, count: u32 }), (v) => p.newRegionWriteReply(1, v), (b) => p.decodeRegionWriteReply(b.subarray(p.HEADER_BYTES)));
  roundTrip(
    'REGION_WRITE_MULTI', fc.array(fc.record({ offset: u53, region: u32, data: fc.uint8Array({ maxLength: 8 }) }), { maxLength: 20 }),
    p.encodeRegionWriteMulti, (b) => p.decodeRegionWriteMulti(b).map(({ offset, region, data: copy }) => ({ offset, region, data: copy })),
  );
  roundTrip('REGION_WRITE_MULTI reply', u53, p.encodeRegionWriteMultiReply, p.decodeRegionWriteMultiReply);
  roundTrip(
    'SET_IRQS',
    fc.record({ action: fc.constantFrom<p.IrqAction>('mask', 'unmask', 'trigger'), index: fc.constantFrom(0, 1, 2), start: fc.nat(1000), count: fc.integer({ min: 1, max: 40 }), kind: fc.constantFrom('none', 'eventfd', 'bool') })
      .map(({ kind, ...v }) => ({ ...v, data: kind === 'bool' ? new Uint8Array(v.count).fill(1) : (kind as 'none' | 'eventfd') })),
    p.encodeSetIrqs, (b) => p.decodeSetIrqs(b, 0, vectors),
  );
  roundTrip('DMA_READ', fc.record({ address: u64, count: fc.nat(MAX) }), p.encodeDmaRead, (b) => {
    expect(p.decodeDmaRead(b, 'qemu', MAX)).toEqual(p.decodeDmaRead(b, 'lvu', MAX));
    return p.decodeDmaRead(b, 'lvu', MAX);
  });
  for (const d of ['lvu', 'qemu'] as const) {
    const value = fc.record({ address: u64, data });
    const plain = ({ address, data: copy }: p.DmaData): unknown => ({ address, data: copy });
    roundTrip(`DMA_WRITE (${d})`, value, (v) => p.encodeDmaWrite(v.address, v.data, d), (b) => plain(p.decodeDmaWrite(b, d, MAX)));
    roundTrip(`DMA_READ reply (${d})`, value, (v) => p.encodeDmaReadReply(v.address, v.data, d), (b) => plain(p.decodeDmaReadReply(b, d)));
  }
  roundTrip('DMA_WRITE reply', fc.record({ address: u64, count: u53 }), (v) => p.encodeDmaWriteReply(v, 'lvu'), (b) => p.decodeDmaWriteReply(b, 'lvu'));
  const words = fc.integer({ min: 1, max: 8 }).chain((n) => fc.uint8Array({ minLength: n * 8, maxLength: n * 8 }));

  roundTrip('DMA_UNMAP ALL', fc.record({ argsz: fc.integer({ min: 24, max: MAX }), flags: fc.constant(2), address: fc.constant(0n), size: fc.constant(0n) }), p.encodeDmaUnmap, p.decodeDmaUnmap);
  roundTrip(
    'DMA_UNMAP reply', fc.record({ argsz: u32, flags: fc.constantFrom(0, 2), address: u64, size: u64 }),
    (v) => p.encodeDmaUnmapReply(v), p.decodeDmaUnmapReply,
  );
  const argsz16 = fc.integer({ min: 16, max: MAX });
  roundTrip('GET_REGION_IO_FDS', fc.record({ argsz: argsz16, index: u32 }), (v) => p.encodeGetRegionIoFds(v.index, v.argsz), p.decodeGetRegionIoFds);
  const fdIndex = fc.integer({ min: -1, max: 7 });
  const sub = { offset: u53, sizeBytes: u53, fdIndex, flags: u32 };
  const ioeventfd = fc.record({ ...sub, kind: fc.constant('ioeventfd' as const), datamatch: u64 });
  const ioregionfd = fc.record({ ...sub, kind: fc.constant('ioregionfd' as const), userData: u64 });
  const shadow = fc.record({ ...sub, kind: fc.constant('shadow' as const), datamatch: u64, memoryFdIndex: fdIndex, memoryOffset: u53 });
  const strides: readonly (readonly [p.IoFdStride, fc.Arbitrary<p.IoFdRecord>])[] = [[48, fc.oneof(ioeventfd, ioregionfd, shadow)], [40, fc.oneof(ioeventfd, ioregionfd)]];
  for (const [stride, record] of strides) {
    roundTrip(
      `GET_REGION_IO_FDS reply, records of ${stride} bytes`, fc.record({ index: u32, records: fc.array(record, { maxLength: 6 }) }),
      (v) => p.encodeRegionIoFds(v.index, v.records, MAX, stride).payload,
      (b) => {
        const { argsz, count, ...rest } = p.decodeRegionIoFds(b, 8);
        expect({ argsz, count }).toEqual({ argsz: b.length, count: rest.records.length });
        return rest;
      },
    );
  }
  roundTrip(
    'DEVICE_FEATURE', fc.record({ argsz: fc.integer({ min: 8, max: 0xffff_ffff }), feature: u16, operations: fc.constantFrom(0x10000, 0x20000, 0x40000, 0x50000, 0x60000, 0x70000), data }),
    (v) => p.encodeDeviceFeature(v.feature, v.operations, v.data, v.argsz),
    (b) => {
      expect(p.decodeDeviceFeatureReply(b)).toEqual(p.decodeDeviceFeature(b));
      return p.decodeDeviceFeature(b);
    },
  );
  roundTrip('feature MIGRATION', u32, p.encodeMigrationFeature, p.decodeMigrationFeatureReply);
  roundTrip('feature MIG_DEVICE_STATE', u32, p.encodeMigDeviceState, (b) => {
    expect(p.decodeMigDeviceStateReply(b)).toBe(p.decodeMigDeviceState(b));
    return p.decodeMigDeviceState(b);
  });
  const range = fc.record({ iova: u64, length: u64 }).map(({ iova, length }) => ({ iova, length: 1n + length % ((1n << 64n) - iova) }));
  const pageSize = fc.integer({ min: 0, max: 63 }).map((shift) => 1n << BigInt(shift));
  roundTrip('feature DMA_LOGGING_START', fc.record({ pageSize, ranges: fc.array(range, { maxLength: 20 }) }), p.encodeDmaLogging, p.decodeDmaLogging);
  const report = fc.record({ iova: u64.map((v) => v >> 1n), length: fc.integer({ min: 4096, max: 1 << 30 }).map(BigInt), pageSize: fc.constantFrom(4096n, 2048n, 1024n) });
  roundTrip('feature DMA_LOGGING_REPORT', report, (v) => p.encodeDmaLoggingReport(v), (b) => {
    const { bitmapBytes, ...rest } = p.decodeDmaLoggingReport(b, 1 << 20);
    expect(BigInt(bitmapBytes)).toBe(p.dirtyBitmapBytes(rest.length, rest.pageSize));
    return rest;
  });
  roundTrip(
    'feature DMA_LOGGING_REPORT, reply', words.map((bitmap) => ({ iova: 0x1000n, length: BigInt(bitmap.length) * 8n * 4096n, pageSize: 4096n, bitmap })),
    (v) => p.encodeDmaLoggingReport(v, v.bitmap), p.decodeDmaLoggingReportReply,
  );
  roundTrip('MIG_DATA_READ', fc.nat(MAX), p.encodeMigDataRead, (b) => p.decodeMigDataRead(b, MAX));
  roundTrip('MIG_DATA_READ reply', data, (v) => p.encodeMigDataReadReply(v), (b) => p.decodeMigDataReadReply(b, 64));
  roundTrip('MIG_DATA_READ reply, padded', data, (v) => p.encodeMigDataReadReply(v, 100), (b) => {
    expect(b).toHaveLength(108);
    return p.decodeMigDataReadReply(b, 100);
  });
  roundTrip('MIG_DATA_WRITE', data, p.encodeMigDataWrite, (b) => p.decodeMigDataWrite(b, 64));
  const nat = fc.maxSafeNat();
  roundTrip(
    'VERSION',
    fc.record({
      major: u16, minor: u16,
      capabilities: fc.record({
        maxMsgFds: fc.nat(1024), maxDataXferSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), maxDmaMaps: nat, pgsizes: nat,
        migration: fc.record({ pgsize: fc.integer({ min: 4096, max: 1 << 30 }), maxBitmapSize: nat }, { requiredKeys: [] }),
        writeMultiple: fc.boolean(), twinSocket: fc.record({ supported: fc.boolean(), fdIndex: fc.nat(16) }, { requiredKeys: [] }),
      }, { requiredKeys: [] }),
    }, { requiredKeys: ['major', 'minor'] }),
    p.encodeVersion, p.decodeVersion,
  );
});

function withoutArgsz<T extends { readonly argsz: number }>(value: T): Omit<T, 'argsz'> {
  const { argsz: _, ...rest } = value;
  return rest;
}
