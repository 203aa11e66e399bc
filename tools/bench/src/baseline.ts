/**
 * Two results of the tool, row by row. Ratios between rows are compared whatever machines they come from; the figures themselves only
 * where it is the same machine. A difference counts where the ranges of the runs do not touch: it is outside the noise of both.
 */
import type { Machine } from './machine.ts';
import type { BenchResult, MeasuredRow, TableResult } from './result.ts';
import { significant, type Summary } from './statistics.ts';

/** With fewer runs on either side a range says nothing. */
const LEAST_RUNS = 3;

export interface Change {
  readonly table: string;
  readonly who: string;
  /** `mpps`, or `mpps / vhost-user`. */
  readonly what: string;
  readonly before: number;
  readonly now: number;
  /** Now divided by before. */
  readonly times: number;
  readonly verdict: 'better' | 'worse' | 'within the noise' | 'too few runs to say';
}

export interface Comparison {
  readonly sameMachine: boolean;
  readonly changes: readonly Change[];
  /** What one of the two has and the other has not. */
  readonly unmatched: readonly string[];
}

export function isSameMachine(a: Machine, b: Machine): boolean {
  return a.cpu === b.cpu && a.cpus === b.cpus && a.memoryMb === b.memoryMb && a.virtual === b.virtual;
}

function change(where: Pick<Change, 'table' | 'who' | 'what'>, before: Summary, now: Summary, better: 'more' | 'less'): Change {
  const verdict = (): Change['verdict'] => {
    if (before.samples.length < LEAST_RUNS || now.samples.length < LEAST_RUNS) return 'too few runs to say';
    if (now.min > before.max) return better === 'more' ? 'better' : 'worse';
    if (now.max < before.min) return better === 'more' ? 'worse' : 'better';
    return 'within the noise';
  };
  return { ...where, before: before.median, now: now.median, times: now.median / before.median, verdict: verdict() };
}

const measured = (table: TableResult): MeasuredRow[] => table.rows.flatMap((row) => ('missing' in row ? [] : [row]));

export function compare(before: BenchResult, now: BenchResult): Comparison {
  const sameMachine = isSameMachine(before.machine, now.machine);
  const changes: Change[] = [];
  const unmatched: string[] = [];
  for (const table of now.tables) {
    if ('broken' in table) continue;
    const old = before.tables.find(({ name }) => name === table.name);
    if (old === undefined || 'broken' in old) {
      unmatched.push(table.name);
      continue;
    }
    for (const row of measured(table)) {
      const oldRow = measured(old).find(({ who }) => who === row.who);
      if (oldRow === undefined) {
        unmatched.push(`${table.name}, ${row.who}`);
        continue;
      }
      changes.push(...rowChanges(table, row, oldRow, sameMachine));
    }
    unmatched.push(...measured(old).filter(({ who }) => !measured(table).some((row) => row.who === who)).map(({ who }) => `${table.name}, ${who}`));
  }
  return { sameMachine, changes, unmatched };
}

function rowChanges(table: TableResult, row: MeasuredRow, old: MeasuredRow, sameMachine: boolean): Change[] {
  const where = { table: table.name, who: row.who };
  const ratios = row.ratios.flatMap((ratio) => {
    const oldRatio = old.ratios.find(({ who, figure }) => who === ratio.who && figure === ratio.figure);
    return 'missing' in ratio || oldRatio === undefined || 'missing' in oldRatio ? [] : [change({ ...where, what: `${ratio.figure} against ${ratio.who}` }, oldRatio, ratio, 'more')];
  });
  const absolute = table.figures.flatMap(({ name, better }) => {
    const oldFigure = old.figures[name];
    return oldFigure === undefined || !sameMachine ? [] : [change({ ...where, what: name }, oldFigure, row.figures[name]!, better)];
  });
  return [...ratios, ...absolute];
}

export function renderComparison(comparison: Comparison, before: BenchResult): string {
  const { sameMachine, changes, unmatched } = comparison;
  return [
    `against the baseline of ${before.date}${before.machine.commit === null ? '' : `, commit ${before.machine.commit}`}: ${sameMachine ? 'the same machine' : 'another machine, so only ratios between rows'}`,
    ...changes.map(({ table, who, what, before: old, now, times, verdict }) => `  ${table}, ${who}: ${what} ${String(significant(old, 3))} -> ${String(significant(now, 3))} (${times.toFixed(2)} times): ${verdict}`),
    ...unmatched.map((what) => `  ${what}: only in one of the two`),
  ].join('\n');
}
