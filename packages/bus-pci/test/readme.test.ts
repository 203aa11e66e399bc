import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('the example in the README runs', () => {
  const folder = new URL('..', import.meta.url).pathname;
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${folder}README.md`, 'utf8'))![1]!;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module-typescript', '-e', code], { cwd: folder, encoding: 'utf8', timeout: 30_000 });
  expect({ stdout, stderr, status }).toEqual({ stdout: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 vfio-user:/run/vm0.sock\n', stderr: '', status: 0 });
});
