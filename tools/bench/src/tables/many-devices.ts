/** The same traffic on one card, and spread over many of the same process; and so much that every card always has a full burst waiting. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards, type CardsSettings } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

/**
 * In all. As many as one card's rings of 512 hold without ever being full (511, and up to 32 that wait for the next completion): more,
 * and the driver would have to drop some.
 */
const IN_FLIGHT = 448;
/** On each: a burst of the default size. */
const EACH = 64;
/** What the README of @emudev/iavf-pmd says for many ports. */
const SHORT_RINGS = { rxDescriptors: 160, txDescriptors: 96 } as const;
const GOAL = 0.85;
const ONE = '1 card';

const cards = (count: number): string => (count === 1 ? ONE : `${count} cards`);

function contender(count: number, who: string, series: string, against: readonly string[], inFlight: number, rings: Pick<CardsSettings, 'rxDescriptors' | 'txDescriptors'> = {}): Contender {
  return {
    who,
    series,
    x: count,
    against: against.map((one) => ({ who: one, goal: GOAL })),
    async run({ burst, warmupMs, windowMs }) {
      using folder = new TemporaryFolder();
      await using running = await Cards.start(count, (n) => folder.file(`iavf${n}.sock`), { frameBytes: 64, inFlight, burst, ...rings });
      await sleep(warmupMs);
      const first = await running.count();
      await sleep(windowMs);
      const second = await running.count();
      const lost = second.lost + (await running.discarded());
      if (lost > 0) throw new Error(`${lost} frames lost in a closed loop`);
      return { mpps: (second.received - first.received) / (second.at - first.at) / 1000, residentMb: running.residentMb, startMs: running.startMs };
    },
  };
}

/** The goal is against the only card at its best; the same load on one card is there to see what that alone costs. */
function eachLoaded(count: number, suffix: string, rings?: typeof SHORT_RINGS): Contender {
  const who = `${cards(count)}, ${EACH} frames each${suffix}`;
  return contender(count, who, `${EACH} frames on each card${suffix}`, count === 1 ? [] : [ONE, `${ONE}, ${EACH} frames each${suffix}`], EACH * count, rings);
}

const manyDevices: Table = {
  what: `frames of 64 bytes round and round between two processes, one processor each, over 1 to 64 cards: ${IN_FLIGHT} in all, and ${EACH} on each card, the latter also with driver rings of ${SHORT_RINGS.rxDescriptors} and ${SHORT_RINGS.txDescriptors} descriptors instead of 512; million frames per second, all cards together`,
  figures: [
    { name: 'mpps', unit: 'Mpps', better: 'more' },
    { name: 'residentMb', unit: 'MB', better: 'less' },
    { name: 'startMs', unit: 'ms', better: 'less' },
  ],
  x: 'cards',
  contenders: () => [
    ...[1, 2, 4, 8, 16, 32, 64].map((count) => contender(count, cards(count), `${IN_FLIGHT} frames in all`, count === 1 ? [] : [ONE], IN_FLIGHT)),
    contender(64, '64 cards, short rings', `${IN_FLIGHT} frames in all, short rings`, [ONE], IN_FLIGHT, SHORT_RINGS),
    ...[1, 4, 16, 64].map((count) => eachLoaded(count, '')),
    ...[1, 4, 16, 64].map((count) => eachLoaded(count, ', short rings', SHORT_RINGS)),
  ],
};
export default manyDevices;
