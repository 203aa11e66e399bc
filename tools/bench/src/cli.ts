#!/usr/bin/env node
/** `pnpm bench [TABLE…] [--json]`: ratios against peers from one run on one machine. */
import { loadavg } from 'node:os';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { loadTable, TABLES_FOLDER, tableNames } from './load-tables.ts';
import { thisMachine } from './machine.ts';
import { measure } from './measure.ts';
import { renderTable } from './render-text.ts';
import { RESULT_VERSION, type BenchResult } from './result.ts';
import type { Effort } from './table.ts';

const number = (min: number, max: number) => (text: string): number => {
  const value = Number(text);
  if (!(value >= min && value <= max)) throw new InvalidArgumentError(`want ${min} to ${max}`);
  return value;
};

interface Options {
  readonly json?: true;
  readonly list?: true;
  readonly quick?: true;
  readonly tables: string;
  readonly runs?: number;
  readonly seconds?: number;
  readonly warmup?: number;
  readonly burst: number;
  readonly inFlight: number;
}

const program = new Command('bench')
  .description('Benchmarks: ratios against peers from one run on one machine. All tables if none is named.')
  .argument('[tables...]')
  .option('--list', 'the tables there are')
  .option('--json', 'the last line of output is one JSON object with all tables')
  .option('--quick', 'one short run of each: does it work?')
  .option('--runs <n>', 'interleaved runs of each (default 5)', number(1, 100))
  .option('--seconds <s>', 'what is counted of each run (default 3)', number(0.1, 600))
  .option('--warmup <s>', 'what is not (default 1)', number(0, 60))
  .option('--burst <n>', 'frames per burst, everywhere', number(1, 512), 64)
  .option('--in-flight <n>', 'frames that go round', number(1, 448), 256)
  .option('--tables <folder>', 'where the tables are', TABLES_FOLDER)
  .parse();

const options = program.opts<Options>();
const folder = resolve(options.tables);
const names = tableNames(folder);
const unknown = program.args.find((name) => !names.includes(name));
if (unknown !== undefined) program.error(`no table ${unknown}: there are ${names.join(', ')}`);
const loaded = await Promise.all((program.args.length === 0 ? names : program.args).map((name) => loadTable(folder, name)));
if (options.list === true) {
  for (const table of loaded) console.log('broken' in table ? `${table.name}: cannot be loaded: ${table.broken}` : `${table.name}: ${table.table.what}`);
  process.exit();
}

const quick = options.quick === true;
const runs = options.runs ?? (quick ? 1 : 5);
const seconds = options.seconds ?? (quick ? 0.5 : 3);
const warmupSeconds = options.warmup ?? (quick ? 0.2 : 1);
const effort: Effort = { runs, windowMs: seconds * 1000, warmupMs: warmupSeconds * 1000, burst: options.burst, inFlight: options.inFlight, quick };
const results: BenchResult['tables'][number][] = [];
for (const one of loaded) {
  const { name } = one;
  try {
    if ('broken' in one) throw new Error(one.broken);
    const { what, figures, x } = one.table;
    const loadBefore = loadavg()[0]!;
    const rows = await measure(name, one.table, effort, (text) => { console.error(text); });
    const result = { name, what, figures, ...(x === undefined ? {} : { x }), rows, noise: { loadBefore, stolen: 0, others: 0, busiest: [] } };
    results.push(result);
    console.log(renderTable(result));
  } catch (error) {
    const broken = error instanceof Error ? error.message : String(error);
    results.push({ name, broken });
    console.log(`${name}: not measured: ${broken}`);
  }
}
const machine = thisMachine();
console.log(`${machine.cpu}, ${String(machine.cpus)} processors, Linux ${machine.kernel}, Node ${machine.node}${machine.pinned ? ', one processor per process' : ', not pinned'}`);
console.log(`${String(runs)} runs of ${String(seconds)} s after ${String(warmupSeconds)} s; bursts of ${String(effort.burst)}, ${String(effort.inFlight)} frames going round. Median; spread = (largest - smallest) / median.`);
if (options.json === true) {
  const result: BenchResult = { version: RESULT_VERSION, date: new Date().toISOString(), machine, effort: { runs, seconds, warmupSeconds, burst: effort.burst, inFlight: effort.inFlight, quick }, tables: results };
  console.log(JSON.stringify(result));
}
