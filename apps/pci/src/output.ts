/** Text and data on stdout, no faster than whoever reads it. */
import { once } from 'node:events';
import { printable } from './printable.ts';

export async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** Indented. 64-bit numbers are strings, `"0x…"`. */
export async function printJson(value: unknown): Promise<void> {
  await print(`${JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item), 2)}\n`);
}

/** Rows as columns with a heading; the last column is as long as it likes. */
export function table(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map((cell) => printable(cell === '' ? '-' : cell)));
  const widths = safe[0]!.map((_, column) => Math.max(...safe.map((row) => row[column]!.length)));
  return safe.map((row) => `${row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!))).join('  ')}\n`).join('');
}
