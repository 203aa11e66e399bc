/** IovaSpace against a plain map of pages. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { IovaSpace, PAGE_BYTES, Window, iotlbLookup } from '../src/index.ts';
import type { RemoteMemory } from '../src/index.ts';

const FILE_PAGES = 3000;
/** Places worth looking at: the bottom, across 4 GiB, the very top. */
const BASES = [0n, 0xfff0_0000n, 2n ** 64n - 2048n * 4096n];

/** What lies behind regions without a descriptor. */
class FarMemory implements RemoteMemory {
  readonly #pages = new Map<bigint, Uint8Array>();
  read(iova: bigint, into: Uint8Array): Promise<void> {
    this.#each(iova, into.length, (page, at, from, to) => into.set(page.subarray(at, at + to - from), from));
    return Promise.resolve();
  }
  write(iova: bigint, bytes: Uint8Array): Promise<void> {
    this.#each(iova, bytes.length, (page, at, from, to) => page.set(bytes.subarray(from, to), at));
    return Promise.resolve();
  }
  #each(iova: bigint, length: number, use: (page: Uint8Array, at: number, from: number, to: number) => void): void {
    for (let from = 0; from < length; ) {
      const here = iova + BigInt(from);
      const at = Number(here % 4096n);
      const to = Math.min(length, from + PAGE_BYTES - at);
      let page = this.#pages.get(here / 4096n);
      if (page === undefined) this.#pages.set(here / 4096n, (page = new Uint8Array(PAGE_BYTES)));
      use(page, at, from, to);
      from = to;
    }
  }
}

interface ModelPage {
  readonly region: bigint;
  readonly file: number | undefined;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** A page somewhere, or one around an edge of a region that exists by then: that is where the interesting cases are. */
type Place = { readonly kind: 'any'; readonly base: bigint; readonly page: number } | { readonly kind: 'edge'; readonly which: number; readonly end: boolean; readonly delta: number };
const place: fc.Arbitrary<Place> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('any' as const), base: fc.constantFrom(...BASES), page: fc.nat(2047) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('edge' as const), which: fc.nat(), end: fc.boolean(), delta: fc.constantFrom(0, 0, 0, -1, 1, -3, 5, -400) }) },
);

function pageOf(at: Place, regions: readonly { iova: bigint; count: number }[]): bigint {
  if (at.kind === 'any') return at.base / 4096n + BigInt(at.page);
  const region = regions[at.which % Math.max(1, regions.length)] ?? { iova: BASES[1]!, count: 0 };
  const page = region.iova / 4096n + BigInt(at.end ? region.count : 0) + BigInt(at.delta);
  return page < 0n ? 0n : page;
}

/** How often the ways were taken: a property that never gets there proves nothing. */
const taken = { mapped: 0, unmapped: 0, contiguous: 0, scattered: 0, remote: 0, refused: 0 };
const usually = fc.nat(5).map((n) => n > 0);
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('map' as const), at: place, pages: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 500, max: 1600 })), file: fc.nat(FILE_PAGES - 1), readable: usually, writable: usually, remote: fc.nat(4).map((n) => n === 0) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unmap' as const), which: fc.nat(), off: fc.constantFrom(0, 0, 0, 1) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('access' as const), at: place, within: fc.nat(PAGE_BYTES - 1), length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 2_500_000 })), write: fc.boolean(), seed: fc.nat(255) }) },
);

test('maps, unmaps, translations and copies agree with a map of pages', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 30, maxLength: 80 }), async (operations) => {
      using window = Window.open();
      using space = new IovaSpace(window, { truncation: 'warn' });
      const fd = linux.memfdCreate('property', { allowSealing: true });
      linux.ftruncate(fd, FILE_PAGES * PAGE_BYTES);
      const far = new FarMemory();
      const pages = new Map<bigint, ModelPage>();
      const regions: { iova: bigint; count: number }[] = [];
      try {
        for (const op of operations) {
          if (op.kind === 'map') mapOne(space, fd, far, pages, regions, op);
          else if (op.kind === 'unmap') unmapOne(space, pages, regions, op);
          else await accessOne(window, space, fd, far, pages, regions, op);
          expect(space.size).toBe(regions.length);
        }
      } finally {
        linux.close(fd);
      }
    }),
    { numRuns: 150 },
  );
  for (const [way, count] of Object.entries(taken)) expect([way, count]).toEqual([way, expect.toSatisfy((n: number) => n > 3)]);
});

type Op<K> = Extract<typeof operation extends fc.Arbitrary<infer T> ? T : never, { kind: K }>;

