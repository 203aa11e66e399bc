import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ConfigSpace, msixCapability, pciExpressCapability, PciLayoutError, PciRangeError, powerManagementCapability, PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX, serialNumberCapability, vendorCapability,
  type Bar, type ConfigSpaceHooks, type ConfigSpaceLayout,
} from '../src/index.ts';

/** The card this package was made for: ids, BARs and capabilities of an Intel adaptive virtual function. */
const NIC: ConfigSpaceLayout = {
  sizeBytes: 4096, vendorId: 0x8086, deviceId: 0x1889, subsystemVendorId: 0x8086, revision: 2, classCode: 0x020000,
  bars: [{ index: 0, kind: 'memory64', sizeBytes: 0x10000, prefetchable: true }, { index: 3, kind: 'memory64', sizeBytes: 0x4000, prefetchable: true }],
  capabilities: [
    msixCapability({ vectors: 17, table: { bar: 3, offset: 0 }, pba: { bar: 3, offset: 0x1000 }, offset: 0x70 }),
    pciExpressCapability({ flr: true, offset: 0xa0 }),
  ],
};

function read(space: ConfigSpace, offset: number, bytes: 1 | 2 | 4): number {
  const into = new Uint8Array(4);
  space.read(offset, into.subarray(0, bytes));
  return new DataView(into.buffer).getUint32(0, true);
}
function write(space: ConfigSpace, offset: number, bytes: 1 | 2 | 4, value: number): void | Promise<void> {
  const from = new Uint8Array(4);
  new DataView(from.buffer).setUint32(0, value, true);
  return space.write(offset, from.subarray(0, bytes));
}
function all(space: ConfigSpace): Uint8Array {
  const bytes = new Uint8Array(space.sizeBytes);
  space.read(0, bytes);
  return bytes;
}

describe('a network card at power-on', () => {
  it.each([
    [0x00, 0x18898086], [0x04, 0x00100000], [0x08, 0x02000002], [0x0c, 0], [0x10, 0x0c], [0x14, 0], [0x18, 0], [0x1c, 0x0c], [0x20, 0], [0x24, 0],
    [0x2c, 0x00008086], [0x34, 0x70], [0x3c, 0], [0x70, (16 << 16) | 0xa011], [0x74, 3], [0x78, 0x1003], [0xa0, 0x00020010], [0xa4, 0x10008000], [0x100, 0],
  ])('dword 0x%s', (offset, value) => {
    expect(read(new ConfigSpace(NIC), offset, 4)).toBe(value);
  });
});

