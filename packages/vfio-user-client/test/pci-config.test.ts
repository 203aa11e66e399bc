/** A configuration space read through its window. */
import { describe, expect, test } from 'vitest';
import { PciConfig } from '../src/index.ts';
import type { ConfigAccess } from '../src/index.ts';

/** Bytes with BARs that answer sizing; `bars` are masks by offset. Remembers what was written. */
class Space implements ConfigAccess {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly masks = new Map<number, number>();
  readonly written: [number, number][] = [];
  /** Command register at the time a BAR held all ones. */
  readonly decodedWhileSizing: number[] = [];
  failReadAt = -1;

  constructor(sizeBytes = 256) {
    this.bytes = new Uint8Array(sizeBytes);
    this.view = new DataView(this.bytes.buffer);
    this.view.setUint32(0, 0x1889_8086, true);
    this.view.setUint16(4, 7, true);
  }

  get sizeBytes(): number { return this.bytes.length; }

  bar(index: number, mask: number, value: number): void {
    this.masks.set(0x10 + 4 * index, mask >>> 0);
    this.view.setUint32(0x10 + 4 * index, value >>> 0, true);
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    if (offset === this.failReadAt && this.written.some(([at]) => at === offset)) return Promise.reject(new Error('gone'));
    return Promise.resolve(this.bytes.slice(offset, offset + length));
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    const value = Buffer.from(bytes).readUIntLE(0, bytes.length);
    this.written.push([offset, value]);
    const mask = this.masks.get(offset);
    if (offset === 4) this.bytes.set(bytes, offset);
    else if (mask !== undefined) {
      if (value >= 0xffff_f800) this.decodedWhileSizing.push(this.view.getUint16(4, true) & 3);
      // Writable bits from the value, the rest as it is.
      this.view.setUint32(offset, ((value & mask) | (this.view.getUint32(offset, true) & ~mask)) >>> 0, true);
    }
    return Promise.resolve();
  }
}

test('the header', async () => {
  const space = new Space();
  space.bytes.set([0x10, 0, 0x01, 0, 0, 0x02, 0, 0, 0x80], 6);
  space.bytes.set([0x86, 0x80, 0x34, 0x12], 0x2c);
  space.bytes.set([11, 1], 0x3c);
  expect(await new PciConfig(space).header()).toEqual({
    vendorId: 0x8086, deviceId: 0x1889, command: 7, status: 0x10, revision: 1, classCode: 0x02_0000, type: 0, multifunction: true,
    subsystemVendorId: 0x8086, subsystemId: 0x1234, interruptLine: 11, interruptPin: 1,
  });
});

