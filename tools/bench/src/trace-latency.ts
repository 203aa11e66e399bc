/** What `vfio-user trace` between client and server costs: the same register read with and without it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from './processes.ts';
import { roundTrips, START_MS, startClient, startServer, type RoundTrips } from './register-pair.ts';
import { median, round } from './statistics.ts';
import type { Row, Table } from './tables.ts';

const CLI = fileURLToPath(new URL('../../../apps/vfio-user/dist/cli.js', import.meta.url));

const PAIRS = [
  { who: 'blocking client, blocking server', client: 'blocking', server: 'blocking' },
  { who: 'blocking client, our server', client: 'blocking', server: 'spinning' },
  { who: 'our client, our server', client: 'ours', server: 'spinning' },
] as const;

/** Nothing is pinned: three processes are to find their places themselves, as a user's do. */
async function measure(client: string, server: string, traced: boolean, warmupMs: number, windowMs: number): Promise<RoundTrips> {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-bench-'));
  try {
    const device = join(folder, 'device.sock');
    const listen = join(folder, 'trace.sock');
    await using _serving = await startServer(device, server);
    await using tracing = traced ? new Child('vfio-user trace', [process.execPath, CLI, 'trace', listen, device, '-o', join(folder, 'lines')]) : undefined;
    await tracing?.line((line) => line.includes('clients that connect'), START_MS);
    await using reading = await startClient(traced ? listen : device, client);
    await roundTrips(reading, warmupMs);
    return await roundTrips(reading, windowMs);
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
      const runs: { direct: RoundTrips; traced: RoundTrips }[] = [];
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
