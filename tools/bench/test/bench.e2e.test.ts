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

test('an unknown table is refused', () => {
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'io-loop-65'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('no table io-loop-65');
});
