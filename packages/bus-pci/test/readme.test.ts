import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('the example in the README runs', () => {
  const folder = new URL('..', import.meta.url).pathname;
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${folder}README.md`, 'utf8'))![1]!;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module-typescript', '-e', code], { cwd: folder, encoding: 'utf8', timeout: 30_000 });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  expect(stdout).toMatch(/^vfio-user:\/run\/absent\.sock no-socket$/m);
});
