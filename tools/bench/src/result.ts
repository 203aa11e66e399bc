/** What a run of the tool found: the JSON form (README.md, "JSON"). */
import type { Machine, Noise } from './machine.ts';
import type { Summary } from './statistics.ts';
import type { Figure } from './table.ts';

export const RESULT_VERSION = 1;

/** How many times as good as another row: the ratio of each run, summarized; or why there is none. */
export type Ratio = { readonly who: string; readonly figure: string; readonly goal?: number } & (
  | { readonly missing: string }
  /** `met` only with a goal. */
  | ({ readonly met?: boolean } & Summary)
);

export interface BoundOutcome {
  readonly figure: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly met: boolean;
}

export interface MissingRow {
  readonly who: string;
  readonly missing: string;
  /** What it was to be compared with; none of them has a value. */
  readonly ratios: readonly Ratio[];
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
  readonly figures: readonly [Figure, ...Figure[]];
  readonly x?: string;
  readonly rows: readonly Row[];
  readonly noise: Noise;
}

/** A table that could not even begin. */
export interface BrokenTable {
  readonly name: string;
  readonly broken: string;
}

export interface EffortSpent {
  readonly runs: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  readonly burst: number;
  readonly inFlight: number;
  readonly quick: boolean;
}

export interface BenchResult {
  readonly version: typeof RESULT_VERSION;
  /** ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  readonly effort: EffortSpent;
  readonly tables: readonly (TableResult | BrokenTable)[];
}

/** What `--check` is about: everything wanted that was not reached, or could not be compared. */
export function missedGoals(table: TableResult | BrokenTable): string[] {
  if ('broken' in table) return [`${table.name}: ${table.broken}`];
  return table.rows.flatMap((row) => {
    const heading = `${table.name}, ${row.who}:`;
    const ratios = row.ratios.filter(({ goal }) => goal !== undefined).filter((ratio) => 'missing' in ratio || ratio.met !== true).map((ratio) => `${heading} ${verdict(ratio, table.figures[0].name)}`);
    if ('missing' in row) return ratios;
    return [
      ...ratios,
      ...row.bounds.filter(({ met }) => !met).map((bound) => `${heading} ${boundVerdict(bound)}`),
      ...(row.failed === undefined ? [] : [`${heading} ${String(row.failed)} runs failed: ${row.failure ?? ''}`]),
    ];
  });
}

const digits = (value: number): string => String(Number(value.toPrecision(3)));

/** "2.0x of vhost-user, goal 4x: missed"; `first`: the figure that needs no mention. */
export function verdict(ratio: Ratio, first: string): string {
  const figure = ratio.figure === first ? '' : ` (${ratio.figure})`;
  const goal = ratio.goal === undefined ? '' : `, goal ${String(ratio.goal)}x`;
  if ('missing' in ratio) return `not compared with ${ratio.who}${figure}${goal}: ${ratio.missing}`;
  return `${digits(ratio.median)}x of ${ratio.who}${figure}${goal === '' ? '' : `${goal}: ${ratio.met === true ? 'met' : 'missed'}`}`;
}

export function boundVerdict({ figure, atLeast, atMost, met }: BoundOutcome): string {
  const wanted = [...(atLeast === undefined ? [] : [`at least ${String(atLeast)}`]), ...(atMost === undefined ? [] : [`at most ${String(atMost)}`])];
  return `${figure} ${wanted.join(', ')}: ${met ? 'met' : 'missed'}`;
}
