/**
 * docs/performance.md: its text is written by hand; what stands between `<!-- figures NAME -->` and `<!-- end of NAME -->` is made from
 * docs/figures/NAME.json, a stored result of the table NAME, as is docs/figures/NAME.svg.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cells, heading, outcomes, renderEffort, renderMachine, warnings } from './render-text.ts';
import { decodeResult, encodeResult } from './result-json.ts';
import type { BenchResult, TableResult } from './result.ts';

export const DOCS_FOLDER: string = fileURLToPath(new URL('../../../docs', import.meta.url));
const PAGE = 'performance.md';
const FIGURES = 'figures';

const escaped = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ').replaceAll('<', '&lt;');
const line = (columns: readonly string[]): string => `| ${columns.map(escaped).join(' | ')} |`;

function figures(stored: BenchResult, table: TableResult): string {
  const head = heading(table);
  const rows = table.rows.map((row) => {
    const columns = cells(row, table);
    if (columns !== undefined) return line([...columns, outcomes(row, table).join('; ')]);
    return line([row.who, ...head.slice(2).map(() => ''), `not measured: ${'missing' in row ? row.missing : ''}`]);
  });
  const peers = Object.entries(stored.machine.peers).map(([name, version]) => `${name} ${version ?? 'not installed'}`).join(', ');
  const drawn = table.rows.some((row) => !('missing' in row));
  return [
    line(head), line(head.map(() => '---')), ...rows, '',
    ...(drawn ? [`![${table.name}](${FIGURES}/${table.name}.svg)`, ''] : []),
    ...warnings(table).map((warning) => `- **Doubtful:** ${escaped(warning)}`),
    `- Measured ${stored.date.slice(0, 10)} on ${escaped(renderMachine(stored.machine))}. Peers: ${escaped(peers)}.`,
    `- ${escaped(renderEffort(stored.effort))}`,
  ].join('\n');
}

const NAME = /<!-- figures ([\w-]+) -->/g;

export function tablesOnPage(page: string): string[] {
  return [...page.matchAll(NAME)].map((match) => match[1]!);
}

/** The page with the figures that are stored; `stored` by table name. */
export function renderPage(page: string, stored: ReadonlyMap<string, BenchResult>): string {
  return tablesOnPage(page).reduce((text, name) => {
    const [begin, end] = [`<!-- figures ${name} -->`, `<!-- end of ${name} -->`];
    const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
    if (to < from) throw new Error(`${PAGE}: no "${end}" behind "${begin}"`);
    const result = stored.get(name);
    const table = result?.tables.find((one) => one.name === name);
    const content = result === undefined || table === undefined || 'broken' in table ? `No figures are stored yet: \`npx pnpm bench ${name} --publish\` measures them and puts them here.` : figures(result, table);
    return `${text.slice(0, from)}\n${content}\n${text.slice(to)}`;
  }, page);
}

/** What is stored of the tables on the page. Throws ResultFormatError. */
export function storedFigures(docs: string): Map<string, BenchResult> {
  const page = readFileSync(join(docs, PAGE), 'utf8');
  const paths = tablesOnPage(page).map((name) => [name, join(docs, FIGURES, `${name}.json`)] as const);
  return new Map(paths.filter(([, path]) => existsSync(path)).map(([name, path]) => [name, decodeResult(readFileSync(path, 'utf8'))]));
}

/** Stores every table that could be measured, with its plot, and renders the page anew. */
export async function publish(result: BenchResult, docs: string): Promise<void> {
  const folder = join(docs, FIGURES);
  mkdirSync(folder, { recursive: true });
  for (const table of result.tables) {
    if ('broken' in table) continue;
    writeFileSync(join(folder, `${table.name}.json`), `${encodeResult({ ...result, tables: [table] }, 1)}\n`);
  }
  await renderStored(docs, result.tables.flatMap((table) => ('broken' in table ? [] : [table])));
}

/** A section for each table that has none: a place to write what limits it. */
export function withSections(page: string, tables: readonly { readonly name: string; readonly what: string }[]): string {
  const there = tablesOnPage(page);
  const added = tables.filter(({ name }) => !there.includes(name)).map(({ name, what }) => `\n## ${name}\n\nMeasured: ${escaped(what)}.\n\n<!-- figures ${name} -->\n<!-- end of ${name} -->\n`);
  return page + added.join('');
}

/** Makes page and plots anew from what is stored; `tables`: those that are to have a section. */
export async function renderStored(docs: string, tables: readonly { readonly name: string; readonly what: string }[]): Promise<void> {
  const page = join(docs, PAGE);
  writeFileSync(page, withSections(readFileSync(page, 'utf8'), tables));
  const stored = storedFigures(docs);
  for (const { tables } of stored.values()) await writePlots(tables, join(docs, FIGURES));
  writeFileSync(page, renderPage(readFileSync(page, 'utf8'), stored));
}

export async function writePlots(tables: BenchResult['tables'], folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  // Large, and mostly not needed.
  const { plot } = await import('./plots.ts');
  for (const table of tables) {
    const svg = 'broken' in table ? undefined : await plot(table);
    if (svg !== undefined) writeFileSync(join(folder, `${table.name}.svg`), `${svg}\n`);
  }
}
