import { expect, test } from 'vitest';
import { compare, isSameMachine } from '../src/baseline.ts';
import type { Machine } from '../src/machine.ts';
import { measure } from '../src/measure.ts';
import { renderPage } from '../src/page.ts';
import { plot } from '../src/plots.ts';
import { renderTable, warnings } from '../src/render-text.ts';
import { decodeResult, encodeResult } from '../src/result-json.ts';
import type { BenchResult, MeasuredRow, TableResult } from '../src/result.ts';
import type { Against, Effort, Table } from '../src/table.ts';

const EFFORT: Effort = { runs: 3, warmupMs: 0, windowMs: 1, burst: 64, inFlight: 256, quick: false };
const MACHINE: Machine = { cpu: 'Z80', cpus: 2, memoryMb: 64, kernel: '7.0', node: 'v24', commit: 'abc', pinned: true, virtual: false, sharedCore: false, governor: 'performance', loadBefore: 0, peers: { gcc: '14.2', iperf3: null } };

/** A table whose contenders answer with what is listed, run by run; NaN fails. */
function listed(rows: Record<string, { mpps: number[]; us?: number[]; against?: readonly Against[] }>): Table {
  return {
    what: 'listed figures', figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }, { name: 'us', unit: 'us', better: 'less' }],
    contenders: () => Object.entries(rows).map(([who, { mpps, us, against }]) => {
      let run = 0;
      return { who, ...(against === undefined ? {} : { against }), run: () => Promise.resolve({ mpps: mpps[run]!, us: us?.[run++] ?? (run++, 1) }) };
    }),
  };
}

async function result(table: Table, machine: Machine = MACHINE): Promise<BenchResult> {
  const rows = await measure('listed', table, EFFORT, () => {});
  const measured: TableResult = { name: 'listed', what: table.what, figures: table.figures, rows, noise: { stolen: 0, others: 0, busiest: [] } };
  return { version: 1, date: '2026-01-02T03:04:05.678Z', machine, effort: { runs: 3, seconds: 0.1, warmupSeconds: 0, burst: 64, inFlight: 256, quick: false }, tables: [measured] };
}
const tableOf = ({ tables }: BenchResult): TableResult => tables[0] as TableResult;

test('a ratio is taken run by run, and turned round where less is better', async () => {
  // The machine was ten times as slow in the second run: for both.
  const against = [{ who: 'peer', goal: 2 }, { who: 'peer', figure: 'us', goal: 3 }];
  const { rows } = tableOf(await result(listed({ ours: { mpps: [20, 2, 22], us: [5, 50, 5], against }, peer: { mpps: [10, 1, 10], us: [10, 100, 10] } })));
  expect((rows[0] as MeasuredRow).ratios).toMatchObject([{ figure: 'mpps', samples: [2, 2, 2.2], median: 2, met: true }, { figure: 'us', samples: [2, 2, 2], met: false }]);
});

test('a failed run is counted; ratios are of the runs that both have', async () => {
  const { rows } = tableOf(await result(listed({ ours: { mpps: [20, NaN, 30], against: [{ who: 'peer' }] }, peer: { mpps: [10, 10, NaN] } })));
  expect(rows[0]).toMatchObject({ runs: 2, failed: 1, failure: 'its mpps is NaN, not a number', ratios: [{ samples: [2] }] });
});

test('a comparison with somebody who is not there is a mistake of the table', async () => {
  await expect(result(listed({ ours: { mpps: [1, 1, 1], against: [{ who: 'nobody' }] } }))).rejects.toThrow('no nobody to compare with');
});

test('what is written is read again, and anything else refused with its place', async () => {
  const written = await result(listed({ ours: { mpps: [20, 21, 22], against: [{ who: 'peer', goal: 2 }] }, peer: { mpps: [10, NaN, 10] }, gone: { mpps: [NaN, NaN, NaN] } }));
  const json = encodeResult(written);
  expect(decodeResult(json)).toEqual(JSON.parse(JSON.stringify(written, (_, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(6)) : value))));
  const broken = (from: string, to: string): (() => unknown) => () => decodeResult(json.replace(from, to));
  expect(json).toContain('"median":21');
  expect(broken('"median":21', '"median":"21"')).toThrow('tables[0].rows[0].figures.mpps.median: want a number, not "21"');
  expect(broken('"figures":{"mpps"', '"figures":{"other"')).toThrow('tables[0].rows[0].figures.mpps: want a summary, not nothing');
  expect(broken('"version":1', '"version":2')).toThrow('version: want 1, not 2');
  expect(() => decodeResult('[]')).toThrow('the file: want an object');
  expect(() => decodeResult('{')).toThrow('no JSON');
});

