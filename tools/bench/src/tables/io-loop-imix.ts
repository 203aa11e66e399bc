import { ioLoop } from '../io-loop.ts';
import type { Table } from '../table.ts';

/** The simple Internet mix: 7 of 64 bytes to 4 of 594 to 1 of 1518, FCS included in none. */
const IMIX: readonly number[] = [64, 594, 64, 594, 64, 1518, 64, 594, 64, 594, 64, 64];

const table: Table = ioLoop(IMIX, { vhostUser: 2, memif: 1.5 });
export default table;
