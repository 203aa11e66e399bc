import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const privileged = spawnSync('unshare', ['-n', 'true']).status === 0;

test.runIf(privileged)('the example in the README runs', () => {
  const folder = new URL('..', import.meta.url).pathname;
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${folder}README.md`, 'utf8'))![1]!;
  const { stdout, stderr, status } = spawnSync('unshare', ['-n', process.execPath, '--no-warnings', '--input-type=module-typescript', '-e', code], { cwd: folder, encoding: 'utf8', timeout: 30_000 });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  expect(stdout).toBe('true\n');
});