test('a baseline: ratios from any machine, figures from the same one; outside the noise where ranges do not touch', async () => {
  const against = [{ who: 'peer' }];
  const before = await result(listed({ ours: { mpps: [20, 21, 22], us: [5, 5, 6], against }, peer: { mpps: [10, 10, 10] }, old: { mpps: [1, 1, 1] } }));
  const now = await result(listed({ ours: { mpps: [23, 24, 25], us: [6, 7, 8], against }, peer: { mpps: [10, 10.5, 11] } }));
  const { sameMachine, changes, unmatched } = compare(before, now);
  expect(sameMachine).toBe(true);
  expect(unmatched).toEqual(['listed, old']);
  expect(changes.map(({ who, what, verdict }) => [who, what, verdict])).toEqual([
    ['ours', 'mpps against peer', 'better'], ['ours', 'mpps', 'better'], ['ours', 'us', 'within the noise'],
    ['peer', 'mpps', 'within the noise'], ['peer', 'us', 'within the noise'],
  ]);
  const elsewhere = compare({ ...before, machine: { ...MACHINE, cpu: '6502' } }, now);
  expect(elsewhere.changes.map(({ what }) => what)).toEqual(['mpps against peer']);
  expect(isSameMachine(MACHINE, { ...MACHINE, kernel: '8.0', loadBefore: 3 })).toBe(true);
});

test('too few runs say nothing', async () => {
  const table = (): Table => listed({ ours: { mpps: [20, NaN, NaN] } });
  const { changes } = compare(await result(table()), await result(table()));
  expect(new Set(changes.map(({ verdict }) => verdict))).toEqual(new Set(['too few runs to say']));
});

test('what makes figures doubtful is said', async () => {
  const table = tableOf(await result(listed({ wide: { mpps: [10, 12, 13] }, tight: { mpps: [10, 10, 11] } })));
  expect(warnings(table)).toEqual(['spread above 20 %: wide 25 %']);
  expect(warnings({ ...table, noise: { stolen: 0.1, others: 0.5, busiest: ['cc1plus (7) 90 %'] } }).slice(1)).toEqual([
    'the hypervisor gave 10 % of the processors\' time to others', 'other processes took 50 % of the processors\' time: cc1plus (7) 90 %',
  ]);
  expect(renderTable(table)).toContain('! spread above 20 %: wide 25 %');
});

test('the page: what others wrote stays, what was measured is put in, what was not is not made up', async () => {
  const page = 'Before | after.\n<!-- figures listed -->\nold\n<!-- end of listed -->\nBetween.\n<!-- figures other -->\n<!-- end of other -->\n';
  const rendered = renderPage(page, new Map([['listed', await result(listed({ 'a|b': { mpps: [1, 1, 1] } }))]]));
  expect(rendered).toContain('Before | after.\n<!-- figures listed -->\n|  | mpps (Mpps) |');
  expect(rendered).toContain('| a\\|b | 1 | 1 | 0 % | 1 .. 1 | 3 |  |');
  expect(rendered).toContain('- Measured 2026-01-02 on Z80, 2 processors, Linux 7.0, Node v24, commit abc,');
  expect(rendered).toContain('Peers: gcc 14.2, iperf3 not installed.');
  expect(rendered).toContain('No figures are stored yet: `npx pnpm bench other --publish`');
  expect(() => renderPage('<!-- figures listed -->', new Map())).toThrow('no "<!-- end of listed -->"');
});

test('a plot has a bar or a point for every row that has figures', async () => {
  const table = tableOf(await result(listed({ fast: { mpps: [3, 3, 4] }, slow: { mpps: [1, 1, 2] }, gone: { mpps: [NaN, NaN, NaN] } })));
  const bars = (await plot(table))!;
  expect(bars.match(/aria-roledescription="bar"/g)).toHaveLength(2);
  expect(bars).not.toContain('gone');
  const rows = table.rows.map((row, i) => ({ ...row, x: 2 ** i, series: 'ours' }));
  expect((await plot({ ...table, x: 'devices', rows }))!.match(/aria-roledescription="point"/g)).toHaveLength(2);
  expect(await plot({ ...table, rows: [] })).toBeUndefined();
});
