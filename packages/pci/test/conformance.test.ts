/**
 * Rules for configuration space that libvfio-user's tests established, row by row; their list is vfio-user-server's. Where that
 * library answers a guest's write with an error, PCI ignores it, and so does this package: a virtual machine monitor could do
 * nothing but print the error.
 */
import { describe, expect, it } from 'vitest';
import {
  ConfigSpace, extendedVendorCapability, msiCapability, msixCapability, pciExpressCapability, PciLayoutError, PciRangeError, powerManagementCapability, PCI_CAP_ID_PM, PCI_CAP_ID_VNDR, rawCapability,
  serialNumberCapability, vendorCapability, type Capability, type ConfigSpaceHooks, type ConfigSpaceLayout,
} from '../src/index.ts';

const layout = (capabilities: readonly Capability[], more: Partial<ConfigSpaceLayout> = {}): ConfigSpaceLayout => ({ sizeBytes: 4096, vendorId: 1, deviceId: 2, classCode: 0, capabilities, ...more });
const space = (capabilities: readonly Capability[], hooks: ConfigSpaceHooks = {}): ConfigSpace => new ConfigSpace(layout(capabilities), hooks);

function bytes(of: ConfigSpace, offset: number, length: number): number[] {
  const into = new Uint8Array(length);
  of.read(offset, into);
  return [...into];
}
const u16 = (of: ConfigSpace, offset: number): number => bytes(of, offset, 2).reduceRight((sum, byte) => sum * 256 + byte, 0);
const u32 = (of: ConfigSpace, offset: number): number => bytes(of, offset, 4).reduceRight((sum, byte) => sum * 256 + byte, 0);
const write = (to: ConfigSpace, offset: number, ...values: readonly number[]): void => { void to.write(offset, Uint8Array.from(values)); };
const payload = (length: number, first = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => first + i);
/** Everything of configuration space before and after. */
function unchangedBy(of: ConfigSpace, change: () => void): void {
  const before = bytes(of, 0, of.sizeBytes);
  change();
  expect(bytes(of, 0, of.sizeBytes)).toEqual(before);
}
/** The list as a guest walks it. */
function walk(of: ConfigSpace): number[] {
  const found: number[] = [];
  for (let at = bytes(of, 0x34, 1)[0]!; at !== 0; at = bytes(of, at + 1, 1)[0]!) found.push(at);
  return found;
}
function walkExtended(of: ConfigSpace): number[] {
  const found: number[] = [];
  for (let at = 0x100; at !== 0; at = u32(of, at) >>> 20) found.push(at);
  return found;
}

