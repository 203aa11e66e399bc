import { describe, expect, it } from 'vitest';
import { decodeRssKey, DEFAULT_HENA, encodeRssHena, encodeRssKey, encodeRssLut, RssType } from '../src/index.ts';

describe('RSS messages', () => {
  it('are sent as 5 + n bytes: 57 for the key, 69 for the table', () => {
    expect(encodeRssKey({ vsiId: 1, key: new Uint8Array(52) })).toHaveLength(57);
    expect(encodeRssLut({ vsiId: 1, lut: new Uint8Array(64) })).toHaveLength(69);
  });

  it('are read without the padding byte too', () => {
    expect(decodeRssKey(encodeRssKey({ vsiId: 1, key: Uint8Array.of(1, 2, 3) }).subarray(0, 7))).toEqual({ vsiId: 1, key: Uint8Array.of(1, 2, 3) });
  });

  it('the default mask is exactly the named packet types', () => {
    expect(Object.values(RssType).reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n)).toBe(DEFAULT_HENA);
    expect(Buffer.from(encodeRssHena(DEFAULT_HENA)).toString('hex')).toBe('000000e09f7f0000');
  });
});
