/** Memory that a device sees at addresses of ours, beside what its consumer maps. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { IOTLB_READ, IOTLB_WRITE, IovaSpace, MAX_BOUNCE_BYTES, PAGE_BYTES, Window, iotlbLookup, type RemoteMemory } from '@emudev/dma';
import { MIN_BOUNCE_SHARE_BYTES } from '../src/limits.ts';

const remote: RemoteMemory = { read: () => Promise.resolve(), write: () => Promise.resolve() };
const PAGE = BigInt(PAGE_BYTES);
let window: Window;
let space: IovaSpace;

beforeEach(() => {
  window = Window.open();
  space = new IovaSpace(window);
});
afterEach(() => {
  space[Symbol.dispose]();
  window[Symbol.dispose]();
});

const find = (iova: bigint, bytes = 1): number | undefined => iotlbLookup(window.u32, space.iotlb, iova, bytes, IOTLB_READ | IOTLB_WRITE);

test('kernels find an area at its address, contiguous, and nothing behind it; no region has it', () => {
  const area = space.bounce(10_000)!;
  expect([area.sizeBytes, find(area.iova, area.sizeBytes), find(area.iova + BigInt(area.sizeBytes))]).toEqual([12_288, area.offset, undefined]);
  expect([space.reach(area.iova, 1, 'read'), space.translate(area.iova, 1, 'read'), space.bring(area.iova, 'read'), space.size]).toEqual([undefined, undefined, 'never', 0]);
  expect(() => space.read(area.iova, new Uint8Array(1))).toThrow(/not mapped/);
});

test('a region that is mapped over an area, or the page behind it, moves the area and leaves its bytes', () => {
  const area = space.bounce(2 * PAGE_BYTES)!;
  window.u8.fill(7, area.offset, area.offset + area.sizeBytes);
  for (const page of [0n, 1n, 2n, -1n]) {
    const { iova } = area;
    const { generation } = space;
    const at = iova + page * PAGE;
    space.map({ iova: at, sizeBytes: PAGE, readable: true, writable: true, remote });
    expect(area.iova !== iova).toBe(page >= 0n);
    expect([space.generation !== generation, find(area.iova, area.sizeBytes), find(at)]).toEqual([true, area.offset, undefined]);
    if (page >= 0n) expect(find(iova)).toBe(undefined);
    expect([window.u8[area.offset], space.reach(at, PAGE_BYTES, 'read')]).toEqual([7, 'messages']);
    space.unmap(at, PAGE);
  }
});

test('an area that was given back serves again, or goes with the next change of the regions', () => {
  const before = window.allocatedBytes;
  const first = space.bounce(PAGE_BYTES)!;
  const { offset, iova } = first;
  first[Symbol.dispose]();
  const second = space.bounce(PAGE_BYTES)!;
  expect([second.offset, second.iova]).toEqual([offset, iova]);
  // A second disposal of the first is not one of the second.
  first[Symbol.dispose]();
  space.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, remote });
  expect(find(second.iova)).toBe(offset);
  second[Symbol.dispose]();
  space.unmap(0n, PAGE);
  expect([find(iova), window.allocatedBytes]).toEqual([undefined, before]);
});

test('there is a limit for all devices together; an area of a space that is cleared is gone, and its disposal harmless', () => {
  using other = new IovaSpace(window);
  const piece = MAX_BOUNCE_BYTES / 16;
  const areas = Array.from({ length: 16 }, (_, n) => (n % 2 === 0 ? space : other).bounce(piece)!);
  expect([areas.includes(undefined as never), space.bounce(PAGE_BYTES), other.bounce(PAGE_BYTES)]).toEqual([false, undefined, undefined]);
  space.clear();
  const again = Array.from({ length: 8 }, () => space.bounce(piece)!);
  for (const area of areas) area[Symbol.dispose]();
  expect([again.includes(undefined as never), again.every(({ iova, offset }) => iotlbLookup(window.u32, space.iotlb, iova, piece, IOTLB_READ) === offset)]).toEqual([false, true]);
});

test('a device has its share of it, and no more, whatever the others ask for; it grows when a device goes', () => {
  const piece = MAX_BOUNCE_BYTES / 8;
  const taken = (from: IovaSpace): number => {
    let count = 0;
    while (from.bounce(piece) !== undefined) count++;
    return count;
  };
  {
    using other = new IovaSpace(window);
    expect([taken(space), taken(other), taken(space)]).toEqual([4, 4, 0]);
  }
  expect(taken(space)).toBe(4);
});

test('where there are very many devices, who comes first has a share that is of some use', () => {
  using stack = new DisposableStack();
  const spaces = Array.from({ length: 2 * MAX_BOUNCE_BYTES / MIN_BOUNCE_SHARE_BYTES }, () => stack.use(new IovaSpace(window)));
  const served = spaces.map((each) => each.bounce(MIN_BOUNCE_SHARE_BYTES) !== undefined);
  expect([served.indexOf(false), spaces[0]!.bounce(PAGE_BYTES)]).toEqual([MAX_BOUNCE_BYTES / MIN_BOUNCE_SHARE_BYTES, undefined]);
});

test('how a range is reached: by the window, by messages, or not at all', () => {
  const fd = window.sys.memfdCreate('reach', { allowSealing: true });
  window.sys.ftruncate(fd, 4 * PAGE_BYTES);
  space.map({ iova: 0n, sizeBytes: PAGE, readable: true, writable: true, fd });
  space.map({ iova: PAGE, sizeBytes: PAGE, readable: true, writable: false, remote });
  space.map({ iova: 2n * PAGE, sizeBytes: PAGE, readable: true, writable: true, fd, fdOffset: 2 * PAGE_BYTES });
  space.map({ iova: 3n * PAGE, sizeBytes: PAGE, readable: true, writable: true });
  window.sys.close(fd);
  const ask = (iova: bigint, bytes: number, access: 'read' | 'write' = 'read'): unknown => space.reach(iova, bytes, access);
  expect([ask(0n, PAGE_BYTES), ask(0n, PAGE_BYTES + 1), ask(0n, 3 * PAGE_BYTES), ask(0n, 3 * PAGE_BYTES + 1)]).toEqual(['window', 'messages', 'messages', undefined]);
  expect([ask(PAGE, 1, 'write'), ask(0n, PAGE_BYTES, 'write'), ask(2n * PAGE, PAGE_BYTES, 'write'), ask(4n * PAGE, 1), ask(0n, 0), ask(0n, NaN)]).toEqual([undefined, 'window', 'window', undefined, undefined, undefined]);
  expect([space.bring(PAGE, 'read'), space.bring(PAGE, 'write'), space.bring(3n * PAGE, 'read')]).toEqual(['remote', 'never', 'never']);
});
