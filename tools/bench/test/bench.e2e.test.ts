import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../src/cli.ts', import.meta.url));

test('a table ends in one line of JSON; a peer is measured or said to be missing', () => {
  const { status, stdout } = spawnSync(process.execPath, [PROGRAM, 'io-loop-64', '--json', '--runs', '1', '--seconds', '0.5', '--warmup', '0.2'], { encoding: 'utf8' });
  expect(status).toBe(0);
  const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { tables: { name: string; rows: { who: string; mpps?: number; missing?: string }[] }[]; machine: object };
  expect(result.tables.map((table) => table.name)).toEqual(['io-loop-64']);
  const rows = new Map(result.tables[0]!.rows.map((row) => [row.who, row]));
  expect([...rows.keys()]).toEqual(['iavf', 'vhost-user', 'memif']);
  expect(rows.get('iavf')!.mpps).toBeGreaterThan(0);
  for (const { mpps, missing } of rows.values()) expect((mpps === undefined) !== (missing === undefined)).toBe(true);
});

test('the control path is measured between real processes', () => {
  const { status, stdout } = spawnSync(process.execPath, [PROGRAM, 'control-path', '--json', '--runs', '1', '--seconds', '0.5', '--warmup', '0.1'], { encoding: 'utf8' });
  expect(status).toBe(0);
  const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { tables: { rows: { who: string; p50Us: number; p99Us: number; idleCpuPercent: number }[] }[] };
  const { rows } = result.tables[0]!;
  expect(rows.map((row) => row.who)).toEqual(['our client, our server', 'blocking client, our server', 'blocking client, our server without spin', 'blocking client, blocking server']);
  for (const { p50Us, p99Us, idleCpuPercent } of rows) {
    expect(p50Us).toBeGreaterThan(0);
    expect(p99Us).toBeGreaterThanOrEqual(p50Us);
    // A server that looks for messages nobody sends would have a whole processor.
    expect(idleCpuPercent).toBeLessThan(50);
  }
});

test('an unknown table is refused', () => {
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'io-loop-65'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('no table io-loop-65');
});
