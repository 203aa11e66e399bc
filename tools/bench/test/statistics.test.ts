import fc from 'fast-check';
import { expect, test } from 'vitest';
import { median, quantile, rangeConfidence, spread, summarize } from '../src/statistics.ts';

test('median, quartiles and spread', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(quantile([1, 2, 3, 4, 5], 0.25)).toBe(2);
  expect(quantile([1, 2], 0.25)).toBe(1.25);
  expect(spread([1, 2, 3])).toBe(1);
  expect(spread([5])).toBe(0);
  expect(spread([0, 0])).toBe(0);
});

test('how sure the range of a few runs is', () => {
  // The true median is outside if all runs fall on the same side of it: a coin that shows the same side n times.
  expect([1, 2, 3, 5].map(rangeConfidence)).toEqual([0, 0.5, 0.75, 0.9375]);
});

test('any summary is in order', () => {
  fc.assert(fc.property(fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 30 }), (values) => {
    const { min, q1, median: middle, q3, max } = summarize(values);
    expect([min, q1, middle, q3, max]).toEqual([min, q1, middle, q3, max].sort((a, b) => a - b));
    expect(values.filter((value) => value <= middle).length * 2).toBeGreaterThanOrEqual(values.length);
  }));
});
