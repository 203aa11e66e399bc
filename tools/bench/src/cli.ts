#!/usr/bin/env node
/** `pnpm bench [TABLE…] [--json]`: ratios against peers from one run on one machine. */
import { cpus, loadavg, release, totalmem } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import CliTable from 'cli-table3';
import { canPin } from './processes.ts';
import { TABLES, type Row } from './tables.ts';

const number = (min: number, max: number) => (text: string): number => {
  const value = Number(text);
  if (!(value >= min && value <= max)) throw new InvalidArgumentError(`want ${min} to ${max}`);
  return value;
};

interface Options {
  readonly json?: true;
  readonly runs: number;
  readonly seconds: number;
  readonly warmup: number;
  readonly burst: number;
  readonly inFlight: number;
}

const machine = {
  cpu: cpus()[0]?.model ?? 'unknown',
  cpus: cpus().length,
  memoryMb: Math.round(totalmem() / 2 ** 20),
  kernel: release(),
  node: process.version,
  pinned: canPin,
  /** Others at work on this machine before the first run: above a fraction of `cpus`, the figures are not worth much. */
  loadBefore: loadavg()[0]!,
};

function draw(name: string, what: string, rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((column) => column !== 'missing');
  const table = new CliTable({ head: columns, style: { head: [], border: [] } });
  for (const row of rows) {
    if ('missing' in row) table.push([row.who, { colSpan: Math.max(1, columns.length - 1), content: `not measured: ${row.missing}` }]);
    else table.push(columns.map((column) => String((row as Record<string, number | string>)[column] ?? '')));
  }
  return `${name}: ${what}\n${table.toString()}`;
}

const program = new Command('bench')
  .description(`Benchmarks. Tables: ${TABLES.map((table) => table.name).join(', ')}; all of them if none is named.`)
  .argument('[tables...]')
  .option('--json', 'the last line of output is one JSON object with all tables')
  .option('--runs <n>', 'interleaved runs of each', number(1, 100), 3)
  .option('--seconds <s>', 'what is counted of each run', number(0.5, 600), 3)
  .option('--warmup <s>', 'what is not', number(0, 60), 1)
  .option('--burst <n>', 'frames per burst, everywhere', number(1, 512), 64)
  .option('--in-flight <n>', 'frames that go round', number(1, 448), 256)
  .parse();

const options = program.opts<Options>();
const chosen = program.args.length === 0 ? TABLES : program.args.map((name) => {
  const table = TABLES.find((candidate) => candidate.name === name);
  if (table === undefined) return program.error(`no table ${name}: there are ${TABLES.map((t) => t.name).join(', ')}`);
  return table;
});
const effort = { runs: options.runs, windowMs: options.seconds * 1000, warmupMs: options.warmup * 1000, burst: options.burst, inFlight: options.inFlight };
const results: { name: string; rows: readonly Row[] }[] = [];
for (const table of chosen) {
  const rows = await table.measure(effort, (text) => {
    console.error(text);
  });
  results.push({ name: table.name, rows });
  console.log(draw(table.name, table.what, rows));
}
console.log(`${machine.cpu}, ${machine.cpus} processors, Linux ${machine.kernel}, Node ${machine.node}${machine.pinned ? ', one processor per process' : ', not pinned'}; load before: ${machine.loadBefore.toFixed(1)}`);
console.log(`${options.runs} runs of ${options.seconds} s after ${options.warmup} s; bursts of ${options.burst}, ${options.inFlight} frames going round. Median; spread = (largest - smallest) / median.`);
if (options.json === true) console.log(JSON.stringify({ tables: results, machine }));
