/** The same traffic on one card, and spread over many of the same process. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

const COUNTS = [1, 2, 4, 8, 16, 32, 64];
/** In all: eight for each of the most cards. */
const IN_FLIGHT = 512;
const GOAL = 0.85;

function contender(count: number): Contender {
  return {
    who: count === 1 ? '1 card' : `${count} cards`,
    x: count,
    against: count === 1 ? [] : [{ who: '1 card', goal: GOAL }],
    async run({ burst, warmupMs, windowMs }) {
      using folder = new TemporaryFolder();
      await using cards = await Cards.start(count, (n) => folder.file(`iavf${n}.sock`), { frameBytes: 64, inFlight: IN_FLIGHT, burst });
      await sleep(warmupMs);
      const first = await cards.count();
      await sleep(windowMs);
      const second = await cards.count();
      if (second.lost > 0) throw new Error(`${second.lost} frames lost in a closed loop`);
      return { mpps: (second.received - first.received) / (second.at - first.at) / 1000, residentMb: cards.residentMb, startMs: cards.startMs };
    },
  };
}

const manyDevices: Table = {
  what: `${IN_FLIGHT} frames of 64 bytes round and round between two processes, one processor each, over 1 to 64 cards; million frames per second, all cards together`,
  figures: [
    { name: 'mpps', unit: 'Mpps', better: 'more' },
    { name: 'residentMb', unit: 'MB', better: 'less' },
    { name: 'startMs', unit: 'ms', better: 'less' },
  ],
  x: 'cards',
  contenders: () => COUNTS.map(contender),
};
export default manyDevices;
