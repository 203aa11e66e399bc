import { readFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { linux } from '@emudev/linux';
import { controlPath } from './control-path.ts';
import { iavfPair, startDevice, startDriver } from './iavf-pair.ts';
import type { PairKind } from './pair.ts';
import { cpuMs, type Child } from './processes.ts';
import { median, round, spread } from './statistics.ts';
import { traceLatency } from './trace-latency.ts';
import { memifPair, vhostUserPair } from './testpmd-pair.ts';

export interface Effort {
  readonly runs: number;
  readonly warmupMs: number;
  readonly windowMs: number;
  readonly burst: number;
  readonly inFlight: number;
}

/** Numbers by column name, or why there are none. */
export type Row = { readonly who: string } & ({ readonly missing: string } | Readonly<Record<string, number | string>>);

export interface Table {
  readonly name: string;
  readonly what: string;
  measure(effort: Effort, progress: (text: string) => void): Promise<Row[]>;
}

/** Interleaved: every pair once, then every pair again, so that a slow minute of the machine hits them all. */
function ioLoop(frameBytes: number): Table {
  const pairs: readonly PairKind[] = [iavfPair, vhostUserPair, memifPair];
  return {
    name: `io-loop-${frameBytes}`,
    what: `${frameBytes}-byte frames round and round between two processes, one processor each; million frames per second and direction`,
    async measure(effort, progress) {
      const rates = new Map<string, number[]>(pairs.map(({ who }) => [who, []]));
      const failures = new Map<string, string>();
      for (let run = 1; run <= effort.runs; run++) {
        for (const pair of pairs) {
          if (pair.missing !== undefined) continue;
          try {
            const pps = await pair.run({ frameBytes, ...effort });
            rates.get(pair.who)!.push(pps / 1e6);
            progress(`io-loop-${frameBytes} run ${run}/${effort.runs} ${pair.who}: ${(pps / 1e6).toFixed(2)} Mpps`);
          } catch (error) {
            const why = error instanceof Error ? error.message : String(error);
            failures.set(pair.who, why);
            progress(`io-loop-${frameBytes} run ${run}/${effort.runs} ${pair.who}: failed: ${why}`);
          }
        }
      }
      return pairs.map(({ who, missing }): Row => {
        const all = rates.get(who)!;
        if (all.length === 0) return { who, missing: missing ?? failures.get(who) ?? 'no run' };
        return { who, mpps: round(median(all), 3), spread: round(spread(all), 3), runs: all.length };
      });
    },
  };
}

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

async function firstAccept(device: Child, socket: string): Promise<number> {
  const begin = performance.now();
  for (;;) {
    if (device.process.exitCode !== null) throw new Error(`iavf-device ended with ${device.process.exitCode}`);
    try {
      linux.close(linux.unixConnect(socket));
      return performance.now() - begin;
    } catch {
      await sleep(1);
    }
  }
}

const idle: Table = {
  name: 'idle',
  what: 'a device process with one card and an idle driver: memory, processor over 5 s, and start to the first accepted connection',
  async measure(effort, progress) {
    const samples: { rss: number; cpu: number; start: number }[] = [];
    for (let run = 1; run <= effort.runs; run++) {
      const folder = mkdtempSync(join(tmpdir(), 'emudev-bench-'));
      try {
        const socket = join(folder, 'iavf.sock');
        await using device = startDevice(socket, effort.burst, 0);
        const start = await firstAccept(device, socket);
        await using _driver = await startDriver(socket, { frameBytes: 64, inFlight: 0, burst: effort.burst }, 1);
        await sleep(1000);
        const pid = device.process.pid!;
        const [cpuBefore, at] = [cpuMs(pid), performance.now()];
        await sleep(5000);
        const cpu = (100 * (cpuMs(pid) - cpuBefore)) / (performance.now() - at);
        samples.push({ rss: residentMb(pid), cpu, start });
        progress(`idle run ${run}/${effort.runs}: ${cpu.toFixed(1)} % CPU`);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
    const of = (field: 'rss' | 'cpu' | 'start'): number => median(samples.map((sample) => sample[field]));
    return [{ who: 'iavf', rssMb: round(of('rss'), 1), cpuPercent: round(of('cpu'), 2), startMs: round(of('start'), 0), runs: samples.length }];
  },
};

export const TABLES: readonly Table[] = [ioLoop(64), ioLoop(1500), idle, controlPath, traceLatency];
