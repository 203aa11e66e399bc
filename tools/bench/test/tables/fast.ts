/** A table for the tests of the tool: figures from nowhere, at once. */
import type { Table } from '../../src/table.ts';

let runs = 0;

const table: Table = {
  what: 'figures from nowhere | of <no> use',
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }, { name: 'p50Us', unit: 'us', better: 'less' }],
  contenders: () => [
    {
      who: 'ours', against: [{ who: 'slow', goal: 2 }, { who: 'slow', figure: 'p50Us', goal: 3 }, { who: 'absent', goal: 4 }], bounds: [{ figure: 'p50Us', atMost: 100 }],
      run: () => Promise.resolve({ mpps: 10 + runs++, p50Us: 10 }),
    },
    { who: 'slow', run: () => Promise.resolve({ mpps: 4, p50Us: 20 }) },
    { who: 'absent', missing: 'peer is not on the PATH (Debian: apt-get install peer)', run: () => Promise.reject(new Error('never called')) },
    { who: 'failing', run: () => Promise.reject(new Error('no frame came back')) },
  ],
};
export default table;
