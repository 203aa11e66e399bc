/** What it costs the card to insert checksums: the same loop of the same frames, which a driver sends as they are, or asks the card to finish. */
import { iavfPair } from '../iavf-pair.ts';
import type { Table } from '../table.ts';

const FRAME_BYTES = 1500;
const PLAIN = 'as they are';

const table: Table = {
  what: `${FRAME_BYTES}-byte TCP frames round and round between two processes, sent as they are and with IPv4 and TCP checksums left to the card; million frames per second and direction`,
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders: () => [
    {
      who: 'checksums inserted', missing: iavfPair.missing, against: [{ who: PLAIN, goal: 0.6 }],
      run: async (effort) => ({ mpps: (await iavfPair.run({ frameBytes: FRAME_BYTES, content: 'tcp-checksums', ...effort })) / 1e6 }),
    },
    { who: PLAIN, missing: iavfPair.missing, run: async (effort) => ({ mpps: (await iavfPair.run({ frameBytes: FRAME_BYTES, content: 'tcp', ...effort })) / 1e6 }) },
  ],
};
export default table;
