/** The index holds what vfio-user calls max_dma_maps without slowing: counted in comparisons, which no machine makes faster or slower. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IovaSpace, MAX_DMA_MAPS, Window } from '../src/index.ts';
import { RegionIndex } from '../src/region-index.ts';

const PAGE = 0x1000n;
interface Region {
  readonly iova: bigint;
}
const region = (page: number): Region => ({ iova: BigInt(page) * PAGE });

/** A permutation of [0, n) without much of a pattern: n and the stride have no common divisor. */
const scattered = (n: number): number[] => Array.from({ length: n }, (_, i) => (i * 40_504) % n);
const ORDERS: Readonly<Record<string, (n: number) => number[]>> = {
  ascending: (n) => Array.from({ length: n }, (_, i) => i),
  descending: (n) => Array.from({ length: n }, (_, i) => n - 1 - i),
  scattered,
};

test.each(Object.keys(ORDERS))('65,535 regions in %s order: no operation compares more than a few dozen times', (name) => {
  let comparisons = 0;
  const index = new RegionIndex<Region>((a, b) => {
    comparisons++;
    return a - b;
  });
  let worst = 0;
  const counting = (operation: () => void): void => {
    comparisons = 0;
    operation();
    worst = Math.max(worst, comparisons);
  };
  const regions = ORDERS[name]!(MAX_DMA_MAPS).map(region);
  for (const one of regions) counting(() => { index.insert(one); });
  expect(index.size).toBe(MAX_DMA_MAPS);
  for (const one of regions) {
    counting(() => { if (index.atOrBefore(one.iova + 5n) !== one) throw new Error('another region'); });
    counting(() => { index.after(one.iova); });
  }
  for (const one of regions) counting(() => { index.remove(one); });
  expect(index.size).toBe(0);
  // A binary search among 65,535 takes 16; a walk would take thousands.
  expect(worst).toBeLessThan(40);
});

test('65,535 regions without a descriptor can be mapped, found and unmapped, and not one more', () => {
  using window = Window.open();
  using space = new IovaSpace(window);
  const pages = scattered(MAX_DMA_MAPS);
  for (const page of pages) space.map({ ...region(page), sizeBytes: 4096, readable: true, writable: true });
  expect(space.size).toBe(MAX_DMA_MAPS);
  expect(() => space.map({ ...region(MAX_DMA_MAPS), sizeBytes: 4096, readable: true, writable: true })).toThrow(expect.objectContaining({ errno: 28 }) as unknown as Error);
  // The identical map is none more.
  space.map({ ...region(7), sizeBytes: 4096, readable: true, writable: true });
  expect([space.has(7n * PAGE), space.has(7n * PAGE + 1n)]).toEqual([true, false]);
  for (const page of pages) space.unmap(region(page).iova, 4096);
  expect(space.size).toBe(0);
});

test('agrees with a sorted list', () => {
  const page = fc.nat(40);
  const operation = fc.tuple(fc.constantFrom('insert', 'remove', 'look', 'clear'), page, fc.nat(4095));
  fc.assert(fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
    const index = new RegionIndex<Region>();
    let model: Region[] = [];
    for (const [what, at, within] of operations) {
      const iova = BigInt(at) * PAGE;
      const there = model.find((r) => r.iova === iova);
      if (what === 'insert' && there === undefined) {
        const one = region(at);
        index.insert(one);
        model = [...model, one].sort((a, b) => Number(a.iova - b.iova));
      } else if (what === 'remove' && there !== undefined) {
        index.remove(there);
        model = model.filter((r) => r !== there);
      } else if (what === 'clear' && within > 3800) {
        index.clear();
        model = [];
      }
      expect(index.atOrBefore(iova + BigInt(within))).toBe(model.findLast((r) => r.iova <= iova));
      expect(index.after(iova + BigInt(within))).toBe(model.find((r) => r.iova > iova));
      expect([...index]).toEqual(model);
    }
  }));
});
