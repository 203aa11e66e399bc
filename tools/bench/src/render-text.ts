/** Results for people at a terminal. */
import CliTable from 'cli-table3';
import type { MeasuredRow, Ratio, TableResult } from './result.ts';
import { significant } from './statistics.ts';

export function verdict({ who, median, goal, met }: Ratio): string {
  const times = `${String(significant(median, 3))}x of ${who}`;
  return goal === undefined ? times : `${times}, goal ${String(goal)}x: ${met === true ? 'met' : 'missed'}`;
}

function verdicts(row: MeasuredRow): string[] {
  return [
    ...row.ratios.map(verdict),
    ...row.bounds.map(({ figure, atLeast, atMost, met }) => `${figure} ${atLeast === undefined ? '' : `at least ${String(atLeast)} `}${atMost === undefined ? '' : `at most ${String(atMost)} `}wanted: ${met ? 'met' : 'missed'}`),
    ...(row.failed === undefined ? [] : [`${String(row.failed)} runs failed: ${row.failure ?? ''}`]),
  ];
}

export function renderTable({ name, what, figures, rows }: TableResult): string {
  const head = ['', ...figures.map(({ name: figure, unit }) => (figure.toLowerCase() === unit.toLowerCase() ? figure : `${figure} (${unit})`)), 'spread', 'quartiles', 'runs', 'compared'];
  const table = new CliTable({ head, style: { head: [], border: [] } });
  for (const row of rows) {
    if ('missing' in row) {
      table.push([row.who, { colSpan: head.length - 1, content: `not measured: ${row.missing}` }]);
      continue;
    }
    const first = row.figures[figures[0]!.name]!;
    table.push([
      row.who, ...figures.map((figure) => String(significant(row.figures[figure.name]!.median, 4))),
      `${(first.spread * 100).toFixed(0)} %`, `${String(significant(first.q1, 3))} .. ${String(significant(first.q3, 3))}`, String(row.runs), verdicts(row).join('\n'),
    ]);
  }
  return `${name}: ${what}\n${table.toString()}`;
}
