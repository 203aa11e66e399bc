/** What `vfio-user trace` between client and server costs: the same register read with and without it. */
import { fileURLToPath } from 'node:url';
import { Child, TemporaryFolder } from '../processes.ts';
import { roundTrips, START_MS, startClient, startServer, type RoundTrips } from '../register-pair.ts';
import type { Contender, Table } from '../table.ts';

const CLI = fileURLToPath(new URL('../../../../apps/vfio-user/dist/cli.js', import.meta.url));

const PAIRS = [
  { who: 'blocking client, blocking server', client: 'blocking', server: 'blocking' },
  { who: 'blocking client, our server', client: 'blocking', server: 'spinning' },
  { who: 'our client, our server', client: 'ours', server: 'spinning' },
] as const;

/** Nothing is pinned: three processes are to find their places themselves, as a user's do. */
async function measure(client: string, server: string, traced: boolean, warmupMs: number, windowMs: number): Promise<RoundTrips> {
  using folder = new TemporaryFolder();
  const device = folder.file('device.sock');
  const listen = folder.file('trace.sock');
  await using _serving = await startServer(device, server);
  await using tracing = traced ? new Child('vfio-user trace', [process.execPath, CLI, 'trace', listen, device, '-o', folder.file('lines')]) : undefined;
  await tracing?.line((line) => line.includes('clients that connect'), START_MS);
  await using reading = await startClient(traced ? listen : device, client);
  await roundTrips(reading, warmupMs);
  return await roundTrips(reading, windowMs);
}

const traceLatency: Table = {
  what: 'round trip of a 4-byte REGION_READ without and with "vfio-user trace -o FILE" in between, microseconds; "slower" = traced p50 / direct p50 of the same run',
  figures: [
    { name: 'slower', unit: 'times', better: 'less' },
    { name: 'directP50Us', unit: 'us', better: 'less' },
    { name: 'tracedP50Us', unit: 'us', better: 'less' },
    { name: 'tracedP99Us', unit: 'us', better: 'less' },
  ],
  contenders: () => PAIRS.map(({ who, client, server }): Contender => ({
    who,
    async run({ warmupMs, windowMs }) {
      const direct = await measure(client, server, false, warmupMs, windowMs);
      const traced = await measure(client, server, true, warmupMs, windowMs);
      return { slower: traced.p50 / direct.p50, directP50Us: direct.p50, tracedP50Us: traced.p50, tracedP99Us: traced.p99 };
    },
  })),
};
export default traceLatency;
