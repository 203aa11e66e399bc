/** A process with one memif port: `node round-trip.ts server|client SOCKET`. Says 'listening', then 'round' when a hundred of its frames have come back. */
import { FrameBench, testFrame } from '@emudev/testkit';
import { MemifPort } from '@emudev/net-memif';

const [role, socket] = process.argv.slice(2) as ['server' | 'client', string];
const port = MemifPort.open('net_memif1', { role, socket, socketAbstract: false, reconnectMs: 20 });
const bench = new FrameBench();
await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
await port.start();
console.log('listening');
const datapath = await bench.load(port);
let sent = 0;
let seen = 0;
// Until it is killed.
for (;;) {
  if (sent - seen < 64) sent += bench.send(datapath, 0, [testFrame(sent)]);
  const before = seen;
  for (const { bytes } of bench.receive(datapath, 0)) if (Buffer.compare(bytes, testFrame(seen)) === 0) seen++;
  if (before < 100 && seen >= 100) console.log('round');
  await new Promise((resolve) => setTimeout(resolve, seen === before ? 2 : 0));
}
