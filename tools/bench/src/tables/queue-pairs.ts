/** One guest's queue pairs over lcores: what a second lcore brings where there is a processor for it, and costs where there is none. */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

const REFERENCE = '1 queue pair on 1 lcore';

function contender(pairs: number, lcores: number): Contender {
  const who = pairs === 1 ? REFERENCE : `${pairs} queue pairs on ${lcores} lcore${lcores === 1 ? '' : 's'}`;
  return {
    who,
    against: who === REFERENCE ? [] : [{ who: REFERENCE }],
    async run({ burst, inFlight, warmupMs, windowMs }) {
      using folder = new TemporaryFolder();
      await using cards = await Cards.start(1, () => folder.file('iavf.sock'), { frameBytes: 64, inFlight, burst, queues: pairs, lcores });
      await sleep(warmupMs);
      const first = await cards.count();
      await sleep(windowMs);
      const second = await cards.count();
      if (second.lost > 0) throw new Error(`${second.lost} frames lost in a closed loop`);
      return { mpps: (second.received - first.received) / (second.at - first.at) / 1000 };
    },
  };
}

const queuePairs: Table = {
  what: `64-byte frames round and round between two processes, queue pairs of one card over lcores, as many lcores in the driver as it has queue pairs, on ${availableParallelism()} processors; million frames per second`,
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders: () => [contender(1, 1), contender(2, 1), contender(2, 2)],
};
export default queuePairs;
