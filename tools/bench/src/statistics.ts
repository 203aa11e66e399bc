/** What a handful of runs says: no distribution is assumed, so medians, quartiles and ranges. */

/** Linear between the two nearest values; `share` from 0 to 1. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  return sorted[below]! + (sorted[Math.ceil(place)]! - sorted[below]!) * (place - below);
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Largest minus smallest, as a share of the median; 0 where all are 0. */
export function spread(values: readonly number[]): number {
  const range = Math.max(...values) - Math.min(...values);
  return range === 0 ? 0 : range / Math.abs(median(values));
}

/** How surely the true median lies between the smallest and the largest of so many independent runs: 1 - 2 * (1/2)^n. */
export function rangeConfidence(runs: number): number {
  return Math.max(0, 1 - 2 ** (1 - runs));
}

export interface Summary {
  readonly median: number;
  /** First and third quartile. */
  readonly q1: number;
  readonly q3: number;
  readonly min: number;
  readonly max: number;
  readonly spread: number;
  /** In the order of the runs. */
  readonly samples: readonly number[];
}

export function summarize(samples: readonly number[]): Summary {
  return {
    median: median(samples), q1: quantile(samples, 0.25), q3: quantile(samples, 0.75),
    min: Math.min(...samples), max: Math.max(...samples), spread: spread(samples), samples,
  };
}

/** To so many significant digits. */
export function significant(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}
