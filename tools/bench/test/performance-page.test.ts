/** docs/performance.md says what docs/figures holds: neither is edited without the other. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TABLES_FOLDER, tableNames } from '../src/load-tables.ts';
import { DOCS_FOLDER, renderPage, storedFigures, tablesOnPage } from '../src/page.ts';
import { plot } from '../src/plots.ts';

const page = readFileSync(join(DOCS_FOLDER, 'performance.md'), 'utf8');

test('every table has its place on the page, and nothing else has', () => {
  expect(tablesOnPage(page).sort()).toEqual(tableNames(TABLES_FOLDER));
});

test('the figures on the page are the stored ones', () => {
  expect(page).toBe(renderPage(page, storedFigures(DOCS_FOLDER)));
});

test('the plots show the stored figures', async () => {
  for (const [name, { tables }] of storedFigures(DOCS_FOLDER)) {
    const [table] = tables;
    const path = join(DOCS_FOLDER, 'figures', `${name}.svg`);
    const svg = table === undefined || 'broken' in table ? undefined : await plot(table);
    expect(existsSync(path) ? readFileSync(path, 'utf8') : undefined, name).toBe(svg === undefined ? undefined : `${svg}\n`);
  }
});
