/**
 * One build for every package: ESM plus declarations, nothing else, so that moving to another bundler is a rename.
 * An entry is every file of `src/` that package.json's `exports` (or `bin`) names.
 */
import { readFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

interface Manifest {
  exports?: Record<string, string | { import?: string }>;
  bin?: Record<string, string>;
  emudev?: { workers?: string[] };
}

function entries(): string[] {
  const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Manifest;
  const outputs = [
    ...Object.values(manifest.exports ?? {}).map((e) => (typeof e === 'string' ? e : (e.import ?? ''))),
    ...Object.values(manifest.bin ?? {}),
    ...(manifest.emudev?.workers ?? []),
  ];
  const sources = outputs
    .map((o) => /^\.\/dist\/(.+)\.js$/.exec(o)?.[1])
    .filter((name): name is string => name !== undefined)
    .map((name) => `src/${name}.ts`);
  return [...new Set(sources)];
}

const config: ReturnType<typeof defineConfig> = defineConfig({
  entry: entries(),
  format: ['esm'],
  dts: true,
  target: 'node22',
  clean: true,
  sourcemap: false,
  splitting: true,
});

export default config;
