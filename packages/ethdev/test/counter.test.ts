import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addCounter, readCounter } from '@emudev/ethdev';

test('counts beyond 32 bits', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 0x7fffffff }), { maxLength: 40 }), (steps) => {
      const u32 = new Uint32Array(new SharedArrayBuffer(32));
      for (const step of steps) addCounter(u32, 4, step);
      expect(readCounter(u32, 4)).toBe(steps.reduce((sum, step) => sum + BigInt(step), 0n));
    }),
  );
});

test('a read in the middle of a carry is the value before or after it', () => {
  // The three stores of a carry from 0xffff_ffff + 2, one after the other.
  const u32 = Uint32Array.of(0xffffffff, 0, 0, 0);
  expect(readCounter(u32, 0)).toBe(0xffffffffn);
  u32[1] = 1;
  expect(readCounter(u32, 0)).toBe(0xffffffffn);
  u32[0] = 1;
  expect(readCounter(u32, 0)).toBe(0x1_0000_0001n);
  u32[2] = 1;
  expect(readCounter(u32, 0)).toBe(0x1_0000_0001n);
});
