/**
 * The driver process of two cards on a switch: `node switch-driver.ts FRAME_BYTES FRAMES_IN_FLIGHT BURST SOCKET SOCKET`. What comes in on
 * one card goes out on the other, and the switch brings it back: each card sends so many frames for the other at first. Answers every line
 * on stdin as loop-end.ts does, for both cards together.
 */
import { createInterface } from 'node:readline';
import { attachWindow, Quiescence, Window } from '@emudev/dma';
import { allocateBurst, LcorePool, type CreateDatapath, type Stream } from '@emudev/ethdev';
import { BufferPool, deviceAt, IavfPort } from '@emudev/iavf-pmd';
import { ringsFor } from './loop-end.ts';

const [frameText = '60', inFlightText = '256', burstText = '64', ...sockets] = process.argv.slice(2);

await using undo = new AsyncDisposableStack();
const window = undo.use(Window.open());
const bufferPool = undo.use(BufferPool.open({ queuePairs: sockets.length }));
const ports: IavfPort[] = [];
for (const [n, socket] of sockets.entries()) {
  const port = await IavfPort.open(`net_iavf${n}`, deviceAt(`vfio-user:${socket}`), { pool: bufferPool, ...ringsFor(Number(inFlightText), Number(burstText)) });
  if (!port.sharesBuffers) throw new Error(`${port.name} has buffers of its own`);
  undo.defer(() => port.close());
  await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
  await port.start();
  ports.push(port);
}
// Of two cards that are connected directly, neither has a link before both have been started.
for (const port of ports) while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));
const [first, second] = ports as [IavfPort, IavfPort];
const ways = [[first, second], [second, first]] as const;

for (const [from, to] of ways) {
  const { module, init } = from.datapath();
  const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
  const datapath = await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0, sendsTo: [] }, init as never);
  using burst = allocateBurst(window, 1);
  for (let sent = 0; sent < Number(inFlightText);) {
    window.u8.set(to.info.mac!, burst.arena);
    window.u8.set(from.info.mac!, burst.arena + 6);
    window.u8.set([0x88, 0xb5], burst.arena + 12);
    window.u32.fill(0, burst.records >>> 2, (burst.records >>> 2) + 8);
    window.u32[burst.records >>> 2] = burst.arena;
    window.u32[(burst.records >>> 2) + 1] = Number(frameText);
    sent += datapath.txBurst(0, burst, 1);
  }
}

const pool = undo.use(await LcorePool.start(1, { window, quiescence: Quiescence.of(window) }));
const streams: Stream[] = [];
for (const [rxPort, txPort] of ways) {
  const stream = await pool.lcores[0]!.addStream({ rxPort, rxQueue: 0, txPort, txQueue: 0, engine: { name: 'io' }, burst: Number(burstText) });
  streams.push(stream);
  undo.defer(() => pool.lcores[0]!.removeStream(stream));
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'quit') break;
  const stats = ports.map((port) => port.stats());
  const lost = stats.reduce((sum, { oerrors, ierrors }) => sum + oerrors + ierrors, 0n) + streams.reduce((sum, stream) => sum + stream.stats().dropped, 0n);
  console.log(JSON.stringify({ received: Number(stats.reduce((sum, { ipackets }) => sum + ipackets, 0n)), at: performance.now(), lost: Number(lost) }));
}
