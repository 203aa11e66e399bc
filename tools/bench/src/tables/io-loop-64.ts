import { ioLoop } from '../io-loop.ts';
import type { Table } from '../table.ts';

const table: Table = ioLoop(64, { vhostUser: 4, memif: 3 });
export default table;
