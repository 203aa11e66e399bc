/** The hash table alone: colliding keys, deletions in the middle of a probe run. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  IOTLB_BYTES, IOTLB_HEADER_BYTES, IOTLB_USED, iotlbDelete, iotlbGet, iotlbInitTable, iotlbLookup, iotlbSet, iotlbTableBytes, iotlbTakeUsed,
} from '../src/iotlb.ts';

const SLOTS = 512;
const SEED: [number, number] = [0x9e3779b1, 0x85ebca6b];
/** Where the layout says that a key's search begins. */
const slot = (chunk: number): number => {
  const key = BigInt(chunk) + 1n;
  return Number(((key & 0xffffffffn) * BigInt(SEED[0]) + (key >> 32n) * BigInt(SEED[1])) % 2n ** 32n) >>> (32 - Math.log2(SLOTS));
};

test('agrees with a Map also where many keys share a slot', () => {
  const numbers = [...Array.from({ length: 40_000 }, (_, i) => i), ...Array.from({ length: 20_000 }, (_, i) => 2 ** 32 - 10_000 + i)];
  const crowded = numbers.filter((chunk) => slot(chunk) < 2 || slot(chunk) > SLOTS - 3);
  const chunks = [...crowded.slice(0, 60), ...crowded.slice(-40), 2 ** 32 - 1, 2 ** 43 - 1];
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...chunks), fc.boolean()), { maxLength: 200 }), (operations) => {
      const buffer = new SharedArrayBuffer(IOTLB_BYTES + iotlbTableBytes(SLOTS));
      const u32 = new Uint32Array(buffer);
      const memory = { u32, u64: new BigUint64Array(buffer) };
      const table = IOTLB_BYTES;
      u32[0] = table;
      iotlbInitTable(u32, table, SLOTS, SEED);
      const model = new Map<number, number>();
      operations.forEach(([chunk, add], i) => {
        const value = (((i + 1) << 12) | 3) >>> 0;
        if (add) {
          iotlbSet(memory, table, chunk, value);
          model.set(chunk, value);
        } else {
          iotlbDelete(u32, table, chunk);
          model.delete(chunk);
        }
      });
      for (const chunk of chunks) {
        expect(iotlbGet(u32, table, chunk)).toBe(model.get(chunk) ?? 0);
        const value = model.get(chunk);
        expect(iotlbLookup(u32, 0, (BigInt(chunk) << 21n) + 5n, 1, 1)).toBe(value === undefined ? undefined : (value & ~3) + 5);
      }
      // Every entry that is left is one of the model's: deletion leaves no debris.
      let used = 0;
      for (let word = (table + IOTLB_HEADER_BYTES) / 4; word < u32.length; word += 4) if (u32[word] !== 0 || u32[word + 1] !== 0) used++;
      expect(used).toBe(model.size);
    }),
    { numRuns: 100 },
  );
});

test('what readers have used is told once', () => {
  const buffer = new SharedArrayBuffer(iotlbTableBytes(SLOTS));
  const u32 = new Uint32Array(buffer);
  iotlbInitTable(u32, 0, SLOTS, SEED);
  iotlbSet({ u32, u64: new BigUint64Array(buffer) }, 0, 7, 0x1000);
  expect(iotlbTakeUsed(u32, 0, 7, 0xffff)).toBe(0);
  u32[u32.indexOf(8) + IOTLB_USED / 4] = 0xffff;
  expect([iotlbTakeUsed(u32, 0, 7, 0b110), iotlbTakeUsed(u32, 0, 7, 0b111), iotlbTakeUsed(u32, 0, 7, 0b111)]).toEqual([0b110, 0b001, 0]);
});
