import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test('the example of the README runs', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]+?)```/.exec(readme)![1]!;
  // Inside the package, so that its imports resolve.
  const folder = mkdtempSync(new URL('./readme-', import.meta.url).pathname);
  const socket = `${folder}/card.sock`;
  const child = spawn(process.execPath, ['--no-warnings', fileURLToPath(new URL('device.process.ts', import.meta.url)), socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    writeFileSync(`${folder}/example.ts`, code);
    const { hello } = (await import(`${folder}/example.ts`)) as { hello(address: string): Promise<string> };
    let said = '';
    while (!said.includes('ready')) said += String((await once(child.stdout, 'data'))[0]);
    expect(await hello(`vfio-user:${socket}`)).toBe('hello\n');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    rmSync(folder, { recursive: true });
  }
});