describe('writes', () => {
  it('ignore identity and capability headers, whatever the width', () => {
    const space = new ConfigSpace(NIC);
    const before = all(space);
    for (const offset of [0x00, 0x08, 0x2c, 0x34, 0x74, 0x78, 0xa4]) void write(space, offset, 4, 0xffffffff);
    void write(space, 0x70, 2, 0xffff);
    void write(space, 0x3d, 1, 0xff);
    expect(all(space)).toEqual(before);
  });

  it('report bus master and memory enable once per change', () => {
    const seen: string[] = [];
    const space = new ConfigSpace(NIC, { onCommand: (c) => seen.push(`${c.memory ? 'M' : '-'}${c.busMaster ? 'B' : '-'}`) });
    void write(space, 0x04, 2, 0x0006);
    void write(space, 0x04, 2, 0x0006);
    void write(space, 0x04, 1, 0x02);
    void write(space, 0x04, 4, 0xffffffff);
    expect(seen).toEqual(['MB', 'M-', 'MB']);
    // Only the bits that mean something stick: no I/O enable without an I/O BAR.
    expect(read(space, 0x04, 2)).toBe(0x0546);
  });

  it('change enable and mask of MSI-X only, also one byte at the odd offset', () => {
    const seen: unknown[] = [];
    const space = new ConfigSpace(NIC, { onMsix: (c) => seen.push(c) });
    void write(space, 0x72, 2, 0xffff);
    expect(read(space, 0x72, 2)).toBe(0xc010);
    void write(space, 0x72, 2, 0);
    expect(read(space, 0x72, 2)).toBe(0x0010);
    // Two bytes at control + 1 reach into the table register, which stays.
    void write(space, 0x73, 2, 0xff80);
    expect(read(space, 0x72, 2)).toBe(0x8010);
    expect(read(space, 0x74, 4)).toBe(3);
    expect(seen).toEqual([{ enabled: true, masked: true }, { enabled: false, masked: false }, { enabled: true, masked: false }]);
  });

  it('start a function level reset from 2-byte, 4-byte and upper-byte writes, and the bit reads as zero', () => {
    let flr = 0;
    const space = new ConfigSpace(NIC, { onFlr: () => { flr++; } });
    void write(space, 0xa8, 2, 0x8000);
    void write(space, 0xa8, 4, 0x0000a810);
    void write(space, 0xa9, 1, 0x80);
    expect(flr).toBe(3);
    expect(read(space, 0xa8, 2) & 0x8000).toBe(0);
    void write(space, 0xa8, 2, 0x2810);
    void write(space, 0xa7, 1, 0x80);
    expect(flr).toBe(3);
  });

  it('hand back what the reset hook returns, so that a transport can await it', async () => {
    let done = false;
    const space = new ConfigSpace(NIC, { onFlr: async () => { await Promise.resolve(); done = true; } });
    await write(space, 0xa8, 2, 0x8000);
    expect(done).toBe(true);
  });

  it('ignore Initiate-FLR where FLR is not announced', () => {
    let flr = 0;
    const space = new ConfigSpace({ ...NIC, capabilities: [pciExpressCapability({ flr: false, offset: 0xa0 })] }, { onFlr: () => { flr++; } });
    void write(space, 0xa8, 2, 0x8000);
    expect(flr).toBe(0);
  });

  it('clear status error bits with a one and leave the others', () => {
    const space = new ConfigSpace(NIC);
    space.set(0x06, Uint8Array.of(0x10, 0x31));
    void write(space, 0x06, 2, 0x2000);
    expect(read(space, 0x06, 2)).toBe(0x1110);
    void write(space, 0x06, 2, 0xffff);
    expect(read(space, 0x06, 2)).toBe(0x0010);
  });

  it('store DevCtl2 and LnkCtl2, and are undone by reset', () => {
    const space = new ConfigSpace(NIC);
    const powerOn = all(space);
    void write(space, 0xa0 + 0x28, 2, 0x0012);
    void write(space, 0xa0 + 0x30, 2, 0x0001);
    void write(space, 0x3c, 1, 11);
    expect([read(space, 0xc8, 2), read(space, 0xd0, 2), read(space, 0x3c, 1)]).toEqual([0x12, 1, 11]);
    space.reset();
    expect(all(space)).toEqual(powerOn);
  });

  it('outside the space are a typed error, not a silent wrap', () => {
    const space = new ConfigSpace(NIC);
    expect(() => space.write(4094, new Uint8Array(4))).toThrow(PciRangeError);
    expect(() => space.read(-1, new Uint8Array(1))).toThrow(PciRangeError);
    space.read(4096, new Uint8Array(0));
  });
});

