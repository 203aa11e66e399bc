import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const RUN = fileURLToPath(new URL('../src/run.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'run-'));
afterAll(() => { rmSync(folder, { recursive: true }); });

/** `turbo` is a program that ends with `buildCode`, PROGRAM one that prints its arguments and ends with 3. */
function run(buildCode: number, ...args: readonly string[]): { stdout: string; stderr: string; status: number | null } {
  writeFileSync(join(folder, 'turbo'), `#!/bin/sh\necho built "$@"\nexit ${buildCode}\n`);
  chmodSync(join(folder, 'turbo'), 0o755);
  writeFileSync(join(folder, 'program.mjs'), 'console.log(JSON.stringify(process.argv.slice(2))); process.exit(3);');
  return spawnSync(process.execPath, [RUN, '@emudev/x...', join(folder, 'program.mjs'), ...args], { encoding: 'utf8', env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` } });
}

test('the program gets its arguments and the terminal; its exit code is ours; the build says nothing', () => {
  expect(run(0, '--seconds', '5', '--', 'x')).toMatchObject({ stdout: '["--seconds","5","--","x"]\n', stderr: '', status: 3 });
});

test('dashes in front, as npm wants them, are left out', () => {
  expect(run(0, '--', '--seconds', '5').stdout).toBe('["--seconds","5"]\n');
});

test('a build that fails is shown, and the program not started', () => {
  expect(run(1)).toMatchObject({ stdout: '', stderr: 'built run build --filter=@emudev/x... --output-logs=errors-only\n', status: 1 });
});
