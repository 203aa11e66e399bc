import { expect, test } from 'vitest';
import { median, spread } from '../src/statistics.ts';

test('median and spread', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(spread([1, 2, 3])).toBe(1);
  expect(spread([5])).toBe(0);
});
