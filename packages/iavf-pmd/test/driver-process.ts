/** `node driver-process.ts SOCKET`: a port under traffic in a process that can be killed. Says "up" and goes on until then. */
import { Quiescence } from '@emudev/dma';
import { LcorePool } from '@emudev/ethdev';
import { Driver } from './two-processes.ts';

const driver = await Driver.start(process.argv[2]!);
const { window, port } = driver;
const pool = await LcorePool.start(1, { window, quiescence: Quiescence.of(window) });
const common = { rxPort: port, rxQueue: 0, txPort: port, txQueue: 0 };
await pool.lcores[0]!.addStream({ ...common, engine: { name: 'txonly', destination: port.info.mac! } });
await pool.lcores[0]!.addStream({ ...common, engine: { name: 'rxonly' } });
while (port.stats().ipackets === 0n) await new Promise((resolve) => setImmediate(resolve));
console.log('up');
setInterval(() => undefined, 60_000);
