/** One device's IOTLB, as extents of all kinds come and go: every look-up finds what a plain map of pages has. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChunkTable } from '../src/chunk-table.ts';
import { IOTLB_PART, IOTLB_READ, IOTLB_WRITE, PAGES_PER_CHUNK, PAGE_BYTES, PARTS_PER_CHUNK, Window, iotlbGet, iotlbLookup } from '../src/index.ts';

const PAGES_PER_PART = PAGES_PER_CHUNK / PARTS_PER_CHUNK;
const CHUNKS = 3;
const FIRST_CHUNK = 0x12345;
const FIRST_PAGE = FIRST_CHUNK * PAGES_PER_CHUNK;
/** Far from everything: nothing is read there, only looked up. */
const PLACE = 0x4000_0000;

const part = fc.record({ at: fc.nat(CHUNKS * PARTS_PER_CHUNK - 1).map((n) => n * PAGES_PER_PART), pages: fc.constant(PAGES_PER_PART) });
const whole = fc.record({ at: fc.nat(CHUNKS - 1).map((n) => n * PAGES_PER_CHUNK), pages: fc.constant(PAGES_PER_CHUNK) });
const odd = fc.record({ at: fc.nat(CHUNKS * PAGES_PER_CHUNK - 1), pages: fc.integer({ min: 1, max: 700 }) });
const step = fc.record({
  range: fc.oneof({ weight: 6, arbitrary: part }, { weight: 2, arbitrary: whole }, { weight: 1, arbitrary: odd }),
  flags: fc.constantFrom(IOTLB_READ, IOTLB_READ | IOTLB_WRITE),
  leave: fc.constantFrom('evict', 'remove'),
});

test('finds what is there, with its rights, and nothing else', () => {
  using window = Window.open();
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      using table = new ChunkTable(window);
      const there = new Map<number, { page: number; pages: number; offset: number; flags: number }>();
      for (const { range: { at, pages }, flags, leave } of steps) {
        const page = FIRST_PAGE + at;
        const known = there.get(page);
        const others = [...there.values()].filter((one) => one.page < page + pages && page < one.page + one.pages);
        if (known !== undefined) {
          table[leave](known);
          there.delete(page);
        } else if (others.length === 0) {
          const added = { page, pages, offset: PLACE + at * PAGE_BYTES, flags };
          table.add(added);
          there.set(page, added);
        }
        for (let n = 0; n < CHUNKS * PAGES_PER_CHUNK; n += 7) {
          const owner = [...there.values()].find((one) => one.page <= FIRST_PAGE + n && FIRST_PAGE + n < one.page + one.pages);
          const iova = BigInt(FIRST_PAGE + n) * BigInt(PAGE_BYTES) + 5n;
          const place = owner === undefined ? undefined : PLACE + n * PAGE_BYTES + 5;
          if (iotlbLookup(window.u32, table.offset, iova, 16, IOTLB_READ) !== place) expect([n, iotlbLookup(window.u32, table.offset, iova, 16, IOTLB_READ)]).toEqual([n, place]);
          const writable = owner !== undefined && (owner.flags & IOTLB_WRITE) !== 0;
          if ((iotlbLookup(window.u32, table.offset, iova, 1, IOTLB_WRITE) !== undefined) !== writable) expect(n).toBe(`writable: ${String(writable)}`);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('a single part of a chunk takes no page table; the second one does, and both are found', () => {
  using window = Window.open();
  using table = new ChunkTable(window);
  const left = table.pageTablesLeft;
  const add = (n: number): void => { table.add({ page: FIRST_PAGE + n * PAGES_PER_PART, pages: PAGES_PER_PART, offset: PLACE + n * 0x20000, flags: IOTLB_READ }); };
  const find = (n: number): number | undefined => iotlbLookup(window.u32, table.offset, BigInt(FIRST_PAGE + n * PAGES_PER_PART) * BigInt(PAGE_BYTES), 0x20000, IOTLB_READ);
  add(7);
  expect([find(7), find(8), table.pageTablesLeft]).toEqual([PLACE + 7 * 0x20000, undefined, left]);
  expect(iotlbGet(window.u32, window.u32[table.offset >>> 2]!, FIRST_CHUNK) & IOTLB_PART).toBe(IOTLB_PART);
  add(8);
  expect([find(7), find(8), table.pageTablesLeft]).toEqual([PLACE + 7 * 0x20000, PLACE + 8 * 0x20000, left - 1]);
});
