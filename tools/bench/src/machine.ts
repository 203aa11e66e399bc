import { cpus, release, totalmem } from 'node:os';
import { canPin } from './processes.ts';

export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMb: number;
  readonly kernel: string;
  readonly node: string;
  /** Each process of a pair has a processor of its own. */
  readonly pinned: boolean;
}

export function thisMachine(): Machine {
  return { cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length, memoryMb: Math.round(totalmem() / 2 ** 20), kernel: release(), node: process.version, pinned: canPin };
}
