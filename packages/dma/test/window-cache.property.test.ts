/** Two devices over files that no window holds, against plain lists of regions: maps, unmaps, touches, pins, evictions, in any order. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { EXTENT_BYTES, IOTLB_READ, IOTLB_WRITE, IovaSpace, PAGE_BYTES, Window, WindowCache, iotlbLookup, type PinnedRange } from '../src/index.ts';

const FILE_BYTES = 24 * 2 ** 30;
const FILE_PAGES = FILE_BYTES / PAGE_BYTES;

interface Region {
  readonly page: number;
  readonly pages: number;
  readonly file: number;
  readonly filePage: number;
  readonly writable: boolean;
}

const device = fc.nat(1);
/** Addresses crowd around a few places, so that regions touch each other. */
const page = fc.tuple(fc.constantFrom(0, 0x10_0000, 2 ** 40), fc.oneof(fc.nat(2000), fc.nat(6_000_000))).map(([base, offset]) => base + offset);
const pages = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 500, max: 3000 }), fc.constantFrom(2 ** 20, 4 * 2 ** 20));
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('map' as const), device, page, pages, file: fc.nat(1), filePage: fc.nat(1_000_000), writable: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unmap' as const), device, which: fc.nat() }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('touch' as const), device, which: fc.nat(), within: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), write: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sweep' as const), device, which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pin' as const), device, which: fc.nat(), within: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('evict' as const) }) },
);

/** What a page of a file says about itself: nothing else says the same. */
const stamp = (file: number, filePage: number): number => ((filePage * 2 + file) ^ 0x5a5a_0000) >>> 0;
const taken = { mapped: 0, unmapped: 0, touched: 0, nowhere: 0, forbidden: 0, evictions: 0 };

test('every address leads to the page of the model, or nowhere', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 60 }), async (operations) => {
      using window = Window.open();
      using spaceA = new IovaSpace(window);
      using spaceB = new IovaSpace(window);
      const spaces = [spaceA, spaceB];
      const cache = WindowCache.of(window);
      const models: Region[][] = [[], []];
      const pins: { range: PinnedRange; region: Region; filePage: number }[] = [];
      const fds = [0, 1].map(() => linux.memfdCreate('cache-property', { allowSealing: true }));
      for (const fd of fds) linux.ftruncate(fd, FILE_BYTES);
      const write = (file: number, filePage: number): void => { linux.pwrite(fds[file]!, new Uint8Array(Uint32Array.of(stamp(file, filePage)).buffer), filePage * PAGE_BYTES); };

      /** Through the IOTLB, as kernels look. */
      const check = (n: number, at: number, access: number): void => {
        const region = models[n]!.find((one) => at >= one.page && at < one.page + one.pages);
        const offset = iotlbLookup(window.u32, spaces[n]!.iotlb, BigInt(at) * 4096n, 4, access);
        if (offset === undefined) return;
        expect(region).toBeDefined();
        expect(access === IOTLB_READ || region!.writable).toBe(true);
        const filePage = region!.filePage + at - region!.page;
        write(region!.file, filePage);
        expect(window.u32[offset >>> 2]).toBe(stamp(region!.file, filePage));
      };
      const bring = async (n: number, at: number, access: 'read' | 'write'): Promise<string> => {
        for (let attempt = 0; ; attempt++) {
          const result = spaces[n]!.bring(BigInt(at) * 4096n, access);
          if (result !== 'full' || attempt > 20) return result;
          await spaces[n]!.makeRoom();
        }
      };

      try {
        for (const op of operations) {
          if (op.kind === 'evict') {
            const before = cache.evictions;
            for (const space of spaces) await space.makeRoom();
            taken.evictions += cache.evictions - before;
            continue;
          }
          const model = models[op.device]!;
          const space = spaces[op.device]!;
          if (op.kind === 'map') {
            const region = { page: op.page, pages: Math.min(op.pages, FILE_PAGES - op.filePage), file: op.file, filePage: op.filePage, writable: op.writable };
            if (model.some((one) => region.page < one.page + one.pages && one.page < region.page + region.pages)) continue;
            space.map({ iova: BigInt(region.page) * 4096n, sizeBytes: region.pages * PAGE_BYTES, readable: true, writable: region.writable, fd: fds[region.file]!, fdOffset: region.filePage * PAGE_BYTES });
            model.push(region);
            taken.mapped++;
            continue;
          }
          const region = model[op.which % Math.max(1, model.length)];
          if (region === undefined) continue;
          if (op.kind === 'unmap') {
            for (const at of [region.page, region.page + region.pages - 1]) check(op.device, at, IOTLB_READ);
            space.unmap(BigInt(region.page) * 4096n, region.pages * PAGE_BYTES);
            model.splice(model.indexOf(region), 1);
            for (let n = pins.length - 1; n >= 0; n--) if (pins[n]!.region === region) pins.splice(n, 1);
            for (const at of [region.page, region.page + (region.pages >>> 1), region.page + region.pages - 1]) {
              expect(iotlbLookup(window.u32, space.iotlb, BigInt(at) * 4096n, 1, IOTLB_READ)).toBeUndefined();
            }
            taken.unmapped++;
          } else if (op.kind === 'touch') {
            const at = region.page + Math.floor(op.within * (region.pages + 1));
            const there = model.find((one) => at >= one.page && at < one.page + one.pages);
            const may = there !== undefined && (!op.write || there.writable);
            expect(await bring(op.device, at, op.write ? 'write' : 'read')).toBe(may ? 'here' : 'never');
            if (may) expect(iotlbLookup(window.u32, space.iotlb, BigInt(at) * 4096n, 4, op.write ? IOTLB_WRITE : IOTLB_READ)).toBeTypeOf('number');
            taken[may ? 'touched' : there === undefined ? 'nowhere' : 'forbidden']++;
            for (const n of [0, 1]) for (const access of [IOTLB_READ, IOTLB_WRITE]) check(n, at, access);
          } else if (op.kind === 'sweep') {
            for (let n = 0, at = region.page; n < 300 && at < region.page + region.pages; n++, at += EXTENT_BYTES / PAGE_BYTES) space.bring(BigInt(at) * 4096n, 'read');
          } else {
            const first = Math.floor(op.within * region.pages);
            const length = Math.min(3, region.pages - first) * PAGE_BYTES;
            const range = space.pin(BigInt(region.page + first) * 4096n, length, 'read');
            if (range !== undefined) pins.push({ range, region, filePage: region.filePage + first });
          }
        }
        for (const { range, region, filePage } of pins) {
          write(region.file, filePage);
          expect(window.u32[range.offset >>> 2]).toBe(stamp(region.file, filePage));
        }
        models.forEach((model, n) => {
          for (const region of model) for (let at = region.page; at < region.page + region.pages; at += 1 + (region.pages >>> 5)) check(n, at, IOTLB_READ);
        });
      } finally {
        for (const fd of fds) linux.close(fd);
      }
    }),
    { numRuns: 150 },
  );
  for (const [way, count] of Object.entries(taken)) expect([way, count]).toEqual([way, expect.toSatisfy((n: number) => n > 3)]);
});
