import { memifLoops } from '../memif-loops.ts';
import type { Contender, Table } from '../table.ts';

const REFERENCE = memifLoops.at(-1)!.who;
const FRAME_BYTES = [64, 1500];

const table: Table = {
  what: 'frames round and round between two processes over memif, one processor each; million frames per second and direction',
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders: () => FRAME_BYTES.flatMap((frameBytes) => memifLoops.map(({ who, missing, run }): Contender => ({
    who: `${who}, ${frameBytes} bytes`,
    missing,
    against: who === REFERENCE ? [] : [{ who: `${REFERENCE}, ${frameBytes} bytes` }],
    run: async (effort) => ({ mpps: (await run({ frameBytes, ...effort })) / 1e6 }),
  }))),
};
export default table;
