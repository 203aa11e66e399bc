/** The same traffic on one card, and spread over many of the same process; and so much that every card always has a full burst waiting. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

/**
 * In all. As many as one card's rings of 512 hold without ever being full (511, and up to 32 that wait for the next completion): more,
 * and the driver would have to drop some.
 */
const IN_FLIGHT = 448;
/** On each: a burst of the default size. */
const EACH = 64;
const GOAL = 0.85;
const ONE = '1 card';

function contender(count: number, who: string, series: string, inFlight: number): Contender {
  return {
    who,
    series,
    x: count,
    against: who === ONE ? [] : [{ who: ONE, goal: GOAL }],
    async run({ burst, warmupMs, windowMs }) {
      using folder = new TemporaryFolder();
      await using cards = await Cards.start(count, (n) => folder.file(`iavf${n}.sock`), { frameBytes: 64, inFlight, burst });
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
  what: `frames of 64 bytes round and round between two processes, one processor each, over 1 to 64 cards: ${IN_FLIGHT} in all, and ${EACH} on each card; million frames per second, all cards together`,
  figures: [
    { name: 'mpps', unit: 'Mpps', better: 'more' },
    { name: 'residentMb', unit: 'MB', better: 'less' },
    { name: 'startMs', unit: 'ms', better: 'less' },
  ],
  x: 'cards',
  contenders: () => [
    ...[1, 2, 4, 8, 16, 32, 64].map((count) => contender(count, count === 1 ? ONE : `${count} cards`, `${IN_FLIGHT} frames in all`, IN_FLIGHT)),
    ...[4, 16, 64].map((count) => contender(count, `${count} cards, ${EACH} frames each`, `${EACH} frames on each card`, EACH * count)),
  ],
};
export default manyDevices;
