import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { foldSum, sumWords, windowBytes } from '@emudev/ethdev';
import { scratchContext } from './fixtures/scratch-context.ts';

const window = Window.open();
const place = window.alloc(1 << 18);
afterAll(() => {
  window.free(place);
  window[Symbol.dispose]();
});
const kernels = windowBytes(window);
const scratch = scratchContext();
const twins = windowBytes(scratch);

test('the kernel, its twin and the definition agree on every sum', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(9), fc.nat(0xffff), (bytes, at, seed) => {
      window.u8.fill(0xff, place, place + 420);
      window.u8.set(bytes, place + at);
      scratch.u8.set(bytes, 1000 + at);
      const expected = foldSum(sumWords(bytes, 0, bytes.length, seed));
      expect(foldSum(kernels.sum(place + at, bytes.length, seed))).toBe(expected);
      expect(foldSum(twins.sum(1000 + at, bytes.length, seed))).toBe(expected);
    }),
  );
});

test('sums do not overflow: 200,000 bytes of ones', () => {
  window.u8.fill(0xff, place, place + 200_001);
  expect(foldSum(kernels.sum(place, 200_000))).toBe(0xffff);
  expect(foldSum(kernels.sum(place + 1, 199_999))).toBe(foldSum(0xffff + 0xff00));
});

test('copies of any length and alignment, overlapping ones too', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(40), fc.nat(40), (bytes, from, to) => {
      window.u8.set(bytes, place + from);
      const expected = window.u8.slice(place, place + 400);
      expected.copyWithin(to, from, from + bytes.length);
      kernels.copy(place + to, place + from, bytes.length);
      expect(window.u8.slice(place, place + 400)).toEqual(expected);
    }),
  );
});
