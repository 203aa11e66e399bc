/** Cards that are plugged in and have nothing to do: what they cost, and how long the first frame after it takes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import { median, quantile } from '../statistics.ts';
import type { Contender, Effort, Table } from '../table.ts';

const SETTLE_MS = 1000;
const IDLE_MS = 5000;
const QUICK_IDLE_MS = 1000;
const TRIALS = 100;
const QUICK_TRIALS = 20;
/** Between two first frames: longer than an lcore spins. */
const PAUSE_MS = 20;

interface Cost {
  readonly cpuPercent: number;
  readonly residentMb: number;
  readonly startMs: number;
  readonly firstUs: readonly number[];
}

async function costOf(count: number, { burst, quick }: Effort): Promise<Cost> {
  using folder = new TemporaryFolder();
  await using cards = await Cards.start(count, (n) => folder.file(`iavf${n}.sock`), { frameBytes: 64, inFlight: 0, burst });
  await sleep(SETTLE_MS);
  const [before, at] = [cards.cpuMs, performance.now()];
  await sleep(quick ? QUICK_IDLE_MS : IDLE_MS);
  const cpuPercent = (100 * (cards.cpuMs - before)) / (performance.now() - at);
  const { residentMb } = cards;
  const firstUs: number[] = [];
  for (let trial = 0; trial < (quick ? QUICK_TRIALS : TRIALS); trial++) {
    // Not in step with the sleeps of the other side.
    await sleep(PAUSE_MS + 10 * Math.random());
    firstUs.push(await cards.firstUs(trial % count));
  }
  return { cpuPercent, residentMb, startMs: cards.startMs, firstUs };
}

function contender(count: number): Contender {
  return {
    who: count === 1 ? '1 card' : `${count} cards`,
    x: count,
    bounds: [
      { figure: 'firstP50Us', atMost: 200 },
      ...(count === 1 ? [] : [{ figure: 'cpuEachPercent', atMost: 0.2 }, { figure: 'residentEachMb', atMost: 8 }]),
    ],
    async run(effort) {
      const one = await costOf(1, effort);
      const cost = count === 1 ? one : await costOf(count, effort);
      const further = Math.max(1, count - 1);
      return {
        cpuPercent: cost.cpuPercent,
        residentMb: cost.residentMb,
        cpuEachPercent: Math.max(0, cost.cpuPercent - one.cpuPercent) / further,
        residentEachMb: (cost.residentMb - one.residentMb) / further,
        firstP50Us: median(cost.firstUs),
        firstP99Us: quantile(cost.firstUs, 0.99),
        firstMaxUs: Math.max(...cost.firstUs),
        startMs: cost.startMs,
      };
    },
  };
}

const idle: Table = {
  what: 'a device process whose cards have link and no traffic: processor and memory, in all and for each card but the first; a single frame, after a pause, through the card and back; start until all sockets listen',
  figures: [
    { name: 'cpuPercent', unit: '% of a processor', better: 'less' },
    { name: 'residentMb', unit: 'MB', better: 'less' },
    { name: 'cpuEachPercent', unit: '% of a processor', better: 'less' },
    { name: 'residentEachMb', unit: 'MB', better: 'less' },
    { name: 'firstP50Us', unit: 'us', better: 'less' },
    { name: 'firstP99Us', unit: 'us', better: 'less' },
    { name: 'firstMaxUs', unit: 'us', better: 'less' },
    { name: 'startMs', unit: 'ms', better: 'less' },
  ],
  contenders: () => [1, 8, 32].map(contender),
};
export default idle;
