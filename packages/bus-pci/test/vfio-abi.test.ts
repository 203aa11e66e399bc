/** Bytes as Linux lays the structures out (include/uapi/linux/vfio.h, iommufd.h), and chains no kernel makes. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BusError, MAX_ARGSZ_ATTEMPTS, MAX_VFIO_INFO_BYTES } from '../src/index.ts';
import * as abi from '../src/vfio-abi.ts';

/** '20000000 0f…': groups of hexadecimal bytes. */
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replace(/[\s|]/g, ''), 'hex'));
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const chain = expect.objectContaining({ code: 'ERR_BUS_VFIO_CHAIN', errno: 71 }) as BusError;
const argsz = expect.objectContaining({ code: 'ERR_BUS_VFIO_ARGSZ' }) as BusError;
const argument = expect.objectContaining({ code: 'ERR_BUS_ARGUMENT' }) as BusError;

// BAR 0 of an nvme: argsz 40, flags 0xf, MSI-X mappable at 32.
const NVME_BAR0 = '28000000 0f000000 00000000 20000000 0040000000000000 0000000000000000 | 0300 0100 00000000';
// Region 9 of mbochs: argsz 48, flags caps, type 1 subtype 1 (EDID).
const MBOCHS_EDID = '30000000 0b000000 09000000 20000000 0010000000000000 0020000000000000 | 0200 0100 00000000 01000000 01000000';

test('a region with capability MSI-X mappable', () => {
  expect(abi.decodeVfioRegionInfo(bytes(NVME_BAR0))).toEqual({ index: 0, flags: 0xf, sizeBytes: 0x4000n, fileOffset: 0n, msixMappable: true });
});

test('a region of a type of its own', () => {
  expect(abi.decodeVfioRegionInfo(bytes(MBOCHS_EDID))).toEqual({ index: 9, flags: 0xb, sizeBytes: 0x1000n, fileOffset: 0x2000n, type: { type: 1, subtype: 1 }, msixMappable: false });
});

/** A region of 64 KiB with sparse areas. */
const sparse = (areas: readonly (readonly [bigint, bigint])[], count = areas.length): Uint8Array => {
  const all = new Uint8Array(48 + 16 * areas.length);
  const view = new DataView(all.buffer);
  [all.length, 0xf, 0, 32].forEach((word, i) => { view.setUint32(4 * i, word, true); });
  view.setBigUint64(16, 0x10000n, true);
  view.setUint16(32, 1, true);
  view.setUint32(40, count, true);
  areas.forEach(([offset, size], i) => { view.setBigUint64(48 + 16 * i, offset, true); view.setBigUint64(56 + 16 * i, size, true); });
  return all;
};

test('sparse areas come ascending, empty ones are left out; none at all means nothing can be mapped', () => {
  expect(abi.decodeVfioRegionInfo(sparse([[0x8000n, 0x8000n], [0x4000n, 0n], [0n, 0x1000n]])).areas).toEqual([{ offset: 0n, sizeBytes: 0x1000n }, { offset: 0x8000n, sizeBytes: 0x8000n }]);
  expect(abi.decodeVfioRegionInfo(sparse([])).areas).toEqual([]);
});

test('sparse areas that overlap, leave the region or the structure are refused', () => {
  const HUGE = 0xffff_ffff_ffff_f000n;
  for (const structure of [sparse([[0n, 0x2000n], [0x1000n, 0x1000n]]), sparse([[0xf000n, 0x2000n]]), sparse([[HUGE, 0x2000n]]), sparse([[0n, 0x1000n]], 2), sparse([], 0xffff_ffff)]) {
    expect(() => abi.decodeVfioRegionInfo(structure)).toThrow(chain);
  }
});

test.each([
  ['a circle of one', '20', '20000000'],
  ['a circle of two', '20', '28000000', '20000000'],
  ['into the fixed part', '20', '08000000'],
  ['begins in the fixed part', '1f', '00000000'],
  ['beyond the end', '20', 'f0000000'],
  ['a header cut off', '20', '2c000000', '00000000'],
  ['overlapping headers', '20', '24000000', '00000000'],
  ['as far as it goes', '20', 'ffffffff'],
])('a chain that is %s is refused', (_, first, next, second = '00000000') => {
  const structure = bytes(`30000000 0f000000 00000000 ${first}000000 0040000000000000 0000000000000000 | 6300 0100 ${next} 6300 0100 ${second}`);
  expect(() => abi.decodeVfioRegionInfo(structure)).toThrow(chain);
});

