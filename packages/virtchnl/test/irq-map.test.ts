import { describe, expect, it } from 'vitest';
import { decodeConfigIrqMap, encodeConfigIrqMap, ITR_NONE, type VectorMap } from '../src/index.ts';

const MAPS: VectorMap[] = [
  { vsiId: 1, vectorId: 1, rxQueues: 1, txQueues: 1, rxItr: 0, txItr: 1 },
  { vsiId: 1, vectorId: 0, rxQueues: 0, txQueues: 0, rxItr: ITR_NONE, txItr: ITR_NONE },
];

describe('CONFIG_IRQ_MAP', () => {
  it('begins its array at offset 2', () => {
    const bytes = encodeConfigIrqMap(MAPS);
    expect(bytes).toHaveLength(14 + 12 * 2);
    expect(Buffer.from(bytes.subarray(0, 26)).toString('hex')).toBe('0200' + '010001000100010000000100' + '010000000000000003000300');
  });

  it('decodes a message that does not lie at an even address', () => {
    const odd = new Uint8Array(39);
    odd.set(encodeConfigIrqMap(MAPS), 1);
    expect(decodeConfigIrqMap(odd.subarray(1))).toEqual(MAPS);
  });
});
