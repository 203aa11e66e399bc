import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('the example of the README is the one that runs in readme-example.test.ts', () => {
  const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
  expect(read('../README.md')).toContain(`\`\`\`ts\n${read('./readme-example.test.ts')}\`\`\``);
});
