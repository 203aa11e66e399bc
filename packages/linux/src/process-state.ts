/** What this process holds, for leak tests. */
import { readFileSync, readdirSync } from 'node:fs';

/** Open descriptors of this process. */
export function countOpenFds(): number {
  // One of them is the directory being read.
  return readdirSync('/proc/self/fd').length - 1;
}

/** One line per mapping of /proc/self/maps. */
export function listMappings(): string[] {
  return readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n');
}

/** Mappings of this process whose line contains `text` (a file name such as 'memfd:ram'); all without it. */
export function countMappings(text = ''): number {
  return listMappings().filter((line) => line.includes(text)).length;
}
