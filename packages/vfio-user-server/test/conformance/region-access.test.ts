import { ConfigSpace, PciLayoutError, type Bar, type PciDevice, type RegionDescription } from '@emudev/pci';
import { describe, expect, it } from 'vitest';
import { VfioUserServer } from '../../src/index.ts';
import { FakeDevice, serve, window } from '../fixture.ts';
import { CH_VERSION, concat, ERROR, fields, REPLY, u64 } from '../raw-client.ts';
import { access, DMA_UNMAP, dmaUnmap, EINVAL, MULTI, PAGE, READ, REGION_INFO, regionInfo, WRITE } from '../requests.ts';
import { conformance, type Row } from './suite.ts';

const CONFIG = 7;
const bar = (index: number, more: Partial<RegionDescription> = {}): RegionDescription => ({ index, sizeBytes: 0x1000, readable: true, writable: true, ...more });
const area = (offset: number, sizeBytes: number): NonNullable<RegionDescription['mmap']> => ({ areas: [{ offset, sizeBytes }], backing: { fd: 0, offset: 0 } });

/** What libvfio-user refuses when a device is set up is refused here when its server is made. */
const badRegions = (title: string, ...regions: readonly RegionDescription[]): Row => ({
  title: `${title}: no server for such a device`,
  run: () => {
    for (const region of regions) {
      const device: PciDevice = Object.assign(new FakeDevice(), { regions: [region] });
      expect(() => new VfioUserServer(device, { window }), JSON.stringify(region)).toThrow(expect.objectContaining({ code: 'ERR_SERVER_DEVICE', errno: EINVAL }) as Error);
    }
  },
});
const badBars = (title: string, ...layouts: readonly (readonly Bar[])[]): Row => ({
  title: `${title}: no such configuration space`,
  run: () => {
    for (const bars of layouts) expect(() => new ConfigSpace({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0, bars }), JSON.stringify(bars)).toThrow(PciLayoutError);
  },
});
const memory32 = (index: number, sizeBytes = 0x1000): Bar => ({ index, kind: 'memory32', sizeBytes });
const memory64 = (index: number, sizeBytes = 0x1000): Bar => ({ index, kind: 'memory64', sizeBytes });

/** Answers 0xcc whatever is read of configuration space. */
class CcDevice extends FakeDevice {
  override read(region: number, offset: number, into: Uint8Array): void {
    super.read(region, offset, into);
    if (region === CONFIG) into.fill(0xcc);
  }
}