describe('BAR sizing', () => {
  const powers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i));
  const sizes = { io: powers(2, 8), memory32: powers(4, 31), memory64: [...powers(4, 40), 2 ** 52] };
  const cases = Object.entries(sizes).flatMap(([kind, list]) => list.map((sizeBytes) => ({ kind: kind as Bar['kind'], sizeBytes })));

  it.each(cases)('finds $sizeBytes bytes of a $kind BAR the way Linux and Cloud Hypervisor do', ({ kind, sizeBytes }) => {
    const space = new ConfigSpace({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0, bars: [{ index: 2, kind, sizeBytes }] });
    const type = read(space, 0x18, 4);
    void write(space, 0x18, 4, 0xffffffff);
    const low = read(space, 0x18, 4);
    let mask = BigInt(low) & (kind === 'io' ? ~3n : ~15n);
    if (kind === 'memory64') {
      void write(space, 0x1c, 4, 0xffffffff);
      mask |= BigInt(read(space, 0x1c, 4)) << 32n;
      expect(BigInt.asUintN(64, -mask)).toBe(BigInt(sizeBytes));
    } else {
      expect(BigInt.asUintN(32, -mask)).toBe(BigInt(sizeBytes));
      expect(read(space, 0x1c, 4)).toBe(0);
    }
    expect(low & 0xf & type).toBe(type);
  });

  it('reads zero for absent BARs and ROM, and the address that was programmed', () => {
    const space = new ConfigSpace(NIC);
    for (const absent of [0x18, 0x24, 0x30]) {
      void write(space, absent, 4, 0xffffffff);
      expect(read(space, absent, 4)).toBe(0);
    }
    void write(space, 0x10, 4, 0xfe125000);
    void write(space, 0x14, 4, 0x00000012);
    expect(space.barAddress(0, 'memory64')).toBe(0x12_fe12_0000n);
  });
});

describe('layout', () => {
  const base: ConfigSpaceLayout = { sizeBytes: 4096, vendorId: 1, deviceId: 2, classCode: 0 };

  it('places automatically behind the one before, rounded to 4, and links in list order', () => {
    const space = new ConfigSpace({ ...base, capabilities: [
      powerManagementCapability(), vendorCapability({ payload: new Uint8Array(3) }), vendorCapability({ payload: new Uint8Array(12) }),
      vendorCapability({ payload: new Uint8Array(1), offset: 0x90 }), vendorCapability({ payload: new Uint8Array(1), offset: 0x80 }),
      serialNumberCapability({ serial: 0x1122334455667788n }), { ...serialNumberCapability({ serial: 0n }), id: 0x000b, offset: 0x400 },
    ] });
    const walk: number[] = [];
    for (let at = read(space, 0x34, 1); at !== 0; at = read(space, at + 1, 1)) walk.push(at);
    expect(walk).toEqual([0x40, 0x48, 0x50, 0x90, 0x80]);
    expect(read(space, 0x100, 4)).toBe(0x40010003);
    expect(read(space, 0x104, 4)).toBe(0x55667788);
    expect(read(space, 0x400, 4)).toBe(0x0001000b);
  });

  it('stores into a writable vendor capability, never into its header', () => {
    const space = new ConfigSpace({ ...base, capabilities: [vendorCapability({ payload: Uint8Array.of(7, 7), writable: true })] });
    space.write(0x40, new Uint8Array(5).fill(0xee));
    const seen = new Uint8Array(5);
    space.read(0x40, seen);
    expect([...seen]).toEqual([0x09, 0, 5, 0xee, 0xee]);
  });

  it.each<[string, Partial<ConfigSpaceLayout>]>([
    ['overlapping capabilities', { capabilities: [powerManagementCapability({ offset: 0x40 }), pciExpressCapability({ flr: true, offset: 0x44 })] }],
    ['a capability inside the header', { capabilities: [powerManagementCapability({ offset: 0x3c })] }],
    ['a capability across the end', { capabilities: [powerManagementCapability({ offset: 0xfc })] }],
    ['an extended capability in 256 bytes', { sizeBytes: 256, capabilities: [serialNumberCapability({ serial: 0n })] }],
    ['a first extended capability not at 0x100', { capabilities: [serialNumberCapability({ serial: 0n, offset: 0x200 })] }],
    ['a size that is no power of two', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 0x3000 }] }],
    ['a memory BAR below 16 bytes', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 8 }] }],
    ['a 4 GiB 32-bit BAR', { bars: [{ index: 0, kind: 'memory32', sizeBytes: 2 ** 32 }] }],
    ['a 64-bit BAR at index 5', { bars: [{ index: 5, kind: 'memory64', sizeBytes: 16 }] }],
    ['a BAR in the upper half of a 64-bit one', { bars: [{ index: 0, kind: 'memory64', sizeBytes: 16 }, { index: 1, kind: 'memory32', sizeBytes: 16 }] }],
    ['an interrupt pin 5', { interruptPin: 5 }],
    ['a vendor id of 17 bits', { vendorId: 0x10000 }],
  ])('refuses %s', (_name, part) => {
    expect(() => new ConfigSpace({ ...base, ...part })).toThrow(PciLayoutError);
  });

  it('refuses MSI-X descriptions that the registers cannot express', () => {
    const place = { bar: 3, offset: 0 };
    expect(() => msixCapability({ vectors: 2049, table: place, pba: place })).toThrow(PciLayoutError);
    expect(() => msixCapability({ vectors: 2, table: { bar: 3, offset: 4 }, pba: place })).toThrow(PciLayoutError);
  });

  it('lays raw power-on bytes over everything, read-only, and only inside the space', () => {
    const bytes = Uint8Array.of(0xee, 0xff);
    const space = new ConfigSpace({ ...NIC, rawPowerOn: [{ offset: 0x03, bytes }, { offset: 0x10, bytes }] });
    void write(space, 0x10, 4, 0xffffffff);
    expect([read(space, 0x00, 4), read(space, 0x04, 1), read(space, 0x10, 4)]).toEqual([0xee898086, 0xff, 0xffffffee]);
    expect(read(space, 0x10, 2)).toBe(0xffee);
    for (const offset of [-1, 4095, 0.5]) expect(() => new ConfigSpace({ ...NIC, rawPowerOn: [{ offset, bytes }] })).toThrow(PciLayoutError);
  });

  it('says where a capability went', () => {
    const space = new ConfigSpace(NIC);
    expect([space.capabilityOffset(PCI_CAP_ID_MSIX), space.capabilityOffset(PCI_CAP_ID_EXP), space.capabilityOffset(1)]).toEqual([0x70, 0xa0, undefined]);
  });
});