describe('capabilities', () => {
  it('P1 a mask that is not as long as its body: PciLayoutError (better: there are no flags, only bits that can be written)', () => {
    expect(() => rawCapability({ id: 0x09, body: new Uint8Array(4), writable: new Uint8Array(3) })).toThrow(PciLayoutError);
  });

  it('P2 a capability needs no callback: without one, writes are stored where they may be (better: none can be forgotten)', () => {
    const s = space([vendorCapability({ payload: payload(2), writable: true })]);
    write(s, 0x43, 9);
    expect(bytes(s, 0x43, 2)).toEqual([9, 2]);
  });

  it('P3 id 0x81: any capability can be described (better: LVU knows five), an id of 9 bits cannot', () => {
    expect(bytes(space([rawCapability({ id: 0x81, body: payload(2) })]), 0x40, 4)).toEqual([0x81, 0, 1, 2]);
    expect(() => rawCapability({ id: 0x181, body: payload(2) })).toThrow(PciLayoutError);
  });

  it('P4 position 256, or one from which it reaches across 256: PciLayoutError', () => {
    for (const offset of [0x100, 0xfc, 0x3c, -4, 0x41]) expect(() => new ConfigSpace(layout([powerManagementCapability({ offset })], { sizeBytes: 256 }))).toThrow(PciLayoutError);
  });

  it('P5 placed behind each other at multiples of 4, or where they are told to be; the list is in order of creation', () => {
    const s = space([
      powerManagementCapability(), vendorCapability({ payload: payload(3) }), vendorCapability({ payload: payload(12), writable: true }), vendorCapability({ payload: payload(10), offset: 0x80 }), vendorCapability({ payload: payload(10), offset: 0x90 }),
    ]);
    expect(walk(s)).toEqual([0x40, 0x48, 0x50, 0x80, 0x90]);
    expect(s.capabilities.map(({ offset }) => offset)).toEqual([0x40, 0x48, 0x50, 0x80, 0x90]);
  });

  it('P6 found by id, the first and the ones after it; none is undefined (better: no error number to mistake)', () => {
    const s = space([powerManagementCapability(), vendorCapability({ payload: payload(3) }), vendorCapability({ payload: payload(3) })]);
    expect([s.capabilityOffset(PCI_CAP_ID_PM), s.capabilityOffset(PCI_CAP_ID_VNDR), s.capabilityOffset(0x10), s.capabilityOffset(PCI_CAP_ID_VNDR, true)]).toEqual([0x40, 0x48, undefined, undefined]);
    expect(s.capabilities.filter(({ id }) => id === PCI_CAP_ID_VNDR).map(({ offset }) => offset)).toEqual([0x48, 0x50]);
  });

  it('P7 a header is not written (better: ignored, not an error)', () => {
    const s = space([powerManagementCapability(), vendorCapability({ payload: payload(3), writable: true })]);
    unchangedBy(s, () => { for (const offset of [0x40, 0x41, 0x48, 0x49, 0x4a]) write(s, offset, 0xff); });
  });

  it('P8 read-only vendor bytes are read, not written', () => {
    const s = space([vendorCapability({ payload: payload(5) })]);
    unchangedBy(s, () => { write(s, 0x40, ...Array<number>(8).fill(0xff)); });
    expect(bytes(s, 0x43, 5)).toEqual([1, 2, 3, 4, 5]);
  });

  it('P9 the device hears of writes into its capabilities, each once, and can change what is read', () => {
    const heard: unknown[] = [];
    const s: ConfigSpace = space([powerManagementCapability(), vendorCapability({ payload: payload(5), writable: true })], { onCapability: (capability, offset, length) => { heard.push([capability.id, offset, length]); } });
    write(s, 0x4c, 0xaa, 0xbb);
    expect([heard, bytes(s, 0x4b, 5)]).toEqual([[[PCI_CAP_ID_VNDR, 4, 2]], [1, 0xaa, 0xbb, 4, 5]]);
    s.set(0x4b, Uint8Array.of(7));
    expect(bytes(s, 0x4b, 1)).toEqual([7]);
  });

  it('P10 power management: only the state bits of PMCSR change, whatever width and offset a write has (better: never an error)', () => {
    const s = space([powerManagementCapability()]);
    unchangedBy(s, () => {
      write(s, 0x42, 0xff);
      write(s, 0x42, 0xff, 0xff);
      write(s, 0x45, 0xff, 0xff);
      write(s, 0x46, 0xff);
      write(s, 0x47, 0xff);
    });
    write(s, 0x43, 0xff, 0xff);
    expect(u16(s, 0x44)).toBe(0x000b);
    write(s, 0x44, 0, 0);
    expect(u16(s, 0x44)).toBe(0x0008);
  });

  it('P11 Initiate-FLR where FLR is announced: once', () => {
    let resets = 0;
    const s = space([pciExpressCapability({ flr: true })], { onFlr: () => { resets++; } });
    write(s, 0x48, 0x00, 0x80);
    expect([resets, u16(s, 0x48) & 0x8000]).toEqual([1, 0]);
  });

  it('P12 Device Control at other offsets and widths: the bits they touch, no more (better: never an error)', () => {
    let resets = 0;
    const s = space([pciExpressCapability({ flr: true })], { onFlr: () => { resets++; } });
    unchangedBy(s, () => { write(s, 0x47, 0xff); });
    write(s, 0x48, 0x1f);
    expect(u16(s, 0x48)).toBe(0x281f);
    write(s, 0x49, 0x80, 0x00);
    write(s, 0x47, 0, 0x1f, 0x80);
    write(s, 0x48, 0, 0x80, 0);
    expect(resets).toBe(3);
  });

  it('P13 MSI: Multiple Message Capable is read-only, Enable never above it (better: cut down, not an error)', () => {
    const s = space([msiCapability({ vectors: 8 })]);
    const capable = 3 << 1;
    write(s, 0x42, 0xff, 0xff);
    expect(u16(s, 0x42)).toBe(0x0180 | capable | (3 << 4) | 1);
    write(s, 0x42, (2 << 4) | 1, 0);
    expect(s.msi).toMatchObject({ enabled: true, vectors: 4 });
    write(s, 0x42, ...Array<number>(22).fill(0));
    expect([u16(s, 0x42), s.msi!.enabled]).toEqual([0x0180 | capable, false]);
  });

  it('P14 MSI-X: Enable and Function Mask change, nothing else, also by two bytes at control + 1', () => {
    const s = space([msixCapability({ vectors: 1024, table: { bar: 0, offset: 0x40 }, pba: { bar: 0, offset: 0x8000 } })]);
    write(s, 0x42, 0xff, 0xff);
    expect(u16(s, 0x42)).toBe(0xc000 | 1023);
    write(s, 0x42, 0, 0);
    expect(u16(s, 0x42)).toBe(1023);
    write(s, 0x43, 0x80, 0xff);
    write(s, 0x44, 0xff);
    expect([u16(s, 0x42), u32(s, 0x44), u32(s, 0x48)]).toEqual([0x8000 | 1023, 0x40, 0x8000]);
  });

  it('P15 Device Control 2 and Link Control 2: stored', () => {
    const s = space([pciExpressCapability({ flr: true })]);
    write(s, 0x68, 0x0f, 0);
    write(s, 0x70, 0x02, 0);
    expect([u16(s, 0x68), u16(s, 0x70)]).toEqual([0x000f, 0x0002]);
  });
});

