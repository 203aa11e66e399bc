import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { LIMITS_PAGE, limitsPage } from '../src/limits.ts';

test('docs/limits.md says what the packages say (npx pnpm limits)', () => {
  expect(readFileSync(LIMITS_PAGE, 'utf8')).toBe(limitsPage());
});
