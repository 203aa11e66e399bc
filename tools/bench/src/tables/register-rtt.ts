/** What a driver's accesses to a card's registers cost by kind. control-path compares one of them, the read, with other servers. */
import { fileURLToPath } from 'node:url';
import { startDevice } from '../iavf-pair.ts';
import { Child, TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

const PROGRAM = fileURLToPath(new URL('../access-client.ts', import.meta.url));
const START_MS = 20_000;
const REFERENCE = 'read of 4 bytes';
const KINDS: readonly (readonly [who: string, kind: string])[] = [
  [REFERENCE, 'read-4'],
  ['read of 256 bytes', 'read-256'],
  ['read of 4096 bytes', 'read-4096'],
  ['write of 4 bytes, acknowledged', 'write-4'],
  ['write of 4 bytes, posted', 'posted-4'],
  ['store into the mapped doorbell page', 'store'],
];

async function measure(kind: string, burst: number, warmupMs: number, windowMs: number): Promise<Readonly<Record<string, number>>> {
  using folder = new TemporaryFolder();
  const socket = folder.file('iavf.sock');
  await using device = startDevice(socket, burst, 0);
  await device.line((line) => line.includes(' listens on '), START_MS);
  await using client = new Child('access-client', [process.execPath, PROGRAM, socket, kind], 1);
  await client.line((line) => line === 'ready', START_MS);
  const accessesIn = async (ms: number): Promise<{ accesses: number; ms: number }> => {
    client.say(String(ms));
    return JSON.parse(await client.line((line) => line.startsWith('{'), START_MS + ms)) as { accesses: number; ms: number };
  };
  await accessesIn(warmupMs);
  const { accesses, ms } = await accessesIn(windowMs);
  return { kPerSecond: accesses / ms, eachUs: (1000 * ms) / accesses };
}

const registerRtt: Table = {
  what: "accesses of a driver to an iavf card's registers, one after the other: reads by size, writes with and without acknowledgement, and the store that a doorbell is",
  figures: [{ name: 'kPerSecond', unit: '1000/s', better: 'more' }, { name: 'eachUs', unit: 'us', better: 'less' }],
  contenders: () => KINDS.map(([who, kind]): Contender => ({
    who,
    against: who === REFERENCE ? [] : [{ who: REFERENCE }],
    run: ({ burst, warmupMs, windowMs }) => measure(kind, burst, warmupMs, windowMs),
  })),
};
export default registerRtt;
