import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { EXAMPLES } from '../src/index.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

it('runs the example of the README', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'examples-'));
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  const code = /```ts\n([\s\S]*?)```/.exec(README)![1]!;
  writeFileSync(file, code.replace("'@emudev/example-devices'", "'../src/index.ts'").replaceAll("'irq.sock'", JSON.stringify(join(folder, 'irq.sock'))));
  try {
    const example = (await import(file.href)) as { factorial: number; interrupt: unknown };
    expect([example.factorial, example.interrupt]).toEqual([120, { vector: 3, count: 1 }]);
  } finally {
    rmSync(file);
    rmSync(folder, { recursive: true });
  }
});

it.each(Object.keys(EXAMPLES))('names %s, with the ids it has', async (name) => {
  const row = README.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${name}\``));
  const ids = new Uint8Array(4);
  await EXAMPLES[name]!.create().read(7, 0, ids);
  const [vendor, device] = new Uint16Array(ids.buffer);
  const stated = / ([0-9a-f]{4}):([0-9a-f]{4})(?: to ([0-9a-f]{4}))? /.exec(row!)!;
  expect(Number.parseInt(stated[1]!, 16)).toBe(vendor);
  expect(device).toBeGreaterThanOrEqual(Number.parseInt(stated[2]!, 16));
  expect(device).toBeLessThanOrEqual(Number.parseInt(stated[3] ?? stated[2]!, 16));
});
