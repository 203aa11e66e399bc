import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DeviceProcess } from './two-processes.ts';

test('the example of the README runs', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]+?)```/.exec(readme)![1]!;
  // Inside the package, so that its imports resolve.
  const folder = mkdtempSync(new URL('./readme-', import.meta.url).pathname);
  try {
    writeFileSync(`${folder}/example.ts`, code);
    const { reflect } = (await import(`${folder}/example.ts`)) as { reflect(socket: string): Promise<AsyncDisposable> };
    await using device = await DeviceProcess.start();
    {
      await using running = await reflect(device.socket);
      expect(running).toBeDefined();
    }
    expect(device.running).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
