/** Finds the tables: every `NAME.ts` of a folder is one, under the name of its file. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL, fileURLToPath } from 'node:url';
import type { Table } from './table.ts';

export const TABLES_FOLDER: string = fileURLToPath(new URL('./tables', import.meta.url));

export type LoadedTable = { readonly name: string } & ({ readonly table: Table } | { readonly broken: string });

export function tableNames(folder: string): string[] {
  return readdirSync(folder).filter((file) => file.endsWith('.ts')).map((file) => file.slice(0, -'.ts'.length)).sort();
}

/** A file that cannot be loaded says so and takes nothing else with it. */
export async function loadTable(folder: string, name: string): Promise<LoadedTable> {
  try {
    const { default: table } = (await import(pathToFileURL(join(folder, `${name}.ts`)).href)) as { default?: Partial<Table> };
    if (typeof table?.what !== 'string' || typeof table.contenders !== 'function' || !(Array.isArray(table.figures) && table.figures.length > 0)) {
      return { name, broken: 'its default export is no Table' };
    }
    return { name, table: table as Table };
  } catch (error) {
    return { name, broken: error instanceof Error ? error.message : String(error) };
  }
}
