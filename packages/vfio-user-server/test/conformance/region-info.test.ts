import { linux } from '@emudev/linux';
import type { Bar, RegionDescription } from '@emudev/pci';
import { expect } from 'vitest';
import { FakeDevice, memfd } from '../fixture.ts';
import { concat, fields, u32, type RawClient } from '../raw-client.ts';
import { access, EINVAL, READ, REGION_INFO, regionInfo, WRITE } from '../requests.ts';
import { ConfigDevice } from './devices.ts';
import { conformance, type Row } from './suite.ts';

const [BAR2, BAR3, CONFIG] = [2, 3, 7];

/** BAR1 of 0x8000 bytes with mappable areas, its file at 0x8000. */
function sparse(own: (fd: number) => number, areas: NonNullable<RegionDescription['mmap']>['areas']): FakeDevice {
  const device = new FakeDevice();
  device.regions.push({ index: 1, sizeBytes: 0x8000, readable: true, writable: true, mmap: { areas, backing: { fd: own(memfd(0x10000, 'bar')), offset: 0x8000 } } });
  return device;
}
const TWO_AREAS = [{ offset: 0x2000, sizeBytes: 0x1000 }, { offset: 0x4000, sizeBytes: 0x2000 }];

/** Writes all ones, reads, restores, as every consumer sizes BARs: the masks of the six registers. */
async function sizeBars(client: RawClient): Promise<number[]> {
  const masks: number[] = [];
  for (let bar = 0; bar < 6; bar++) {
    const at = BigInt(0x10 + 4 * bar);
    const before = (await client.request(READ, access(at, CONFIG, 4))).payload.slice(16);
    expect(await client.errno(WRITE, access(at, CONFIG, 4, fields(0xffffffff)))).toBe(0);
    masks.push(u32((await client.request(READ, access(at, CONFIG, 4))).payload, 16));
    expect(await client.errno(WRITE, access(at, CONFIG, 4, before))).toBe(0);
    expect((await client.request(READ, access(at, CONFIG, 4))).payload.slice(16)).toEqual(before);
  }
  return masks;
}
const sizing = (title: string, bars: readonly Bar[], expected: readonly number[]): Row => ({
  title,
  given: () => ({ device: new ConfigDevice({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0, bars }) }),
  run: async ({ client }) => { expect(await sizeBars(client)).toEqual(expected); },
});
const GIB = 2 ** 30;

conformance('region-info', {
  R1: { title: 'a payload of 8 bytes: EINVAL', exchanges: [{ send: [REGION_INFO, new Uint8Array(8)], reply: EINVAL }] },
  R2: { title: 'argsz 8: EINVAL', exchanges: [{ send: [REGION_INFO, fields(8, 0, 0, 0, 0n, 0n)], reply: EINVAL }] },
  R3: { title: 'index 9: EINVAL', exchanges: [{ send: [REGION_INFO, regionInfo(9, 32)], reply: EINVAL }] },
  R4: { title: 'a BAR without mappable areas, argsz 40: exactly 32 bytes, READ and WRITE', exchanges: [{ send: [REGION_INFO, regionInfo(0, 40)], reply: fields(32, 3, 0, 0, 0x1000n, 0n) }] },
  R5: {
    title: 'a BAR with two areas, argsz 32: the length needed, MMAP but no capabilities, and no descriptor',
    given: (own) => ({ device: sparse(own, TWO_AREAS) }),
    exchanges: [{ send: [REGION_INFO, regionInfo(1, 32)], reply: fields(80, 7, 1, 0, 0x8000n, 0x8000n) }, { send: [REGION_INFO, regionInfo(1, 79)], reply: fields(80, 7, 1, 0, 0x8000n, 0x8000n) }],
  },
  R6: {
    title: 'the same, argsz 80: both areas and exactly one descriptor, the file itself',
    given: (own) => ({ device: sparse(own, TWO_AREAS) }),
    run: async ({ client, device, own }) => {
      const full = await client.request(REGION_INFO, regionInfo(1, 80));
      expect(full.payload).toEqual(concat(fields(80, 15, 1, 32, 0x8000n, 0x8000n), fields(0x00010001, 0, 2, 0, 0x2000n, 0x1000n, 0x4000n, 0x2000n)));
      expect(full.fds).toHaveLength(1);
      expect(linux.fstat(own(full.fds[0]!)).ino).toBe(linux.fstat(device.regions.at(-1)!.mmap!.backing.fd).ino);
    },
  },
  R7: { title: 'configuration space of PCI Express: 4096 bytes', exchanges: [{ send: [REGION_INFO, regionInfo(CONFIG, 32)], reply: fields(32, 3, CONFIG, 0, 4096n, 0n) }] },
  R8: {
    title: 'conventional configuration space: 256 bytes',
    given: () => ({ device: new ConfigDevice({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0 }) }),
    exchanges: [{ send: [REGION_INFO, regionInfo(CONFIG, 32)], reply: fields(32, 3, CONFIG, 0, 256n, 0n) }],
  },
  R9: { title: 'an absent region: 32 bytes, size 0, no flags', exchanges: [{ send: [REGION_INFO, regionInfo(5, 32)], reply: fields(32, 0, 5, 0, 0n, 0n) }] },
  R10: sizing('32-bit BARs of 4, 8 and 16 KiB are sized through configuration space (better: absent ones read zero, not the I/O bit)', [
    { index: 0, kind: 'memory32', sizeBytes: 4096 }, { index: 2, kind: 'memory32', sizeBytes: 8192 }, { index: 5, kind: 'memory32', sizeBytes: 16384 },
  ], [0xfffff000, 0, 0xffffe000, 0, 0, 0xffffc000]),
  R11: sizing('64-bit BARs of 4, 8 and 16 GiB are sized from both halves', [
    { index: 0, kind: 'memory64', sizeBytes: 4 * GIB }, { index: 2, kind: 'memory64', sizeBytes: 8 * GIB }, { index: 4, kind: 'memory64', sizeBytes: 16 * GIB },
  ], [4, 0xffffffff, 4, 0xfffffffe, 4, 0xfffffffc]),
  R12: {
    title: 'nine areas in a BAR: all of them',
    given: (own) => ({ device: sparse(own, Array.from({ length: 7 }, (_, i) => ({ offset: i * 0x1000, sizeBytes: 0x800 })).concat([{ offset: 0x7000, sizeBytes: 0x400 }, { offset: 0x7800, sizeBytes: 0x800 }])) }),
    run: async ({ client, own }) => {
      const full = await client.request(REGION_INFO, regionInfo(1, 4096));
      expect([full.payload.length, u32(full.payload, 0), u32(full.payload, 40), full.fds.map(own).length]).toEqual([192, 192, 9, 1]);
      expect(full.payload.slice(176)).toEqual(fields(0x7800n, 0x800n));
    },
  },
  R13: {
    title: '64-bit BARs: the whole size at the lower index, size 0 at the upper',
    exchanges: [{ send: [REGION_INFO, regionInfo(BAR2, 32)], reply: fields(32, 3, BAR2, 0, 1n << 33n, 0n) }, { send: [REGION_INFO, regionInfo(BAR3, 32)], reply: fields(32, 0, BAR3, 0, 0n, 0n) }],
  },
});