describe('extended capabilities', () => {
  it('P16 in conventional configuration space: PciLayoutError', () => {
    expect(() => new ConfigSpace(layout([serialNumberCapability({ serial: 1n })], { sizeBytes: 256 }))).toThrow(PciLayoutError);
  });

  it('P17 an id that nobody knows can be described (better: LVU knows two), one of 17 bits cannot', () => {
    expect(u32(space([rawCapability({ id: 0xabcd, extendedVersion: 2, body: payload(4) })]), 0x100)).toBe(0x0002abcd);
    expect(() => rawCapability({ id: 0x1abcd, extendedVersion: 1, body: payload(4) })).toThrow(PciLayoutError);
  });

  it('P18 beyond the end, or the first not at 0x100: PciLayoutError', () => {
    expect(() => space([serialNumberCapability({ serial: 1n }), serialNumberCapability({ serial: 1n, offset: 0xff8 })])).toThrow(PciLayoutError);
    expect(() => space([serialNumberCapability({ serial: 1n, offset: 0x200 })])).toThrow(PciLayoutError);
  });

  const vsec = (length: number, offset?: number, writable = false): Capability => extendedVendorCapability({ vsecId: 1, vsecRevision: 1, payload: payload(length), writable, ...(offset === undefined ? {} : { offset }) });

  it('P19 a serial number and four of vendors: placed and linked', () => {
    const s = space([serialNumberCapability({ serial: 0xcafebabedeadbeefn }), vsec(5), vsec(5), vsec(5, 512), vsec(5, 600)]);
    expect(walkExtended(s)).toEqual([0x100, 0x10c, 0x11c, 0x200, 0x258]);
    expect([u32(s, 0x104), u32(s, 0x108)]).toEqual([0xdeadbeef, 0xcafebabe]);
  });

  it('P20 headers and the serial number are not written (better: ignored), vendor bytes where they may be', () => {
    const s = space([serialNumberCapability({ serial: 1n }), vsec(4), vsec(4, undefined, true)]);
    unchangedBy(s, () => {
      write(s, 0x100, ...Array<number>(12 + 12 + 8).fill(0xff));
      write(s, 0x11b, 1);
    });
    write(s, 0x11c, 0xff, 0xff, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee);
    write(s, 0x120, 9, 8, 7, 6);
    expect(bytes(s, 0x120, 4)).toEqual([9, 8, 7, 6]);
  });

  it('P21 an extended capability is not found as an ordinary one; accesses beyond the end are PciRangeError', () => {
    const s = space([serialNumberCapability({ serial: 1n })]);
    expect([s.capabilityOffset(3, true), s.capabilityOffset(3), s.capabilityOffset(11, true)]).toEqual([0x100, undefined, undefined]);
    for (const offset of [8192, 4096, 4093]) expect(() => { s.read(offset, new Uint8Array(4)); }).toThrow(PciRangeError);
  });
});

describe('the header', () => {
  it('P22 the same layout twice gives two spaces that share nothing (better: there is no half-made one to run)', () => {
    const same = layout([vendorCapability({ payload: payload(2), writable: true })]);
    const [a, b] = [new ConfigSpace(same), new ConfigSpace(same)];
    write(a, 0x43, 0xff);
    expect([bytes(a, 0x43, 1), bytes(b, 0x43, 1)]).toEqual([[0xff], [1]]);
  });

  it('P23 type bits: I/O 1, memory 0, 64-bit 4, 64-bit prefetchable 0xc', () => {
    const s = new ConfigSpace(layout([], { bars: [{ index: 0, kind: 'io', sizeBytes: 256 }, { index: 1, kind: 'memory32', sizeBytes: 4096 }, { index: 2, kind: 'memory64', sizeBytes: 4096 }, { index: 4, kind: 'memory64', sizeBytes: 4096, prefetchable: true }] }));
    expect([0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => u32(s, at))).toEqual([1, 0, 4, 0, 0xc, 0]);
  });

  it('P24 INTx: pin 1', () => { expect(bytes(new ConfigSpace(layout([], { interruptPin: 1 })), 0x3d, 1)).toEqual([1]); });

  it('P25 any capability: the bit in STATUS; none: no bit', () => {
    expect([u16(space([powerManagementCapability()]), 6), u16(space([]), 6), u16(space([serialNumberCapability({ serial: 1n })]), 6)]).toEqual([0x0010, 0, 0]);
  });
});
