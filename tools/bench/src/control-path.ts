/** One register read and its answer, between two processes: our server beside one that sleeps in recvmsg. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMs } from './processes.ts';
import { roundTrips, startClient, startServer, type RoundTrips } from './register-pair.ts';
import { median, round } from './statistics.ts';
import type { Row, Table } from './tables.ts';

const IDLE_MS = 2000;

/** The last one is what the others are measured against. */
const PAIRS: readonly { readonly who: string; readonly client: 'ours' | 'blocking'; readonly server: 'spinning' | 'sleeping' | 'blocking' }[] = [
  { who: 'our client, our server', client: 'ours', server: 'spinning' },
  { who: 'blocking client, our server', client: 'blocking', server: 'spinning' },
  { who: 'blocking client, our server without spin', client: 'blocking', server: 'sleeping' },
  { who: 'blocking client, blocking server', client: 'blocking', server: 'blocking' },
];

interface Sample extends RoundTrips {
  /** Of the server, percent of one processor. */
  readonly busyCpu: number;
  readonly idleCpu: number;
}

async function measure(client: string, server: string, warmupMs: number, windowMs: number): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-bench-'));
  try {
    const socket = join(folder, 'registers.sock');
    await using serving = await startServer(socket, server, 0);
    await using reading = await startClient(socket, client, 1);
    const cpuDuring = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
      const [before, at] = [cpuMs(serving.process.pid!), performance.now()];
      const result = await work();
      return [result, (100 * (cpuMs(serving.process.pid!) - before)) / (performance.now() - at)];
    };
    await roundTrips(reading, warmupMs);
    const [times, busyCpu] = await cpuDuring(() => roundTrips(reading, windowMs));
    // Connected, and silent.
    const [, idleCpu] = await cpuDuring(() => sleep(IDLE_MS));
    return { ...times, busyCpu, idleCpu };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const controlPath: Table = {
  name: 'control-path',
  what: 'round trip of a 4-byte REGION_READ between two processes, microseconds; "faster" = p50 of the blocking pair of the same run / this p50; processor time of the server while busy and over 2 s of silence',
  async measure(effort, progress) {
    const runs: Map<string, Sample>[] = [];
    for (let run = 1; run <= effort.runs; run++) {
      const samples = new Map<string, Sample>();
      for (const { who, client, server } of PAIRS) {
        const sample = await measure(client, server, effort.warmupMs, effort.windowMs);
        samples.set(who, sample);
        progress(`control-path run ${run}/${effort.runs} ${who}: p50 ${sample.p50.toFixed(1)} us, p99 ${sample.p99.toFixed(1)} us`);
      }
      runs.push(samples);
    }
    const reference = PAIRS.at(-1)!.who;
    return PAIRS.map(({ who }): Row => {
      const of = (field: keyof Sample): number => round(median(runs.map((samples) => samples.get(who)![field])), 1);
      const faster = runs.map((samples) => samples.get(reference)!.p50 / samples.get(who)!.p50);
      return { who, p50Us: of('p50'), p99Us: of('p99'), meanUs: of('mean'), faster: round(median(faster), 2), best: round(Math.max(...faster), 2), busyCpuPercent: of('busyCpu'), idleCpuPercent: of('idleCpu'), runs: runs.length };
    });
  },
};
