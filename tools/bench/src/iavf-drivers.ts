/**
 * The driver process for many cards: `node iavf-drivers.ts FRAME_BYTES FRAMES_IN_FLIGHT BURST QUEUES RXD TXD SOCKET…`, with so many descriptors
 * in each ring. With frames in flight (in all; spread evenly) our iavf driver forwards to itself on every queue pair of every card, one lcore
 * for each queue pair of a card; without, the cards are idle. Frames are UDP over IPv4, each of a flow of its own, so that RSS spreads them.
 * Answers a JSON line to every line on stdin: `count` (frames received, and lost by the driver, by all), `discarded` (frames that devices
 * had no descriptor for), `first CARD` (microseconds until a frame that is sent comes back).
 */
import { createInterface } from 'node:readline';
import { attachWindow, Quiescence, Window } from '@emudev/dma';
import { allocateBurst, LcorePool, type Burst, type CreateDatapath, type PortDatapath, type Stream } from '@emudev/ethdev';
import { deviceAt, IavfPort } from '@emudev/iavf-pmd';

const [frameText = '60', inFlightText = '0', burstText = '64', queuesText = '1', rxdText = '512', txdText = '512', ...sockets] = process.argv.slice(2);
const frameBytes = Number(frameText);
const queues = Number(queuesText);
const FIRST_PATIENCE_MS = 1000;

await using undo = new AsyncDisposableStack();
const window = undo.use(Window.open());
const burst: Burst = undo.use(allocateBurst(window, 64));
const cards: { readonly port: IavfPort; readonly datapath: PortDatapath }[] = [];
for (const [n, socket] of sockets.entries()) {
  const port = await IavfPort.open(`net_iavf${n}`, deviceAt(`vfio-user:${socket}`), { queues, rxDescriptors: Number(rxdText), txDescriptors: Number(txdText) });
  undo.defer(() => port.close());
  await port.configure({ rxQueues: queues, txQueues: queues, peerTxCapabilities: 0 });
  await port.start();
  while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));
  const { module, init } = port.datapath();
  const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
  cards.push({ port, datapath: await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0, sendsTo: [] }, init as never) });
}

function send({ port, datapath }: (typeof cards)[number], frames: number): void {
  for (let sent = 0; sent < frames;) {
    window.u8.set(port.info.mac!, burst.arena);
    window.u8.set([2, 0, 0, 0, 0, 1, 0x08, 0x00], burst.arena + 6);
    // RFC 768, RFC 791: 10.0.0.1 to 10.0.0.2, a source port for each frame; no checksum is looked at here.
    window.u8.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, sent >> 8, sent & 0xff, 0, 9, 0, 26, 0, 0], burst.arena + 14);
    window.u32.fill(0, burst.records >>> 2, (burst.records >>> 2) + 8);
    window.u32[burst.records >>> 2] = burst.arena;
    window.u32[(burst.records >>> 2) + 1] = frameBytes;
    sent += datapath.txBurst(sent % queues, burst, 1);
  }
}

/** Round trip of one frame, by polling: this thread sleeps before and after, not during. */
function first(card: (typeof cards)[number]): number {
  const began = performance.now();
  send(card, 1);
  while (card.datapath.rxBurst(0, burst, 64) === 0) {
    if (performance.now() - began > FIRST_PATIENCE_MS) throw new Error('the frame did not come back');
  }
  return (performance.now() - began) * 1000;
}

const streams: Stream[] = [];
const inFlight = Number(inFlightText);
if (inFlight > 0) {
  const pool = undo.use(await LcorePool.start(queues, { window, quiescence: Quiescence.of(window) }));
  for (const card of cards) send(card, Math.max(1, Math.round(inFlight / cards.length)));
  for (const { port } of cards) {
    for (const [queue, lcore] of pool.lcores.entries()) {
      const stream = await lcore.addStream({ rxPort: port, rxQueue: queue, txPort: port, txQueue: queue, engine: { name: 'io' }, burst: Number(burstText) });
      streams.push(stream);
      undo.defer(() => lcore.removeStream(stream));
    }
  }
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, card = '0'] = line.split(' ');
  if (command === 'quit') break;
  if (command === 'first') {
    console.log(JSON.stringify({ firstUs: first(cards[Number(card)]!) }));
    continue;
  }
  if (command === 'discarded') {
    let discarded = 0n;
    for (const { port } of cards) discarded += (await port.deviceStats()).rxDiscards;
    console.log(JSON.stringify({ discarded: Number(discarded) }));
    continue;
  }
  let received = 0n;
  let lost = 0n;
  for (const { port } of cards) {
    const { ipackets, oerrors, ierrors } = port.stats();
    received += ipackets;
    lost += oerrors + ierrors;
  }
  for (const stream of streams) lost += stream.stats().dropped;
  console.log(JSON.stringify({ received: Number(received), at: performance.now(), lost: Number(lost) }));
}
