/**
 * The driver process of a loop: `node iavf-driver.ts SOCKET FRAME_BYTES FRAMES_IN_FLIGHT BURST`. Our iavf driver forwards to itself
 * whatever comes, primed with so many frames; a JSON line with the count of received frames and the time answers every line on stdin.
 */
import { createInterface } from 'node:readline';
import { attachWindow, Quiescence, Window } from '@emudev/dma';
import { allocateBurst, LcorePool, type CreateDatapath } from '@emudev/ethdev';
import { IavfPort, VfioUserTransport } from '@emudev/iavf-pmd';

const [socket = '', frameText = '60', inFlightText = '256', burstText = '64'] = process.argv.slice(2);
const frameBytes = Number(frameText);
const burstFrames = Number(burstText);

await using undo = new AsyncDisposableStack();
const window = undo.use(Window.open());
const port = await IavfPort.open('net_iavf0', (w, sys) => VfioUserTransport.connect(socket, w, sys));
undo.defer(() => port.close());
const pool = undo.use(await LcorePool.start(1, { window, quiescence: Quiescence.of(window) }));
await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
await port.start();
undo.defer(() => port.stop());
while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));

// testpmd's `start tx_first`: the frames that go round and round from now on.
const { module, init } = port.datapath();
const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
const datapath = await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0 }, init as never);
{
  using burst = allocateBurst(window, 1);
  window.u8.set(port.info.mac!, burst.arena);
  window.u8.set([2, 0, 0, 0, 0, 1, 0x88, 0xb5], burst.arena + 6);
  window.u32[burst.records >>> 2] = burst.arena;
  window.u32[(burst.records >>> 2) + 1] = frameBytes;
  let sent = 0;
  while (sent < Number(inFlightText)) sent += datapath.txBurst(0, burst, 1);
}
const stream = await pool.lcores[0]!.addStream({ rxPort: port, rxQueue: 0, txPort: port, txQueue: 0, engine: { name: 'io' }, burst: burstFrames });
undo.defer(() => pool.lcores[0]!.removeStream(stream));

console.log(JSON.stringify({ ready: true, trapped: port.trapsDoorbells }));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'quit') break;
  const { ipackets, oerrors, ierrors } = port.stats();
  console.log(JSON.stringify({ received: Number(ipackets), at: performance.now(), lost: Number(oerrors + ierrors + stream.stats().dropped) }));
}