test('nobody answers, or not enough', async () => {
  const space = new Space();
  space.bytes.fill(0xff);
  await expect(new PciConfig(space).header()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_SHORT' });
  await expect(new PciConfig(new Space(32)).header()).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_SHORT' });
});

describe('BAR sizing', () => {
  test('of every kind, with everything as it was afterwards', async () => {
    const space = new Space();
    space.bar(0, 0xffff_0000, 0xe000_0000); // 64 KiB, 32 bits
    space.bar(1, 0x0000_ffe0, 0x0000_c001); // 32 bytes of I/O, upper half not implemented
    space.bar(2, 0x0000_0000, 0x0000_000c); // 8 GiB, 64 bits, prefetchable: the low half has no writable bit
    space.bar(3, 0xffff_fffe, 0x0000_0040);
    space.bar(4, 0xffff_f000, 0xd000_0004); // 4 KiB, 64 bits, above 4 GiB
    space.bar(5, 0xffff_ffff, 0x0000_0012);
    space.masks.set(0x30, 0xffff_8000); // 32 KiB ROM, disabled
    const image = space.bytes.slice();
    expect(await new PciConfig(space).bars()).toEqual([
      { index: 0, kind: 'memory32', prefetchable: false, address: 0xe000_0000n, sizeBytes: 0x1_0000n },
      { index: 1, kind: 'io', prefetchable: false, address: 0xc000n, sizeBytes: 32n },
      { index: 2, kind: 'memory64', prefetchable: true, address: 0x40_0000_0000n, sizeBytes: 0x2_0000_0000n },
      { index: 4, kind: 'memory64', prefetchable: false, address: 0x12_d000_0000n, sizeBytes: 4096n },
      { index: 6, kind: 'rom', prefetchable: false, address: 0n, sizeBytes: 32_768n },
    ]);
    expect(space.bytes).toEqual(image);
    expect(new Set(space.decodedWhileSizing), 'no address is decoded while it is nonsense').toEqual(new Set([0]));
    expect(space.written.every(([offset, value]) => offset !== 0x30 || (value & 1) === 0), 'the ROM is never enabled').toBe(true);
  });

  test('an I/O bit alone is no BAR: libvfio-user\'s servers set it in every register that they leave unused', async () => {
    const space = new Space();
    for (let bar = 0; bar < 6; bar++) space.bar(bar, 0, 1);
    expect(await new PciConfig(space).bars()).toEqual([]);
  });

  test('a bridge has two BARs, and its ROM elsewhere', async () => {
    const space = new Space();
    space.bytes[0x0e] = 1;
    space.bar(0, 0xffff_f000, 0);
    space.bar(2, 0xffff_f000, 0); // bus numbers there
    space.masks.set(0x38, 0xffff_f800);
    expect((await new PciConfig(space).bars()).map((bar) => [bar.index, bar.sizeBytes])).toEqual([[0, 4096n], [6, 2048n]]);
  });

  test('restores what it changed when the device fails in between', async () => {
    const space = new Space();
    space.bar(0, 0xffff_0000, 0xe000_0000);
    const image = space.bytes.slice();
    space.failReadAt = 0x10;
    await expect(new PciConfig(space).bars()).rejects.toThrow('gone');
    expect(space.bytes).toEqual(image);
  });
});

describe('capabilities', () => {
  const chain = (...elements: [at: number, id: number, next: number][]): PciConfig => {
    const space = new Space();
    space.bytes[6] = 0x10;
    space.bytes[0x34] = elements[0]?.[0] ?? 0;
    for (const [at, id, next] of elements) space.bytes.set([id, next], at & ~3);
    return new PciConfig(space);
  };

  test('in the order of the list; the two low bits of a pointer mean nothing', async () => {
    const config = chain([0x43, 0x01, 0x62], [0x60, 0x11, 0x50], [0x50, 0x10, 0]);
    expect(await config.capabilities()).toEqual([{ id: 1, offset: 0x40, version: 0 }, { id: 0x11, offset: 0x60, version: 0 }, { id: 0x10, offset: 0x50, version: 0 }]);
    expect(await config.findCapability(0x11)).toMatchObject({ offset: 0x60 });
    expect(await config.findCapability(0x05)).toBeUndefined();
  });

  test.each<[string, PciConfig, number]>([
    ['a loop', chain([0x40, 1, 0x50], [0x50, 2, 0x40]), 2],
    ['a loop of one', chain([0x40, 1, 0x40]), 1],
    ['a pointer into the header', chain([0x40, 1, 0x10]), 1],
    ['nothing there', chain([0x40, 0xff, 0xff]), 0],
    ['no list', new PciConfig(new Space()), 0],
  ])('%s ends the walk', async (_, config, count) => {
    expect(await config.capabilities()).toHaveLength(count);
  });

  test('extended ones', async () => {
    const space = new Space(4096);
    space.view.setUint32(0x100, (0x150 << 20) | (2 << 16) | 0x0001, true);
    space.view.setUint32(0x150, (0x100 << 20) | (1 << 16) | 0x0003, true);
    const config = new PciConfig(space);
    expect(await config.extendedCapabilities(), 'and a loop ends').toEqual([{ id: 1, offset: 0x100, version: 2 }, { id: 3, offset: 0x150, version: 1 }]);
    expect(await config.findExtendedCapability(3)).toMatchObject({ offset: 0x150 });
    space.view.setUint32(0x150, (0x0fc << 20) | (1 << 16) | 0x0003, true);
    expect(await config.extendedCapabilities(), 'and a pointer below 0x100').toHaveLength(2);
    expect(await new PciConfig(new Space(4096)).extendedCapabilities()).toEqual([]);
    expect(await new PciConfig(new Space(256)).extendedCapabilities()).toEqual([]);
  });

  test('as many as fit, whatever the list says', async () => {
    const space = new Space(4096);
    for (let at = 0x100; at < 4096; at += 4) space.view.setUint32(at, ((at + 4) << 20) | 0x1_000b, true);
    expect(await new PciConfig(space).extendedCapabilities()).toHaveLength(960);
  });
});