conformance('region-access', {
  A1: badRegions('neither readable nor writable (better: other flags cannot be written down)', bar(0, { readable: false, writable: false })),
  A2: badRegions('no areas, areas without a descriptor, empty, or beyond the region', bar(0, { mmap: { areas: [], backing: { fd: 0, offset: 0 } } }),
    bar(0, { mmap: { ...area(0, 0x1000), backing: { fd: -1, offset: 0 } } }), bar(0, { mmap: area(0, 0) }), bar(0, { mmap: area(-0x1000, 0x1000) }), bar(0, { mmap: area(0x800, 0x1000) })),
  A3: badRegions('index -2 or 9', bar(-2), bar(9)),
  A4: badRegions('configuration space that could be mapped', bar(CONFIG, { mmap: area(0, 0x1000) })),
  A5: badBars('a 64-bit BAR without a next index (better: odd indexes that have one are what real cards use)', [memory64(5)]),
  A6: badBars('a BAR in the upper half of a 64-bit one, whichever comes first', [memory64(0), memory32(1)], [memory32(1), memory64(0)]),
  A7: {
    title: 'every access to configuration space reaches the device (better: there is no mode in which it could be forgotten)',
    run: async ({ client, device }) => {
      device.take();
      expect(await client.errno(READ, access(0n, CONFIG, 64))).toBe(0);
      expect(await client.errno(WRITE, access(4n, CONFIG, 2, Uint8Array.of(6, 0)))).toBe(0);
      expect(device.take()).toEqual(['read 7 0 64', 'write 7 4 6,0']);
    },
  },
  A8: { title: 'reading 2 bytes of configuration space gives what the device says', given: () => ({ device: new CcDevice() }), exchanges: [{ send: [READ, access(0n, CONFIG, 2)], reply: access(0n, CONFIG, 2, Uint8Array.of(0xcc, 0xcc)) }] },
  A9: {
    title: 'offset 2^64 - 1 with 256 bytes, and one byte across the end: EINVAL',
    exchanges: [{ send: [READ, access(2n ** 64n - 1n, 0, 256)], reply: EINVAL }, { send: [READ, access(0xfffn, 0, 2)], reply: EINVAL }, { send: [WRITE, access(2n ** 64n - 1n, 0, 1, Uint8Array.of(1))], reply: EINVAL }],
  },
  A10: { title: '0 bytes: nothing is read or written, and that succeeds', exchanges: [{ send: [READ, access(0n, 0, 0)], reply: access(0n, 0, 0) }, { send: [WRITE, access(0n, 0, 0)], reply: access(0n, 0, 0) }], run: ({ device }) => { expect(device.take()).toEqual(['attach']); } },
  A11: { title: 'more than was announced: EINVAL', exchanges: [{ send: [READ, access(0n, 2, (1 << 20) + 8)], reply: EINVAL }, { send: [READ, access(0n, 2, 0xffffffff)], reply: EINVAL }] },
  A12: { title: 'a write of 8 bytes of payload, of less data than it says, of more: EINVAL', exchanges: [new Uint8Array(8), access(0n, 0, 8, fields(0)), access(0n, 0, 4, fields(0, 0))].map((payload) => ({ send: [WRITE, payload] as const, reply: EINVAL })) },
  A13: { title: 'region 0xdeadbeef, and one that the device lacks: EINVAL', exchanges: [0xdeadbeef, 9, 4].map((region) => ({ send: [READ, access(0n, region, 4)] as const, reply: EINVAL })) },
  A14: badBars('a BAR that is no power of two, or smaller than 16 bytes (memory) or 4 (I/O)', [memory32(0, 0x3000)], [memory32(0, 8)], [memory64(0, 8)], [{ index: 0, kind: 'io', sizeBytes: 2 }]),
  A15: {
    title: 'a region of size 0 is absent',
    given: () => ({ device: Object.assign(new FakeDevice(), { regions: [bar(0, { sizeBytes: 0 })] }) }),
    exchanges: [{ send: [REGION_INFO, regionInfo(0, 32)], reply: fields(32, 0, 0, 0, 0n, 0n) }, { send: [READ, access(0n, 0, 4)], reply: EINVAL }],
  },
});

describe('beyond the list', () => {
  it('writes and reads, each reply of the exact length', async () => {
    await using s = await serve();
    expect((await s.client.request(WRITE, access(0x10n, 0, 8, fields(0x11223344, 0x55667788)))).payload).toEqual(access(0x10n, 0, 8));
    expect((await s.client.request(READ, access(0x10n, 0, 8))).payload).toEqual(access(0x10n, 0, 8, fields(0x11223344, 0x55667788)));
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
    device.regions.push(bar(1, { sizeBytes: 16, writable: false }));
    await using s = await serve({ device });
    expect(await s.client.errno(WRITE, access(0n, 1, 4, fields(0)))).toBe(EINVAL);
    expect(await s.client.errno(READ, access(0n, 1, 4))).toBe(0);
  });

  it('a client that cannot read errors is answered with bodies of the success length', async () => {
    await using s = await serve({ version: CH_VERSION });
    const read = await s.client.request(READ, access(0xfffn, 0, 4));
    expect([read.flags, read.errno]).toEqual([REPLY | ERROR, EINVAL]);
    expect(read.payload).toEqual(access(0xfffn, 0, 4, fields(0xffffffff)));
    expect((await s.client.request(WRITE, access(0xfffn, 0, 4, fields(1)))).payload).toEqual(access(0xfffn, 0, 4));
    expect((await s.client.request(DMA_UNMAP, dmaUnmap(0n, PAGE))).payload).toEqual(dmaUnmap(0n, PAGE));
    // A count beyond what is announced allocates nothing.
    expect((await s.client.request(READ, access(0n, 0, 0xffffffff))).size).toBe(32);
  });
});
