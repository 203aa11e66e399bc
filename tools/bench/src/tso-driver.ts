/**
 * The driver process of the `tso` table: `node tso-driver.ts SOCKET send-large|send-small|receive`. Sends frames through our iavf driver
 * as fast as the device takes them, or receives what comes; every line on stdin is answered by what it has received.
 */
import { createInterface } from 'node:readline';
import { attachWindow, Window } from '@emudev/dma';
import { allocateBurst, FRAME_L4_TCP, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, type CreateDatapath } from '@emudev/ethdev';
import { deviceAt, IavfPort } from '@emudev/iavf-pmd';
import { HEADER_BYTES, LARGE_PAYLOAD_BYTES, SEGMENT_BYTES, tcpFrame } from './tso-frames.ts';

const FRAMES = { 'send-large': 8, 'send-small': 64, receive: 64 } as const;
/** Bursts between two looks at what else there is to do. */
const BURSTS_PER_TURN = 256;

const [socket = '', mode = 'receive'] = process.argv.slice(2) as [string, keyof typeof FRAMES];

await using undo = new AsyncDisposableStack();
const window = undo.use(Window.open());
const port = await IavfPort.open('net_iavf0', deviceAt(`vfio-user:${socket}`));
undo.defer(() => port.close());
await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
await port.start();
undo.defer(() => port.stop());
while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));
const { module, init } = port.datapath();
const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
const datapath = await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0 }, init as never);

const count = FRAMES[mode];
const large = mode === 'send-large';
const burst = undo.use(allocateBurst(window, count, 1 << 20));
if (mode !== 'receive') {
  const payload = large ? LARGE_PAYLOAD_BYTES : SEGMENT_BYTES;
  const frame = tcpFrame(Uint8Array.of(2, 0, 0, 0, 0, 1), port.info.mac!, payload, large);
  for (let i = 0; i < count; i++) {
    const data = burst.arena + i * ((frame.length + 63) & ~63);
    const record = burst.records + 32 * i;
    window.u8.set(frame, data);
    window.view.setUint32(record, data, true);
    window.view.setUint32(record + 4, frame.length, true);
    window.view.setUint32(record + 8, FRAME_TX_IPV4_CSUM | FRAME_L4_TCP | (large ? FRAME_TX_TSO : FRAME_TX_L4_CSUM), true);
    for (const [at, value] of [[14, large ? SEGMENT_BYTES : 0], [16, 14], [18, 20], [20, 32]] as const) window.view.setUint16(record + at, value, true);
  }
}

let running = true;
function turn(): void {
  if (!running) return;
  for (let i = 0; i < BURSTS_PER_TURN; i++) {
    if (mode === 'receive') datapath.rxBurst(0, burst, count);
    else datapath.txBurst(0, burst, count);
  }
  setImmediate(turn);
}
setImmediate(turn);

console.log(JSON.stringify({ ready: true, mac: [...port.info.mac!] }));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'quit') break;
  const { ipackets, ibytes } = port.stats();
  console.log(JSON.stringify({ received: Number(ipackets), payload: Number(ibytes) - Number(ipackets) * HEADER_BYTES, at: performance.now() }));
}
running = false;
