/** Cards that are plugged in and have nothing to do: what they cost, and how long the first frame after it takes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cards } from '../iavf-cards.ts';
import { TemporaryFolder } from '../processes.ts';
import { median, quantile } from '../statistics.ts';
import type { Contender, Table } from '../table.ts';

const SETTLE_MS = 1000;
/** Processor time is counted so often for so long; before each time the process gets a moment to be as it is when nobody stops it. */
const WINDOWS = 24;
const QUICK_WINDOWS = 4;
const WINDOW_MS = 250;
const RESUMED_MS = 50;
const TRIALS = 100;
const QUICK_TRIALS = 20;
/** Between two first frames: longer than an lcore spins. */
const PAUSE_MS = 20;

/** Per window, what each device process takes of a processor while the others are stopped, percent. In turns: what disturbs one disturbs all. */
async function cpuPercents(all: readonly Cards[], windows: number): Promise<readonly (readonly number[])[]> {
  const percents: number[][] = [];
  for (const cards of all) cards.pause();
  try {
    for (let window = 0; window < windows; window++) {
      const row: number[] = [];
      for (const cards of all) {
        cards.resume();
        await sleep(RESUMED_MS);
        const [before, at] = [cards.runMs, performance.now()];
        await sleep(WINDOW_MS);
        row.push((100 * (cards.runMs - before)) / (performance.now() - at));
        cards.pause();
      }
      percents.push(row);
    }
  } finally {
    for (const cards of all) cards.resume();
  }
  return percents;
}

function contender(count: number): Contender {
  return {
    who: count === 1 ? '1 card' : `${count} cards`,
    x: count,
    bounds: [
      { figure: 'firstP50Us', atMost: 200 },
      ...(count === 1 ? [] : [{ figure: 'cpuEachPercent', atMost: 0.2 }, { figure: 'residentEachMb', atMost: 8 }]),
    ],
    async run({ burst, quick }) {
      await using undo = new AsyncDisposableStack();
      const start = async (cards: number): Promise<Cards> => {
        const folder = undo.use(new TemporaryFolder());
        return undo.use(await Cards.start(cards, (n) => folder.file(`iavf${n}.sock`), { frameBytes: 64, inFlight: 0, burst }));
      };
      const one = await start(1);
      // Else the first one's lcore would take part of the processor on which the others start.
      one.pause();
      let cards = one;
      try {
        if (count !== 1) cards = await start(count);
      } finally {
        one.resume();
      }
      await sleep(SETTLE_MS);
      const percents = await cpuPercents(count === 1 ? [one] : [cards, one], quick ? QUICK_WINDOWS : WINDOWS);
      const further = Math.max(1, count - 1);
      const [residentMb, residentEachMb] = [cards.residentMb, (cards.residentMb - one.residentMb) / further];
      if (cards !== one) one.pause();
      const firstUs: number[] = [];
      try {
        for (let trial = 0; trial < (quick ? QUICK_TRIALS : TRIALS); trial++) {
          // Not in step with the sleeps of the other side.
          await sleep(PAUSE_MS + 10 * Math.random());
          firstUs.push(await cards.firstUs(trial % count));
        }
      } finally {
        if (cards !== one) one.resume();
      }
      return {
        cpuPercent: median(percents.map(([all]) => all!)),
        residentMb,
        // Of the differences in each window: what comes and goes with the machine is in both.
        cpuEachPercent: count === 1 ? 0 : median(percents.map(([all, first]) => (all! - first!) / further)),
        residentEachMb,
        firstP50Us: median(firstUs),
        firstP99Us: quantile(firstUs, 0.99),
        firstMaxUs: Math.max(...firstUs),
        startMs: cards.startMs,
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
