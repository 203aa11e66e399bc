#!/usr/bin/env node
/** `pnpm bench [TABLE…]`: ratios against peers from one run on one machine. */
import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { compare, renderComparison, type Comparison } from './baseline.ts';
import { loadTable, TABLES_FOLDER, tableNames, type LoadedTable } from './load-tables.ts';
import { thisMachine, watchNoise } from './machine.ts';
import { measure } from './measure.ts';
import { DOCS_FOLDER, publish, renderStored, writePlots } from './page.ts';
import { allPeers } from './peers.ts';
import { endAll, isEnding } from './processes.ts';
import { renderEffort, renderMachine, renderTable } from './render-text.ts';
import { decodeResult, encodeResult } from './result-json.ts';
import { missedGoals, RESULT_VERSION, type BenchResult, type BrokenTable, type EffortSpent, type TableResult } from './result.ts';
import type { Effort } from './table.ts';

const EXIT_CHECK_FAILED = 1;
const EXIT_USAGE = 2;
/** After Ctrl-C, for guests and processes to end in good order. */
const END_PATIENCE_MS = 10_000;

const number = (min: number, max: number) => (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !(value >= min && value <= max)) throw new InvalidArgumentError(`want ${String(min)} to ${String(max)}`);
  return value;
};
const integer = (min: number, max: number) => (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError(`want ${String(min)} to ${String(max)}`);
  return number(min, max)(text);
};

interface Options {
  readonly list?: true;
  readonly quick?: true;
  readonly json?: true;
  readonly check?: true;
  readonly plots?: string;
  readonly saveBaseline?: string;
  readonly baseline?: string;
  readonly publish?: true | string;
  readonly render?: true | string;
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
  .option('--quick', 'one short run of each: does it work?')
  .option('--runs <n>', 'interleaved runs of each (5)', integer(1, 100))
  .option('--seconds <s>', 'what is counted of each run (3)', number(0.1, 600))
  .option('--warmup <s>', 'what is not (1)', number(0, 60))
  .option('--burst <n>', 'frames per burst, everywhere', integer(1, 512), 64)
  .option('--in-flight <n>', 'frames that go round', integer(1, 448), 256)
  .option('--json', 'the last line of output is one JSON object with everything')
  .option('--check', 'exit code 1 if a goal is missed or could not be compared, or if something is worse than the baseline')
  .option('--plots <folder>', 'one SVG per table')
  .option('--save-baseline <file>', 'keep the result as JSON')
  .option('--baseline <file>', 'compare with a result that was kept')
  .option('--publish [docs]', 'store result and plot of each table for docs/performance.md, and put them there')
  .option('--render [docs]', 'measures nothing: makes docs/performance.md and its plots from what is stored')
  .option('--tables <folder>', 'where the tables are', TABLES_FOLDER)
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
  .parse();

const options = program.opts<Options>();
const quick = options.quick === true;
if (quick && options.publish !== undefined) program.error('what --quick finds is not for publishing');

const spent: EffortSpent = {
  runs: options.runs ?? (quick ? 1 : 5), seconds: options.seconds ?? (quick ? 0.5 : 3), warmupSeconds: options.warmup ?? (quick ? 0.2 : 1), burst: options.burst, inFlight: options.inFlight, quick,
};
const effort: Effort = { runs: spent.runs, windowMs: spent.seconds * 1000, warmupMs: spent.warmupSeconds * 1000, burst: spent.burst, inFlight: spent.inFlight, quick };

async function load(): Promise<LoadedTable[]> {
  const folder = resolve(options.tables);
  const names = tableNames(folder);
  const unknown = program.args.find((name) => !names.includes(name));
  if (unknown !== undefined) program.error(`no table ${unknown}: there are ${names.join(', ')}`);
  return await Promise.all((program.args.length === 0 ? names : program.args).map((name) => loadTable(folder, name)));
}

function baseline(): BenchResult | undefined {
  if (options.baseline === undefined) return undefined;
  try {
    return decodeResult(readFileSync(options.baseline, 'utf8'));
  } catch (error) {
    return program.error(`${options.baseline}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function run(loaded: LoadedTable): Promise<TableResult | BrokenTable> {
  const { name } = loaded;
  if ('broken' in loaded) return { name, broken: loaded.broken };
  const { what, figures, x } = loaded.table;
  try {
    const noise = watchNoise();
    const rows = await measure(name, loaded.table, effort, (text) => { console.error(text); });
    return { name, what, figures, ...(x === undefined ? {} : { x }), rows, noise: noise() };
  } catch (error) {
    return { name, broken: error instanceof Error ? error.message : String(error) };
  }
}

/** The tool ends as soon as what runs has been cleaned up; at once when asked again. */
function endOn(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP'): void {
  process.on(signal, () => {
    const exit = (): never => process.exit(128 + constants.signals[signal]);
    if (isEnding()) exit();
    process.exitCode = 128 + constants.signals[signal];
    endAll();
    setTimeout(exit, END_PATIENCE_MS).unref();
  });
}

const tables = await load();
if (options.list === true) {
  for (const table of tables) console.log('broken' in table ? `${table.name}: cannot be loaded: ${table.broken}` : `${table.name}: ${table.table.what}`);
  process.exit();
}
if (options.render !== undefined) {
  await renderStored(options.render === true ? DOCS_FOLDER : options.render, tables.flatMap((one) => ('broken' in one ? [] : [{ name: one.name, what: one.table.what }])));
  process.exit();
}
const before = baseline();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) endOn(signal);

const machine = thisMachine();
console.log(renderMachine(machine));
const results: (TableResult | BrokenTable)[] = [];
for (const table of tables) {
  const result = await run(table);
  if (isEnding()) process.exit();
  results.push(result);
  console.log('broken' in result ? `${result.name}: not measured: ${result.broken}` : renderTable(result));
}
const result: BenchResult = { version: RESULT_VERSION, date: new Date().toISOString(), machine: { ...machine, peers: allPeers() }, effort: spent, tables: results };
console.log(renderEffort(spent));

const comparison: Comparison | undefined = before === undefined ? undefined : compare(before, result);
if (before !== undefined && comparison !== undefined) console.log(renderComparison(comparison, before));
if (options.saveBaseline !== undefined) writeFileSync(options.saveBaseline, `${encodeResult(result, 1)}\n`);
if (options.plots !== undefined) await writePlots(results, options.plots);
if (options.publish !== undefined) await publish(result, options.publish === true ? DOCS_FOLDER : options.publish);
if (options.check === true) {
  const failures = [
    ...results.flatMap(missedGoals),
    ...(comparison?.changes ?? []).filter(({ verdict }) => verdict === 'worse').map(({ table, who, what }) => `${table}, ${who}: ${what} is worse than the baseline`),
  ];
  for (const failure of failures) console.log(`check: ${failure}`);
  if (failures.length > 0) process.exitCode = EXIT_CHECK_FAILED;
}
if (options.json === true) console.log(encodeResult(result));
