/** In a target: notes down what must never happen, and counts what it holds. */
import { readFileSync } from 'node:fs';
import { countMappings, countOpenFds } from '@emudev/linux';
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

/** Of a quiet moment: garbage is collected first. */
export function takeCounts(): Counts {
  globalThis.gc?.();
  const taken: Counts = {
    descriptors: countOpenFds(), mappings: countMappings('fuzz-memory'), heapBytes: process.memoryUsage().heapUsed + process.memoryUsage().external, rssBytes: anonymousBytes(),
    defects: defects.splice(0), tally: { ...tally },
  };
  return taken;
}

/** Without shared pages: those belong to the memory that is mapped. */
function anonymousBytes(): number {
  const kib = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kib) * 1024;
}
