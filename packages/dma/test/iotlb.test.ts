/** The hash table alone: colliding keys, deletions in the middle of a probe run. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IOTLB_BYTES, IOTLB_HASH, IOTLB_HASH_SHIFT, IOTLB_SLOTS, iotlbDelete, iotlbGet, iotlbInit, iotlbLookup, iotlbSet } from '../src/iotlb.ts';

const slot = (chunk: number): number => (Math.imul(chunk + 1, IOTLB_HASH) >>> IOTLB_HASH_SHIFT) & (IOTLB_SLOTS - 1);

test('agrees with a Map also where many keys share a slot', () => {
  const crowded = Array.from({ length: 200_000 }, (_, i) => i).filter((chunk) => slot(chunk) < 3 || slot(chunk) > IOTLB_SLOTS - 3);
  // Keys that differ only above 32 bits share a slot too.
  const chunks = [...crowded.slice(0, 60), ...crowded.slice(0, 20).map((chunk) => chunk + 2 ** 32), 2 ** 32 - 1, 2 ** 43 - 1];
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...chunks), fc.boolean()), { maxLength: 200 }), (operations) => {
      const u32 = new Uint32Array(IOTLB_BYTES / 4);
      iotlbInit(u32, 0);
      const model = new Map<number, number>();
      operations.forEach(([chunk, add], i) => {
        const value = (((i + 1) << 12) | 3) >>> 0;
        if (add) {
          iotlbSet(u32, 0, chunk, value);
          model.set(chunk, value);
        } else {
          iotlbDelete(u32, 0, chunk);
          model.delete(chunk);
        }
      });
      for (const chunk of chunks) {
        expect(iotlbGet(u32, 0, chunk)).toBe(model.get(chunk) ?? 0);
        const value = model.get(chunk);
        expect(iotlbLookup(u32, 0, (BigInt(chunk) << 21n) + 5n, 1, 1)).toBe(value === undefined ? undefined : (value & ~3) + 5);
      }
      // Every entry that is left is one of the model's: deletion leaves no debris.
      let used = 0;
      for (let word = 4; word < u32.length; word += 4) if (u32[word] !== 0 || u32[word + 1] !== 0) used++;
      expect(used).toBe(model.size);
    }),
    { numRuns: 100 },
  );
});