function mapOne(space: IovaSpace, fd: number, remote: RemoteMemory, pages: Map<bigint, ModelPage>, regions: { iova: bigint; count: number }[], op: Op<'map'>): void {
  const first = pageOf(op.at, regions);
  const count = Number(BigInt(Math.min(op.pages, FILE_PAGES - op.file)));
  const numbers = Array.from({ length: count }, (_, i) => first + BigInt(i));
  const pastEnd = first + BigInt(count) > 2n ** 52n;
  const overlap = numbers.some((n) => pages.has(n));
  const request = {
    iova: first * 4096n, sizeBytes: count * PAGE_BYTES, readable: op.readable, writable: op.writable,
    ...(op.remote ? { remote } : { fd, fdOffset: op.file * PAGE_BYTES }),
  };
  const there = pages.get(first);
  const same = regions.some((region) => region.iova === request.iova && region.count === count)
    && there!.readable === op.readable && there!.writable === op.writable && there!.file === (op.remote ? undefined : op.file);
  if (same) {
    const generation = space.generation;
    space.map(request);
    expect(space.generation).toBe(generation);
    return;
  }
  if (pastEnd || overlap) {
    const generation = space.generation;
    expect(() => space.map(request)).toThrow(expect.objectContaining({ errno: pastEnd ? 22 : 17 }) as unknown as Error);
    expect(space.generation).toBe(generation);
    return;
  }
  space.map(request);
  taken.mapped++;
  numbers.forEach((n, i) => pages.set(n, { region: first, file: op.remote ? undefined : op.file + i, readable: op.readable, writable: op.writable }));
  regions.push({ iova: first * 4096n, count });
}

function unmapOne(space: IovaSpace, pages: Map<bigint, ModelPage>, regions: { iova: bigint; count: number }[], op: Op<'unmap'>): void {
  const at = regions.length === 0 ? -1 : op.which % regions.length;
  const region = regions[at] ?? { iova: 0n, count: 1 };
  if (at < 0 || op.off !== 0) {
    expect(() => space.unmap(region.iova, (region.count + op.off) * PAGE_BYTES)).toThrow(expect.objectContaining({ errno: 2 }) as unknown as Error);
    return;
  }
  space.unmap(region.iova, region.count * PAGE_BYTES);
  regions.splice(at, 1);
  taken.unmapped++;
  for (let i = 0; i < region.count; i++) pages.delete(region.iova / 4096n + BigInt(i));
}

async function accessOne(window: Window, space: IovaSpace, fd: number, far: FarMemory, pages: Map<bigint, ModelPage>, regions: readonly { iova: bigint; count: number }[], op: Op<'access'>): Promise<void> {
  const iova = pageOf(op.at, regions) * 4096n + BigInt(op.within);
  const access = op.write ? 'write' : 'read';
  const touched: { number: bigint; page: ModelPage | undefined; from: bigint; length: number }[] = [];
  for (let done = 0; done < op.length; ) {
    const from = iova + BigInt(done);
    const length = Math.min(op.length - done, PAGE_BYTES - Number(from % 4096n));
    touched.push({ number: from / 4096n, page: pages.get(from / 4096n), from, length });
    done += length;
  }
  const permitted = touched.every(({ page }) => page !== undefined && (op.write ? page.writable : page.readable));
  const expected = permitted ? placeInWindow(space, touched) : undefined;
  expect(space.translate(iova, op.length, access)).toBe(expected === undefined ? undefined : expected + op.within);
  expect(iotlbLookup(window.u32, space.iotlb, iova, op.length, op.write ? 2 : 1)).toBe(expected === undefined ? undefined : expected + op.within);

  const bytes = new Uint8Array(op.length).fill(op.seed);
  for (let i = 0; i < bytes.length; i += 509) bytes[i] = i >>> 9;
  const way = !permitted ? 'refused' : expected !== undefined ? 'contiguous' : touched.some(({ page }) => page!.file === undefined) ? 'remote' : 'scattered';
  taken[way]++;
  if (!permitted) {
    expect(() => space[access](iova, bytes)).toThrow(expect.objectContaining({ errno: 14 }) as unknown as Error);
    return;
  }
  await space[access](iova, bytes);
  // Files may overlap themselves in a range, so a write is checked where its last copy landed: on the last byte.
  const check = op.write ? touched.slice(-1) : touched;
  let wrong = 0;
  for (const { page, from, length } of check) {
    const inFile = new Uint8Array(length);
    if (page!.file === undefined) await far.read(from, inFile);
    else linux.pread(fd, inFile, page!.file * PAGE_BYTES + Number(from % 4096n));
    const start = Number(from - iova);
    wrong += Buffer.compare(inFile, bytes.subarray(start, start + length)) === 0 ? 0 : 1;
  }
  expect(wrong).toBe(0);
}

/** The window offset of the first touched page if all of them lie one behind the other. */
function placeInWindow(space: IovaSpace, touched: { number: bigint }[]): number | undefined {
  const offsets = new Map<bigint, number>();
  for (const entry of space.entries()) {
    if (entry.offset === undefined) continue;
    for (let i = 0; i < entry.sizeBytes / PAGE_BYTES; i++) offsets.set(entry.iova / 4096n + BigInt(i), entry.offset + i * PAGE_BYTES);
  }
  const first = offsets.get(touched[0]!.number);
  if (first === undefined) return undefined;
  return touched.every(({ number }, i) => offsets.get(number) === first + i * PAGE_BYTES) ? first : undefined;
}
