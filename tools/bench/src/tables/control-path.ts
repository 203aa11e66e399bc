/** One register read and its answer, between two processes: our server beside one that sleeps in recvmsg. */
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMs, TemporaryFolder } from '../processes.ts';
import { roundTrips, startClient, startServer } from '../register-pair.ts';
import type { Contender, Table } from '../table.ts';

const IDLE_MS = 2000;

/** The last one is what the others are measured against. */
const PAIRS: readonly { readonly who: string; readonly client: 'ours' | 'blocking'; readonly server: 'spinning' | 'sleeping' | 'blocking' }[] = [
  { who: 'our client, our server', client: 'ours', server: 'spinning' },
  { who: 'blocking client, our server', client: 'blocking', server: 'spinning' },
  { who: 'blocking client, our server without spin', client: 'blocking', server: 'sleeping' },
  { who: 'blocking client, blocking server', client: 'blocking', server: 'blocking' },
];
const REFERENCE = PAIRS.at(-1)!.who;

async function measure(client: string, server: string, warmupMs: number, windowMs: number): Promise<Readonly<Record<string, number>>> {
  using folder = new TemporaryFolder();
  const socket = folder.file('registers.sock');
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
  return { p50Us: times.p50, p99Us: times.p99, meanUs: times.mean, busyCpuPercent: busyCpu, idleCpuPercent: idleCpu };
}

const controlPath: Table = {
  what: 'round trip of a 4-byte REGION_READ between two processes, microseconds; processor time of the server while busy and over 2 s of silence',
  figures: [
    { name: 'p50Us', unit: 'us', better: 'less' },
    { name: 'p99Us', unit: 'us', better: 'less' },
    { name: 'meanUs', unit: 'us', better: 'less' },
    { name: 'busyCpuPercent', unit: '% of a processor', better: 'less' },
    { name: 'idleCpuPercent', unit: '% of a processor', better: 'less' },
  ],
  contenders: () => PAIRS.map(({ who, client, server }): Contender => ({
    who,
    against: who === REFERENCE ? [] : [{ who: REFERENCE }],
    run: (effort) => measure(client, server, effort.warmupMs, effort.windowMs),
  })),
};
export default controlPath;
