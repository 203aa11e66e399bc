/**
 * The JSON form, written and read. Beside what result.ts describes, every measured row has its medians by figure name and the spread
 * of the first figure (`mpps`, `spread`): for programs that want no more than that. They are left out again when it is read.
 */
import { RESULT_VERSION, type BenchResult, type Row } from './result.ts';
import { significant } from './statistics.ts';

export class ResultFormatError extends Error {
  override readonly name = 'ResultFormatError';
  readonly code = 'ERR_BENCH_RESULT';
}

export function encodeResult(result: BenchResult, indent = 0): string {
  const tables = result.tables.map((table) => {
    if ('broken' in table) return table;
    return { ...table, rows: table.rows.map((row) => ('missing' in row ? row : flattened(row, table.figures))) };
  });
  return JSON.stringify({ ...result, tables }, (_, value: unknown) => (typeof value === 'number' && !Number.isInteger(value) ? significant(value, 6) : value), indent);
}

function flattened(row: Exclude<Row, { missing: string }>, figures: readonly { readonly name: string }[]): object {
  const medians = figures.map(({ name }) => [name, significant(row.figures[name]!.median, 4)]);
  // `figures`, `runs` and so on win over a figure that is called like them.
  return { ...Object.fromEntries(medians), spread: significant(row.figures[figures[0]!.name]!.spread, 3), ...row };
}

type Check = (value: unknown, path: string) => void;

function fail(path: string, wanted: string, value: unknown): never {
  throw new ResultFormatError(`${path || 'the file'}: want ${wanted}, not ${(JSON.stringify(value) as string | undefined)?.slice(0, 60) ?? 'nothing'}`);
}

const is = (type: 'string' | 'number' | 'boolean'): Check => (value, path) => {
  if (typeof value !== type) fail(path, `a ${type}`, value);
};
const text = is('string');
const number = is('number');
const flag = is('boolean');
const either = (...values: readonly unknown[]): Check => (value, path) => {
  if (!values.includes(value)) fail(path, values.join(' or '), value);
};
const nullOr = (check: Check): Check => (value, path) => {
  if (value !== null) check(value, path);
};
const optional = (check: Check): Check => (value, path) => {
  if (value !== undefined) check(value, path);
};
const list = (check: Check, least = 0): Check => (value, path) => {
  if (!Array.isArray(value) || value.length < least) fail(path, least === 0 ? 'a list' : `a list of at least ${String(least)}`, value);
  for (const [i, one] of (value as unknown[]).entries()) check(one, `${path}[${String(i)}]`);
};
const map = (check: Check): Check => (value, path) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, 'an object', value);
  for (const [key, one] of Object.entries(value as object)) check(one, `${path}.${key}`);
};
const fields = (checks: Readonly<Record<string, Check>>): Check => (value, path) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, 'an object', value);
  for (const [key, check] of Object.entries(checks)) check((value as Record<string, unknown>)[key], path === '' ? key : `${path}.${key}`);
};
const has = (key: string, value: unknown): boolean => typeof value === 'object' && value !== null && key in value;
/** One form for objects that have `key`, another for the rest. */
const byKey = (key: string, withKey: Check, without: Check): Check => (value, path) => {
  (has(key, value) ? withKey : without)(value, path);
};

const SUMMARY = { median: number, q1: number, q3: number, min: number, max: number, spread: number, samples: list(number, 1) };
const COMPARED = { who: text, figure: text, goal: optional(number) };
const ratios = list(byKey('missing', fields({ ...COMPARED, missing: text }), fields({ ...COMPARED, met: optional(flag), ...SUMMARY })));
const bounds = list(fields({ figure: text, atLeast: optional(number), atMost: optional(number), met: flag }));
const row = byKey('missing', fields({ who: text, missing: text, ratios }), fields({
  who: text, runs: number, failed: optional(number), failure: optional(text), x: optional(number), series: optional(text), figures: map(fields(SUMMARY)), ratios, bounds,
}));
const table = byKey('broken', fields({ name: text, broken: text }), (value, path) => {
  fields({
    name: text, what: text, x: optional(text), rows: list(row),
    figures: list(fields({ name: text, unit: text, better: either('more', 'less') }), 1),
    noise: fields({ stolen: number, others: number, busiest: list(text) }),
  })(value, path);
  const { figures, rows } = value as { figures: { name: string }[]; rows: Record<string, unknown>[] };
  for (const [i, one] of rows.entries()) {
    for (const { name } of figures) if (!has('missing', one) && !has(name, one['figures'])) fail(`${path}.rows[${String(i)}].figures.${name}`, 'a summary', undefined);
  }
});
const result = fields({
  version: either(RESULT_VERSION), date: text, tables: list(table),
  machine: fields({
    cpu: text, cpus: number, memoryMb: number, kernel: text, node: text, commit: nullOr(text), pinned: flag, virtual: flag, sharedCore: flag, governor: nullOr(text), loadBefore: number,
    peers: map(nullOr(text)),
  }),
  effort: fields({ runs: number, seconds: number, warmupSeconds: number, burst: number, inFlight: number, quick: flag }),
});

const ROW_KEYS = ['who', 'missing', 'runs', 'failed', 'failure', 'x', 'series', 'figures', 'ratios', 'bounds'];

/** Throws ResultFormatError: what is wrong, and where. */
export function decodeResult(json: string): BenchResult {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new ResultFormatError('no JSON', { cause: error });
  }
  result(value, '');
  const checked = value as BenchResult;
  const only = (one: Row): Row => Object.fromEntries(Object.entries(one).filter(([key]) => ROW_KEYS.includes(key))) as unknown as Row;
  return { ...checked, tables: checked.tables.map((one) => ('broken' in one ? one : { ...one, rows: one.rows.map(only) })) };
}
