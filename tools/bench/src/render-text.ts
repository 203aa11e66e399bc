/** Results for people at a terminal. */
import CliTable from 'cli-table3';
import type { Machine } from './machine.ts';
import { boundVerdict, verdict, type EffortSpent, type Row, type TableResult } from './result.ts';
import { rangeConfidence, significant } from './statistics.ts';

/** Above this share between the runs of one row, a figure is worth little. */
export const WIDE_SPREAD = 0.2;
/** Shares of all processors, and of the processors' number: what is worth a warning. */
const MUCH_STOLEN = 0.01;
const MUCH_BY_OTHERS = 0.05;
const HIGH_LOAD = 0.25;

const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;

/** What a row reached against others and its bounds. */
export function outcomes(row: Row, { figures }: TableResult): string[] {
  if ('missing' in row) return [];
  return [
    ...row.ratios.map((ratio) => verdict(ratio, figures[0].name)),
    ...row.bounds.map(boundVerdict),
    ...(row.failed === undefined ? [] : [`${String(row.failed)} runs failed: ${row.failure ?? ''}`]),
  ];
}

/** What makes the figures of a table doubtful. */
export function warnings({ figures, rows, noise }: TableResult): string[] {
  const first = figures[0].name;
  const wide = rows.flatMap((row) => ('missing' in row || row.figures[first]!.spread <= WIDE_SPREAD ? [] : [`${row.who} ${percent(row.figures[first]!.spread)}`]));
  const few = rows.some((row) => !('missing' in row) && row.runs < 3);
  return [
    ...(few ? ['fewer than 3 runs: nothing here says how sure the figures are'] : []),
    ...(wide.length === 0 ? [] : [`spread above ${percent(WIDE_SPREAD)}: ${wide.join(', ')}`]),
    ...(noise.stolen > MUCH_STOLEN ? [`the hypervisor gave ${percent(noise.stolen)} of the processors' time to others`] : []),
    ...(noise.others > MUCH_BY_OTHERS ? [`other processes took ${percent(noise.others)} of the processors' time${noise.busiest.length === 0 ? '' : `: ${noise.busiest.join(', ')}`}`] : []),
  ];
}

export function renderMachine(machine: Machine): string {
  const { cpu, cpus, kernel, node, commit, pinned, virtual, sharedCore, governor, loadBefore } = machine;
  return [
    `${cpu}, ${String(cpus)} processors, Linux ${kernel}, Node ${node}`,
    ...(commit === null ? [] : [`commit ${commit}`]),
    pinned ? 'one processor per process' : 'not pinned',
    ...(virtual ? ['a virtual machine'] : []),
    ...(sharedCore ? ['processors 0 and 1 are threads of one core'] : []),
    governor === null ? 'clock not visible' : `clock governor ${governor}`,
    `load before: ${loadBefore.toFixed(1)}${loadBefore > HIGH_LOAD * cpus ? ' (high: the figures are not worth much)' : ''}`,
  ].join(', ');
}

export function renderEffort({ runs, seconds, warmupSeconds, burst, inFlight }: EffortSpent): string {
  const sure = runs < 3 ? '' : `; the true median lies between the smallest and the largest of ${String(runs)} runs with ${percent(rangeConfidence(runs))} confidence, if they are independent`;
  return `${String(runs)} interleaved run${runs === 1 ? '' : 's'} of ${String(seconds)} s after ${String(warmupSeconds)} s; bursts of ${String(burst)}, ${String(inFlight)} frames going round. Figures are medians, ratios the median of the runs' ratios; spread = (largest - smallest) / median${sure}.`;
}

export function heading({ figures }: TableResult): string[] {
  return ['', ...figures.map(({ name, unit }) => `${name} (${unit})`), 'spread', 'quartiles', 'runs', 'compared'];
}

/** The cells of a row, but for the last one: `outcomes`. Undefined for a row without figures. */
export function cells(row: Row, { figures }: TableResult): string[] | undefined {
  if ('missing' in row) return undefined;
  const first = row.figures[figures[0].name]!;
  const number = (value: number): string => String(significant(value, 3));
  return [row.who, ...figures.map(({ name }) => number(row.figures[name]!.median)), percent(first.spread), `${number(first.q1)} .. ${number(first.q3)}`, String(row.runs)];
}

export function renderTable(result: TableResult): string {
  const table = new CliTable({ head: heading(result), style: { head: [], border: [] } });
  const missing: string[] = [];
  for (const row of result.rows) {
    const columns = cells(row, result);
    if (columns !== undefined) table.push([...columns, outcomes(row, result).join('\n')]);
    else missing.push(`${row.who}: not measured: ${'missing' in row ? row.missing : ''}`);
  }
  return [`${result.name}: ${result.what}`, ...(table.length === 0 ? [] : [table.toString()]), ...missing, ...warnings(result).map((warning) => `! ${warning}`)].join('\n');
}
