import { ioLoop } from '../io-loop.ts';
import type { Table } from '../table.ts';

const table: Table = ioLoop(1500, { vhostUser: 2, memif: 1.5 });
export default table;