describe('any sequence of accesses', () => {
  const access = fc.record({ offset: fc.integer({ min: 0, max: 4095 }), data: fc.uint8Array({ minLength: 1, maxLength: 64 }) })
    .filter(({ offset, data }) => offset + data.length <= 4096);

  it('never changes a bit that all-ones and all-zeroes together cannot change', () => {
    // The oracle knows no masks: a bit is writable if writing it alone toggles it.
    const free = new Uint8Array(4096);
    const probe = new ConfigSpace(NIC);
    for (let i = 0; i < 4096; i++) {
      for (let bit = 0; bit < 8; bit++) {
        probe.reset();
        const old = new Uint8Array(1);
        probe.read(i, old);
        void probe.write(i, Uint8Array.of(old[0]! ^ (1 << bit)));
        const now = new Uint8Array(1);
        probe.read(i, now);
        free[i]! |= old[0]! ^ now[0]!;
      }
    }
    const powerOn = all(new ConfigSpace(NIC));
    fc.assert(fc.property(fc.array(access, { maxLength: 20 }), (accesses) => {
      const space = new ConfigSpace(NIC);
      for (const { offset, data } of accesses) void space.write(offset, data);
      const now = all(space);
      for (let i = 0; i < 4096; i++) if (((now[i]! ^ powerOn[i]!) & ~free[i]!) !== 0) throw new Error(`byte 0x${i.toString(16)} escaped its mask`);
    }), { numRuns: 200 });
  });

  it('has one meaning however a write is cut into pieces', () => {
    fc.assert(fc.property(fc.array(access, { maxLength: 10 }), (accesses) => {
      const log = (into: string[]): ConfigSpaceHooks => ({ onFlr: () => void into.push('flr') });
      const wholeFlr: string[] = [];
      const bytesFlr: string[] = [];
      const whole = new ConfigSpace(NIC, log(wholeFlr));
      const bytes = new ConfigSpace(NIC, log(bytesFlr));
      for (const { offset, data } of accesses) {
        void whole.write(offset, data);
        for (const [i, value] of data.entries()) void bytes.write(offset + i, Uint8Array.of(value));
      }
      expect(all(bytes)).toEqual(all(whole));
      expect(bytes.msix).toEqual(whole.msix);
      expect(bytesFlr).toEqual(wholeFlr);
    }), { numRuns: 100 });
  });
});
