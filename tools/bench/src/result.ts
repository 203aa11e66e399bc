/** What a run of the tool found: the JSON form (README.md, "JSON"), version 1. */
import type { Figure } from './table.ts';
import type { Machine } from './machine.ts';
import type { Summary } from './statistics.ts';

export const RESULT_VERSION = 1;

/** How many times as good as another row: the ratio of each run, summarized. */
export interface Ratio extends Summary {
  readonly who: string;
  readonly figure: string;
  readonly goal?: number;
  /** Only with a goal. */
  readonly met?: boolean;
}

export interface BoundOutcome {
  readonly figure: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly met: boolean;
}

/** A row without figures says why. */
export interface MissingRow {
  readonly who: string;
  readonly missing: string;
}

export interface MeasuredRow {
  readonly who: string;
  /** How many runs came to an end; `failed` did not, and the last of those said `failure`. */
  readonly runs: number;
  readonly failed?: number;
  readonly failure?: string;
  readonly x?: number;
  readonly series?: string;
  /** By figure. */
  readonly figures: Readonly<Record<string, Summary>>;
  readonly ratios: readonly Ratio[];
  readonly bounds: readonly BoundOutcome[];
}

export type Row = MissingRow | MeasuredRow;

export interface TableResult {
  readonly name: string;
  readonly what: string;
  readonly figures: readonly Figure[];
  readonly x?: string;
  readonly rows: readonly Row[];
  /** Load and stolen time while it ran, and what else was at work: the shares are of all processors. */
  readonly noise: Noise;
}

/** A table that could not even begin. */
export interface BrokenTable {
  readonly name: string;
  readonly broken: string;
}

export interface Noise {
  readonly loadBefore: number;
  readonly stolen: number;
  readonly others: number;
  readonly busiest: readonly string[];
}

export interface BenchResult {
  readonly version: typeof RESULT_VERSION;
  readonly date: string;
  readonly machine: Machine;
  readonly effort: { readonly runs: number; readonly seconds: number; readonly warmupSeconds: number; readonly burst: number; readonly inFlight: number; readonly quick: boolean };
  readonly tables: readonly (TableResult | BrokenTable)[];
}
