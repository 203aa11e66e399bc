import { readFileSync } from 'node:fs';
import * as ethdev from '@emudev/ethdev';
import { expect, test } from 'vitest';
import * as layout from '../src/layout.ts';
import * as limits from '../src/limits.ts';

test('the AssemblyScript mirror says what the TypeScript layout says', () => {
  const source = readFileSync(new URL('../src/kernels/layout.ts', import.meta.url), 'utf8');
  const mirror = new Map([...source.matchAll(/^export const (\w+): u32 = (\w+);$/gm)].map(([, name, value]) => [name!, Number(value)]));
  const truth = { ...ethdev, ...limits, ...layout } as unknown as Record<string, number>;
  expect(mirror.size).toBeGreaterThan(35);
  for (const [name, value] of mirror) expect(truth[name], name).toBe(value);
});