test('on a short call the flag for capabilities comes without their offset', () => {
  expect(abi.decodeVfioRegionInfo(bytes(`${NVME_BAR0.split('|')[0]!.replace('20000000', '00000000')}`)).msixMappable).toBe(false);
});

test('askWithArgsz grows as the kernel says, twice if need be', () => {
  const asked: number[] = [];
  const needs = [40, 64, 64];
  const answer = abi.askWithArgsz(32, 'region', (structure) => {
    expect(new DataView(structure.buffer).getUint32(0, true)).toBe(structure.length);
    asked.push(structure.length);
    new DataView(structure.buffer).setUint32(0, needs.shift()!, true);
  });
  expect([asked, answer.length]).toEqual([[32, 40, 64], 64]);
});

test.each([['less than the structure', () => 16], ['too much', () => MAX_VFIO_INFO_BYTES + 1], ['more each time', (had: number) => had + 8]])('askWithArgsz refuses a need that is %s', (_, need) => {
  let calls = 0;
  expect(() => abi.askWithArgsz(32, 'region', (structure) => { calls++; new DataView(structure.buffer).setUint32(0, need(structure.length), true); })).toThrow(argsz);
  expect(calls).toBeLessThanOrEqual(MAX_ARGSZ_ATTEMPTS);
});

test('what a group, a device and an interrupt say', () => {
  expect(abi.decodeGroupStatus(bytes('08000000 03000000')).flags).toBe(abi.VFIO_GROUP_FLAGS_VIABLE | abi.VFIO_GROUP_FLAGS_CONTAINER_SET);
  expect(abi.decodeDeviceInfo(bytes('14000000 03000000 09000000 05000000 00000000'))).toEqual({ flags: 3, numRegions: 9, numIrqs: 5, capabilities: [] });
  expect(abi.decodeDeviceInfo(bytes('20000000 83000000 09000000 05000000 18000000 00000000 | 0400 0100 00000000')).capabilities).toMatchObject([{ id: 4, version: 1, offset: 24 }]);
  expect(hex(abi.encodeIrqInfo(2))).toBe('10000000000000000200000000000000');
  expect(abi.decodeIrqInfo(bytes('10000000 09000000 02000000 41000000'))).toEqual({ index: 2, flags: 9, count: 65 });
});

test('structures that are cut off are refused', () => {
  for (const decode of [abi.decodeGroupStatus, abi.decodeDeviceInfo, abi.decodeIrqInfo, abi.decodeVfioRegionInfo, abi.decodeType1Info, abi.allocatedIoas, abi.boundDeviceId, abi.unmappedBytes, abi.unmappedIoasBytes, abi.decodeIoasRanges]) {
    expect(() => decode(new Uint8Array(7))).toThrow(argsz);
  }
});

test('interrupts: eventfds, booleans, disable', () => {
  expect(hex(abi.encodeIrqSet({ index: 2, start: 1, action: 'trigger', data: { eventfds: [5, -1] } }))).toBe(hex(bytes('1c000000 24000000 02000000 01000000 02000000 05000000 ffffffff')));
  expect(hex(abi.encodeIrqSet({ index: 0, start: 0, action: 'unmask', data: 1 }))).toBe(hex(bytes('14000000 11000000 00000000 00000000 01000000')));
  expect(hex(abi.encodeIrqSet({ index: 1, start: 0, action: 'mask', data: { bools: [true, false, true] } }))).toBe(hex(bytes('17000000 0a000000 01000000 00000000 03000000 010001')));
  expect(hex(abi.encodeIrqSet({ index: 2, start: 0, action: 'trigger', data: 0 }))).toBe(hex(bytes('14000000 21000000 02000000 00000000 00000000')));
  for (const data of [-1, 4096, { eventfds: [-2] }, { eventfds: [1.5] }]) expect(() => abi.encodeIrqSet({ index: 0, start: 0, action: 'trigger', data })).toThrow(argument);
});

