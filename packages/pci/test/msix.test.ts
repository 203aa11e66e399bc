import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MsixRegion, PciLayoutError, PciRangeError } from '../src/index.ts';

const region = (): MsixRegion => new MsixRegion({ vectors: 17, sizeBytes: 0x4000, tableOffset: 0, pbaOffset: 0x1000 });
const bytes = (r: MsixRegion, offset: number, length: number): number[] => {
  const into = new Uint8Array(length);
  r.read(offset, into);
  return [...into];
};

describe('MSI-X structures', () => {
  it('start masked with nothing pending', () => {
    const r = region();
    expect(Array.from({ length: 17 }, (_, v) => r.isMasked(v))).toEqual(Array<boolean>(17).fill(true));
    expect(bytes(r, 0x1000, 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('store an entry, keep reserved bits zero, and unmask one vector', () => {
    const r = region();
    r.write(16, new Uint8Array(16).fill(0xff));
    expect(bytes(r, 16, 16)).toEqual([0xfc, ...Array<number>(11).fill(0xff), 1, 0, 0, 0]);
    r.write(16 + 12, Uint8Array.of(0, 0, 0, 0));
    expect([r.isMasked(0), r.isMasked(1), r.isMasked(2)]).toEqual([true, false, true]);
    r.reset();
    expect(bytes(r, 16, 16)).toEqual([...Array<number>(12).fill(0), 1, 0, 0, 0]);
  });

  it('show pending bits that a consumer cannot write', () => {
    const r = region();
    r.setPending(0, true);
    r.setPending(16, true);
    expect(bytes(r, 0x1000, 4)).toEqual([1, 0, 1, 0]);
    r.write(0x1000, new Uint8Array(8));
    expect(bytes(r, 0x1000, 4)).toEqual([1, 0, 1, 0]);
    r.setPending(0, false);
    expect(bytes(r, 0x1000, 4)).toEqual([0, 0, 1, 0]);
    expect(() => { r.setPending(17, true); }).toThrow(RangeError);
  });

  it('read zero everywhere else, under any writes', () => {
    fc.assert(fc.property(fc.integer({ min: 0x110, max: 0x3fc0 }), fc.uint8Array({ minLength: 1, maxLength: 64 }), (offset, data) => {
      const r = region();
      r.write(offset, data);
      expect(bytes(r, 0x110, 0x4000 - 0x110).every((b) => b === 0)).toBe(true);
    }), { numRuns: 50 });
    expect(() => region().read(0x3fff, new Uint8Array(2))).toThrow(PciRangeError);
  });

  it.each([
    { vectors: 0, sizeBytes: 4096, tableOffset: 0, pbaOffset: 2048 },
    { vectors: 2049, sizeBytes: 65536, tableOffset: 0, pbaOffset: 40960 },
    { vectors: 17, sizeBytes: 4096, tableOffset: 0, pbaOffset: 264 },
    { vectors: 17, sizeBytes: 256, tableOffset: 0, pbaOffset: 512 },
    { vectors: 17, sizeBytes: 4096, tableOffset: 4, pbaOffset: 2048 },
  ])('refuse %o', (options) => {
    expect(() => new MsixRegion(options)).toThrow(PciLayoutError);
  });
});
