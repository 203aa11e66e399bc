import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';

it('runs the example of the README', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  writeFileSync(file, code.replace("'@emudev/pci'", "'../src/index.ts'"));
  try {
    const example = (await import(file.href)) as { log: string[] };
    expect(example.log).toEqual(['bus master on', 'function level reset']);
  } finally {
    rmSync(file);
  }
});
