import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renderPage, storedFigures } from '../src/page.ts';
import { decodeResult } from '../src/result-json.ts';
import type { MeasuredRow, TableResult } from '../src/result.ts';

const PROGRAM = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
const FAKE_TABLES = fileURLToPath(new URL('./tables', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bench-test-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function bench(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8' });
}
const fake = (...args: string[]): ReturnType<typeof bench> => bench('--tables', FAKE_TABLES, ...args);
const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1)!;
function onlyTable(stdout: string): TableResult {
  const [table] = decodeResult(lastLine(stdout)).tables;
  if (table === undefined || 'broken' in table) throw new Error(`not measured: ${String(table?.broken)}`);
  return table;
}

describe('a table of figures from nowhere', () => {
  test('its rows, ratios and goals are told to people, and to programs in the last line', () => {
    const { status, stdout, stderr } = fake('fast', '--json');
    expect(status).toBe(0);
    expect(stdout).toContain('3x of slow, goal 2x: met');
    expect(stdout).toContain('2x of slow (p50Us), goal 3x: missed');
    expect(stdout).toContain('not compared with absent, goal 4x: peer is not on the PATH (Debian: apt-get install peer)');
    expect(stdout).toContain('not measured: no frame came back');
    expect(stdout).toContain('! spread above 20 %: ours 33 %');
    expect(stdout).toContain('5 interleaved runs');
    expect(stderr.split('\n').slice(0, 4)).toEqual(['fast run 1/5 ours: 10 Mpps', 'fast run 1/5 slow: 4 Mpps', 'fast run 1/5 failing: failed: no frame came back', 'fast run 2/5 ours: 11 Mpps']);
    const ours = onlyTable(stdout).rows[0] as MeasuredRow;
    expect(ours).toMatchObject({ who: 'ours', runs: 5, figures: { mpps: { median: 12, q1: 11, q3: 13, samples: [10, 11, 12, 13, 14] } } });
    // The short form beside the long one.
    expect(JSON.parse(lastLine(stdout))).toMatchObject({ tables: [{ rows: [{ who: 'ours', mpps: 12, spread: 0.333, runs: 5 }, { mpps: 4 }, { who: 'absent' }, { who: 'failing' }] }] });
  });

  test('--check: exit code 1, and what was missed', () => {
    const { status, stdout } = fake('fast', '--check');
    expect(status).toBe(1);
    expect(stdout.split('\n').filter((line) => line.startsWith('check: '))).toEqual([
      'check: fast, ours: 2x of slow (p50Us), goal 3x: missed',
      'check: fast, ours: not compared with absent, goal 4x: peer is not on the PATH (Debian: apt-get install peer)',
    ]);
  });

  test('a table that cannot be loaded says so, and the others run', () => {
    const { status, stdout } = fake('broken', 'fast', '--quick');
    expect(status).toBe(0);
    expect(stdout).toContain('broken: not measured: half written');
    expect(stdout).toContain('goal 2x: met');
    expect(fake('--list').stdout).toContain('broken: cannot be loaded: half written');
  });

  test('a baseline is kept, and compared with', () => {
    const file = join(folder, 'baseline.json');
    expect(fake('fast', '--save-baseline', file).status).toBe(0);
    const { stdout } = fake('fast', '--baseline', file);
    expect(stdout).toMatch(/against the baseline of .*: the same machine/);
    expect(stdout).toContain('fast, ours: mpps against slow 3 -> 3 (1.00 times): within the noise');
    writeFileSync(file, readFileSync(file, 'utf8').replaceAll('"version": 1', '"version": 0'));
    const refused = fake('fast', '--baseline', file);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('version: want 1, not 0') as unknown });
  });

  test('plots and the page of figures', () => {
    const docs = join(folder, 'docs');
    mkdirSync(docs);
    writeFileSync(join(docs, 'performance.md'), '# Figures\n\n<!-- figures fast -->\n<!-- end of fast -->\n\nText.\n');
    expect(fake('fast', '--publish', docs, '--plots', join(folder, 'plots')).status).toBe(0);
    for (const svg of [join(docs, 'figures/fast.svg'), join(folder, 'plots/fast.svg')]) expect(readFileSync(svg, 'utf8')).toMatch(/^<svg [^]*ours[^]*<\/svg>\n$/);
    const page = readFileSync(join(docs, 'performance.md'), 'utf8');
    expect(page).toContain('| ours | 12 | 10 | 33 % | 11 .. 13 | 5 | 3x of slow, goal 2x: met; 2x of slow (p50Us), goal 3x: missed;');
    expect(page).toMatch(/<!-- end of fast -->\n\nText\.\n$/);
    expect(renderPage(page, storedFigures(docs))).toBe(page);
    expect(fake('fast', 'children', '--render', docs).status).toBe(0);
    expect(readFileSync(join(docs, 'performance.md'), 'utf8')).toBe(`${page}\n## children\n\nMeasured: a run that never ends.\n\n<!-- figures children -->\nNo figures are stored yet: \`npx pnpm bench children --publish\` measures them and puts them here.\n<!-- end of children -->\n`);
    expect(fake('fast', '--publish', docs, '--quick').status).toBe(2);
  });

  test('an unknown table is refused', () => {
    const { status, stderr } = fake('io-loop-65');
    expect(status).toBe(2);
    expect(stderr).toContain('no table io-loop-65');
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends the processes of a run and removes its folder', async (signal) => {
  const tool = spawn(process.execPath, [PROGRAM, '--tables', FAKE_TABLES, 'children'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = once(tool, 'exit');
  let run: { pid: number; folder: string } | undefined;
  for await (const line of createInterface({ input: tool.stdout })) {
    if (!line.startsWith('{')) continue;
    run = JSON.parse(line) as typeof run;
    break;
  }
  expect(alive(run!.pid) && existsSync(run!.folder)).toBe(true);
  tool.kill(signal);
  expect(await ended).toEqual([signal === 'SIGINT' ? 130 : 143, null]);
  expect(alive(run!.pid) || existsSync(run!.folder)).toBe(false);
});

test('a real loop: a peer is measured or said to be missing', () => {
  const { status, stdout } = bench('io-loop-64', '--json', '--quick');
  expect(status).toBe(0);
  const { rows } = onlyTable(stdout);
  expect(rows.map(({ who }) => who)).toEqual(['iavf', 'vhost-user', 'memif', 'vhost-user, defaults', 'memif, defaults']);
  expect(rows[0]).toMatchObject({ runs: 1 });
  expect((rows[0] as MeasuredRow).figures['mpps']!.median).toBeGreaterThan(0);
});

test('the control path is measured between real processes', () => {
  const { status, stdout } = bench('control-path', '--json', '--quick');
  expect(status).toBe(0);
  const rows = onlyTable(stdout).rows as MeasuredRow[];
  expect(rows.map(({ who }) => who)).toEqual(['our client, our server', 'blocking client, our server', 'blocking client, our server without spin', 'blocking client, blocking server']);
  for (const { figures } of rows) {
    expect(figures['p50Us']!.median).toBeGreaterThan(0);
    expect(figures['p99Us']!.median).toBeGreaterThanOrEqual(figures['p50Us']!.median);
    // A server that looks for messages nobody sends would have a whole processor.
    expect(figures['idleCpuPercent']!.median).toBeLessThan(50);
  }
});
