import { runConformance, type ConformanceCase } from '@emudev/testkit';

/** Ids of the cases that fail, and why: a mutant is caught by exactly those. */
export async function failures(suite: readonly ConformanceCase[]): Promise<Record<string, string>> {
  const results = await runConformance(suite);
  return Object.fromEntries(results.filter(({ error }) => error !== undefined).map(({ id, error }) => [id, error instanceof Error ? error.message : String(error)]));
}
