import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Window } from '@emudev/dma';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { expect, test } from 'vitest';
import { Card } from './card.ts';

test('the example in the README runs', async () => {
  const root = new URL('..', import.meta.url).pathname;
  const folder = mkdtempSync(join(tmpdir(), 'bus-pci-'));
  using card = new Card();
  await using server = new VfioUserServer(card, { window: Window.open() });
  await server.listen(join(folder, 'card.sock'));
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${root}README.md`, 'utf8'))![1]!.replace('/run/emudev', folder);
  // As a program that goes on for long enough to hear an interrupt.
  const program = `${code}\nfor (const turn of Array(100).keys()) await new Promise((resolve) => setTimeout(resolve, 1, turn));\n`;
  const child = spawn(process.execPath, ['--no-warnings', '--input-type=module-typescript', '-e', program], { cwd: root });
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  rmSync(folder, { recursive: true });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  expect(stdout).toMatch(/^1 interrupts, 1$/m);
  expect(stdout).toMatch(/^vfio-user:.*card\.sock has the driver card$/m);
  expect(stdout).toMatch(/^0000:06:0d\.0: there is no device 0000:06:0d\.0$/m);
});
