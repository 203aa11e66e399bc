import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { seen } from './readme-example.ts';

it('the example of the README is the one that runs here', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = readFileSync(new URL('./readme-example.ts', import.meta.url), 'utf8');
  expect(readme).toContain(example.replace("'../src/index.ts'", "'@emudev/serial-emu'"));
  expect(seen).toEqual(['hi']);
});
