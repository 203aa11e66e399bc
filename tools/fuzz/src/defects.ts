/** In a target: notes down what must never happen, and counts what it holds. */
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { countMappings, countOpenFds } from '@emudev/linux';
import { COLLECTIONS, COLLECTION_PAUSE_MS } from './limits.ts';
import type { Counts } from './target.ts';

const MAX_NOTED = 20;
const defects: string[] = [];
const tally: Record<string, number> = {};

export function noteDefect(what: string, error: unknown): void {
  if (defects.length < MAX_NOTED) defects.push(`${what}: ${error instanceof Error ? `${error.stack ?? error.message}` : String(error)}`);
}

export function count(name: string): void {
  tally[name] = (tally[name] ?? 0) + 1;
}

/** From now on an exception that nobody catches is a defect, and no end. */
export function catchStrays(): void {
  process.on('uncaughtException', (error) => { noteDefect('uncaught exception', error); });
  process.on('unhandledRejection', (error) => { noteDefect('unhandled rejection', error); });
  process.on('warning', (warning) => {
    if (warning.name === 'MaxListenersExceededWarning') noteDefect('warning', warning);
  });
}

/** Of a quiet moment. One collection leaves what finalizers and timers of the last session still hold: the least of several counts. */
export async function takeCounts(): Promise<Counts> {
  let heapBytes = Infinity;
  for (let round = 0; round < COLLECTIONS; round++) {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    heapBytes = Math.min(heapBytes, heapUsed + external);
    await setTimeout(COLLECTION_PAUSE_MS);
  }
  return { descriptors: countOpenFds(), mappings: countMappings('fuzz-memory'), heapBytes, rssBytes: anonymousBytes(), defects: defects.splice(0), tally: { ...tally } };
}

/** Without shared pages: those belong to the memory that is mapped. */
function anonymousBytes(): number {
  const kib = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kib) * 1024;
}
