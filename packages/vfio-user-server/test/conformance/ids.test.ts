import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { PCI_FILE, PCI_IDS, SECTIONS } from './ids.ts';

it('every section has its file, and every file its section', () => {
  const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts') && name !== 'ids.test.ts');
  expect(files.sort()).toEqual(Object.keys(SECTIONS).map((section) => `${section}.test.ts`).sort());
  for (const section of Object.keys(SECTIONS)) expect(readFileSync(join(import.meta.dirname, `${section}.test.ts`), 'utf8')).toContain(`conformance('${section}', {`);
});

it('the list has as many rules as it should, none of them twice', () => {
  const all = [...Object.values(SECTIONS).flat(), ...PCI_IDS];
  expect(all).toHaveLength(198);
  expect(new Set(all).size).toBe(all.length);
});

it('the rules of configuration space are tested where it is implemented', () => {
  const named = [...readFileSync(join(import.meta.dirname, PCI_FILE), 'utf8').matchAll(/\bit\('(P\d+) /g)].map((match) => match[1]!);
  expect(named).toEqual(PCI_IDS);
});
