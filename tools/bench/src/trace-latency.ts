/** What `vfio-user trace` between client and server costs: the same register read with and without it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from './processes.ts';
import { median, round } from './statistics.ts';
import type { Row, Table } from './tables.ts';

const START_MS = 20_000;

const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const CLI = fileURLToPath(new URL('../../../apps/vfio-user/dist/cli.js', import.meta.url));

const PAIRS = [
  { who: 'blocking client, blocking server', client: 'blocking', server: 'blocking' },
  { who: 'blocking client, our server', client: 'blocking', server: 'spinning' },
  { who: 'our client, our server', client: 'ours', server: 'spinning' },
] as const;

interface Sample {
  readonly p50: number;
  readonly p99: number;
}

/** Nothing is pinned: three processes are to find their places themselves, as a user's do. */
async function measure(client: string, server: string, traced: boolean, warmupMs: number, windowMs: number): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-bench-'));
  try {
    const device = join(folder, 'device.sock');
    const listen = join(folder, 'trace.sock');
    await using serving = new Child('register-server', [process.execPath, program('./register-server.ts'), device, server]);
    await serving.line((line) => line === 'ready', START_MS);
    await using tracing = traced ? new Child('vfio-user trace', [process.execPath, CLI, 'trace', listen, device, '-o', join(folder, 'lines')]) : undefined;
    await tracing?.line((line) => line.includes('clients that connect'), START_MS);
    await using reading = new Child('register-client', [process.execPath, program('./register-client.ts'), traced ? listen : device, client]);
    await reading.line((line) => line === 'ready', START_MS);
    const read = async (ms: number): Promise<Sample> => {
      reading.say(String(ms));
      return JSON.parse(await reading.line((line) => line.startsWith('{'), START_MS + ms)) as Sample;
    };
    await read(warmupMs);
    return await read(windowMs);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const traceLatency: Table = {
  name: 'trace-latency',
  what: 'round trip of a 4-byte REGION_READ without and with "vfio-user trace -o FILE" in between, microseconds; "slower" = traced p50 / direct p50 of the same run',
  async measure(effort, progress) {
    const rows: Row[] = [];
    for (const { who, client, server } of PAIRS) {
      const runs: { direct: Sample; traced: Sample }[] = [];
      for (let run = 1; run <= effort.runs; run++) {
        const direct = await measure(client, server, false, effort.warmupMs, effort.windowMs);
        const traced = await measure(client, server, true, effort.warmupMs, effort.windowMs);
        runs.push({ direct, traced });
        progress(`trace-latency run ${run}/${effort.runs} ${who}: direct ${direct.p50.toFixed(1)} us, traced ${traced.p50.toFixed(1)} us`);
      }
      const slower = runs.map(({ direct, traced }) => traced.p50 / direct.p50);
      rows.push({
        who,
        directP50Us: round(median(runs.map(({ direct }) => direct.p50)), 1),
        tracedP50Us: round(median(runs.map(({ traced }) => traced.p50)), 1),
        tracedP99Us: round(median(runs.map(({ traced }) => traced.p99)), 1),
        slower: round(median(slower), 2),
        best: round(Math.min(...slower), 2),
        runs: runs.length,
      });
    }
    return rows;
  },
};
