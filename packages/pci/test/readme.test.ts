import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { Migration, MigrationState } from '../src/index.ts';

/** The nth block of TypeScript of the README, run. */
async function runExample(n: number): Promise<unknown> {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)][n]![1]!;
  const file = new URL(`./readme-example-${n}.gen.ts`, import.meta.url);
  writeFileSync(file, code.replace("'@emudev/pci'", "'../src/index.ts'"));
  try {
    return await import(file.href);
  } finally {
    rmSync(file);
  }
}

it('runs the example of the README', async () => {
  const { log } = await runExample(0) as { log: string[] };
  expect(log).toEqual(['bus master on', 'function level reset']);
});

it('runs the example of a device that can be moved', async () => {
  const { migration, pins, way } = await runExample(1) as { migration: Migration; pins: Uint8Array; way: MigrationState[] };
  expect(way).toEqual(['stop', 'stop-copy']);
  pins.fill(3);
  await migration.enter('stop', 'running');
  await migration.enter('stop-copy', 'stop');
  const state = new Uint8Array(100);
  expect(await migration.readState(state)).toBe(pins.length);
  expect(state.subarray(0, pins.length)).toEqual(pins);
});