test('the container: page sizes, usable addresses, migration, maps left', () => {
  const info = bytes(`
    70000000 03000000 0010204000000000 18000000 00000000
    0100 0100 48000000 02000000 00000000 0000000000000000 ffffdffe00000000 0000f0fe00000000 ffffffffffff0000
    0200 0100 68000000 00000000 00000000 0010000000000000 0000001000000000
    0300 0100 00000000`);
  // The last one is cut off: 4 bytes of its number are missing.
  expect(() => abi.decodeType1Info(info)).toThrow(chain);
  expect(abi.decodeType1Info(bytes(`${hex(info)} ffff0000`))).toEqual({
    pageSizes: 0x40201000n, iovaRanges: [{ first: 0n, last: 0xfedf_ffffn }, { first: 0xfef0_0000n, last: 0xffff_ffff_ffffn }],
    migration: { flags: 0, pageSizes: 0x1000n, maxBitmapBytes: 0x1000_0000n }, mapsAvailable: 0xffff,
  });
  expect(() => abi.decodeType1Info(bytes('38000000 02000000 0000000000000000 18000000 00000000 | 0100 0100 00000000 01000000 00000000 0100000000000000 0000000000000000'))).toThrow(chain);
});

const MAP = { address: 0x7f00_0000_0000n, iova: 0x1_0000_0000n, sizeBytes: 0x20_0000n, readable: true, writable: true };

test('DMA maps of a container and of iommufd', () => {
  expect(hex(abi.encodeDmaMap(MAP))).toBe(hex(bytes('20000000 03000000 00000000007f0000 0000000001000000 0000200000000000')));
  expect(hex(abi.encodeDmaMap({ ...MAP, writable: false })).slice(8, 16)).toBe('01000000');
  expect(hex(abi.encodeDmaUnmap(MAP.iova, MAP.sizeBytes))).toBe(hex(bytes('18000000 00000000 0000000001000000 0000200000000000')));
  expect(abi.unmappedBytes(abi.encodeDmaUnmap(MAP.iova, MAP.sizeBytes))).toBe(MAP.sizeBytes);
  expect(hex(abi.encodeIoasMap(3, MAP))).toBe(hex(bytes('28000000 07000000 03000000 00000000 00000000007f0000 0000200000000000 0000000001000000')));
  expect(hex(abi.encodeIoasUnmap(3, MAP.iova, MAP.sizeBytes))).toBe(hex(bytes('18000000 03000000 0000000001000000 0000200000000000')));
  expect(abi.unmappedIoasBytes(abi.encodeIoasUnmap(3, MAP.iova, MAP.sizeBytes))).toBe(MAP.sizeBytes);
  expect(() => abi.encodeDmaMap({ ...MAP, iova: -1n })).toThrow(argument);
  expect(() => abi.encodeIoasMap(-1, MAP)).toThrow(argument);
});

test('a device with a node of its own', () => {
  expect(hex(abi.encodeBindIommufd(9))).toBe(hex(bytes('10000000 00000000 09000000 00000000')));
  expect(abi.boundDeviceId(bytes('10000000 00000000 09000000 02000000'))).toBe(2);
  expect(hex(abi.encodeAttach(3))).toBe(hex(bytes('0c000000 00000000 03000000')));
  expect(hex(abi.encodeDetach())).toBe(hex(bytes('08000000 00000000')));
  expect(hex(abi.encodeIoasAlloc())).toBe(hex(bytes('0c000000 00000000 00000000')));
  expect(abi.allocatedIoas(bytes('0c000000 00000000 03000000'))).toBe(3);
  expect(hex(abi.encodeIoasRanges(3, 2, 0x1000n))).toBe(hex(bytes('20000000 03000000 02000000 00000000 0010000000000000 0000000000000000')));
  expect(abi.decodeIoasRanges(bytes('20000000 03000000 05000000 00000000 0010000000000000 0010000000000000'))).toEqual({ count: 5, alignment: 0x1000n });
  expect(hex(abi.encodeIommuDestroy(3))).toBe(hex(bytes('08000000 03000000')));
});

test('arbitrary answers are decoded or refused, never anything else', () => {
  const words = fc.array(fc.oneof(fc.nat(64), fc.constantFrom(0x10001, 0x10002, 0x10003, 0xffff_ffff)), { maxLength: 40 }).map((list) => new Uint8Array(Uint32Array.from(list).buffer));
  fc.assert(fc.property(words, (answer) => {
    for (const decode of [abi.decodeVfioRegionInfo, abi.decodeDeviceInfo, abi.decodeType1Info]) {
      try { decode(answer); } catch (error) { expect(error).toBeInstanceOf(BusError); }
    }
  }), { numRuns: 2000 });
});
