import { describe, expect, it } from 'vitest';
import { decodeEvent, encodeEvent, legacyLinkSpeed } from '../src/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('EVENT', () => {
  it('LINK_CHANGE up at 10 Gb/s, advanced, is the 16 bytes drivers know', () => {
    expect(hex(encodeEvent({ kind: 'link-change', up: true, speedMbps: 10_000 }, true))).toBe('01000000102700000100000000000000');
  });

  it('uses the enumeration without ADV_LINK_SPEED, status still at offset 8', () => {
    expect(hex(encodeEvent({ kind: 'link-change', up: true, speedMbps: 10_000 }, false))).toBe('01000000080000000100000000000000');
    expect(decodeEvent(encodeEvent({ kind: 'link-change', up: false, speedMbps: 25_000 }, false), false)).toEqual({ kind: 'link-change', up: false, speedMbps: 25_000 });
  });

  it('names the next slower speed where the enumeration has none', () => {
    expect([10, 100, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 40_000, 100_000].map(legacyLinkSpeed)).toEqual([0, 2, 4, 1, 128, 8, 32, 64, 16, 16]);
  });

  it('announces a reset with certain doom', () => {
    expect(hex(encodeEvent({ kind: 'reset-impending' }, true))).toBe('020000000000000000000000ff000000');
  });
});
