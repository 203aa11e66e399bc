/** Text and data on stdout, no faster than whoever reads it. */
import { once } from 'node:events';
import { createColors } from 'picocolors';
import { printable } from './printable.ts';

/** picocolors by itself also colours where the variable CI is set: whoever reads a pipe gets none. */
export const colors: ReturnType<typeof createColors> = createColors((process.stdout.isTTY as boolean | undefined) === true && process.env['NO_COLOR'] === undefined);

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
  const lines = safe.map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!))).join('  '));
  return lines.map((line, i) => `${i === 0 ? colors.bold(line) : line}\n`).join('');
}
