import { describe, expect, it } from 'vitest';
import { ConfigSpace, msiCapability, PciLayoutError, type MsiControl, type MsiOptions } from '../src/index.ts';

const AT = 0x40;

function space(options: MsiOptions, seen: MsiControl[] = []): ConfigSpace {
  return new ConfigSpace({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0, capabilities: [msiCapability(options)] }, { onMsi: (control) => seen.push(control) });
}
function read(s: ConfigSpace, offset: number, bytes: 2 | 4): number {
  const into = new Uint8Array(4);
  s.read(AT + offset, into.subarray(0, bytes));
  return new DataView(into.buffer).getUint32(0, true);
}
const write16 = (s: ConfigSpace, offset: number, value: number): void => void s.write(AT + offset, Uint8Array.of(value, value >> 8));
const write32 = (s: ConfigSpace, offset: number, value: number): void => void s.write(AT + offset, Uint8Array.of(value, value >> 8, value >> 16, value >>> 24));

describe('MSI', () => {
  // PCI Local Bus 3.0, figure 6-9: the four shapes.
  it.each([
    { address64: false, masking: false, lengthBytes: 10, control: 0x0006 }, { address64: true, masking: false, lengthBytes: 14, control: 0x0086 },
    { address64: false, masking: true, lengthBytes: 20, control: 0x0106 }, { address64: true, masking: true, lengthBytes: 24, control: 0x0186 },
  ])('has its shape: $lengthBytes bytes', ({ address64, masking, lengthBytes, control }) => {
    const s = space({ vectors: 8, address64, masking });
    expect([s.capabilities[0]!.lengthBytes, read(s, 2, 2)]).toEqual([lengthBytes, control]);
    // Everything written as ones: what is a register sticks, and the bytes behind the capability do not exist.
    void s.write(AT, new Uint8Array(0x80).fill(0xff));
    expect(read(s, 2, 2)).toBe(control | 0x0031);
    const fields = [0xfffffffc, ...(address64 ? [0xffffffff] : []), 0x0000ffff, ...(masking ? [0x000000ff, 0] : []), 0, 0];
    expect(fields.map((_, i) => read(s, 4 + 4 * i, 4))).toEqual(fields);
    expect(s.msi).toEqual({ enabled: true, vectors: 8, address: address64 ? 0xffff_ffff_ffff_fffcn : 0xffff_fffcn, data: 0xffff, mask: masking ? 0xff : 0 });
  });

  it.each([[1, 0, 0], [1, 7, 0], [4, 1, 1], [4, 2, 2], [4, 3, 2], [8, 4, 3], [32, 5, 5], [32, 6, 5], [32, 7, 5]])('of %i vectors, asked for 2^%i, grants 2^%i', (vectors, asked, granted) => {
    const s = space({ vectors });
    write16(s, 2, (asked << 4) | 1);
    expect([(read(s, 2, 2) >> 4) & 7, s.msi!.vectors]).toEqual([granted, 1 << granted]);
  });

  it('tells the device what has changed, once, and nothing where nothing has', () => {
    const seen: MsiControl[] = [];
    const s = space({ vectors: 4 }, seen);
    write32(s, 4, 0xfee00000);
    write32(s, 8, 1);
    write16(s, 0xc, 0x4021);
    write16(s, 2, 0x0021);
    write16(s, 2, 0x0021);
    write32(s, 0x10, 0x2);
    write32(s, 0x14, 0xf);
    expect(seen.length).toBe(5);
    expect(seen.at(-1)).toEqual({ enabled: true, vectors: 4, address: 0x1_fee0_0000n, data: 0x4021, mask: 2 });
    // One write that changes all of it is one call.
    void s.write(AT + 2, new Uint8Array(18));
    expect(seen.length).toBe(6);
    expect(seen.at(-1)).toEqual({ enabled: false, vectors: 1, address: 0n, data: 0, mask: 0 });
  });

  it('shows pending bits of vectors that exist, where there is a place for them', () => {
    const s = space({ vectors: 32 });
    for (const vector of [0, 31]) s.setMsiPending(vector, true);
    expect(read(s, 0x14, 4)).toBe(0x80000001);
    s.setMsiPending(0, false);
    expect(read(s, 0x14, 4)).toBe(0x80000000);
    const few = space({ vectors: 2, address64: false });
    few.setMsiPending(2, true);
    few.setMsiPending(1, true);
    expect(read(few, 0x10, 4)).toBe(2);
    const plain = space({ vectors: 2, masking: false });
    plain.setMsiPending(0, true);
    expect(read(plain, 0x10, 4)).toBe(0);
  });

  it('is not there unless described, and refuses other numbers of vectors', () => {
    expect(new ConfigSpace({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0 }).msi).toBeUndefined();
    for (const vectors of [0, 3, 64, 0.5, Number.NaN]) expect(() => msiCapability({ vectors })).toThrow(PciLayoutError);
  });
});
