import fc from 'fast-check';
import { expect, test } from 'vitest';
import { matchesIds, type IdMatch, type PciIds } from '../src/index.ts';

const IAVF: PciIds = { vendor: 0x8086, device: 0x1889, subsystemVendor: 0x8086, subsystemDevice: 0, classCode: 0x020000 };

test('a table matches by any of its entries, a field left out by everything', () => {
  expect(matchesIds([{ vendor: 0x8086, device: 0x1889 }], IAVF)).toBe(true);
  expect(matchesIds([{ vendor: 0x4348 }, { classCode: 0x020000 }], IAVF)).toBe(true);
  expect(matchesIds([{ vendor: 0x8086, subsystemDevice: 1 }], IAVF)).toBe(false);
  expect(matchesIds([], IAVF)).toBe(false);
});

test('an entry of the ids of a device matches, whatever is left out, and no more once a field differs', () => {
  const fields = Object.keys(IAVF) as (keyof PciIds)[];
  fc.assert(fc.property(fc.subarray(fields), fc.constantFrom(...fields), (kept, field) => {
    const entry: IdMatch = Object.fromEntries(kept.map((name) => [name, IAVF[name]]));
    expect(matchesIds([entry], IAVF)).toBe(true);
    expect(matchesIds([{ ...entry, [field]: IAVF[field] + 1 }], IAVF)).toBe(false);
  }));
});
