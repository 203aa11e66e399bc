/**
 * `fork(steady-driver.ts, [SOCKET])`: a well-behaved driver that keeps sending numbered frames to a card that is looped back, and
 * compares what returns. Any message is answered by what it has seen since the last one.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { attachWindow, Window } from '@emudev/dma';
import { FRAME_RECORD_BYTES, allocateBurst, type CreateDatapath } from '@emudev/ethdev';
import { deviceAt, IavfPort } from '@emudev/iavf-pmd';

export interface Steady {
  readonly echoed: number;
  readonly wrong: number;
  /** Longest time that a frame was away. */
  readonly slowestMs: number;
  readonly failures: readonly string[];
}

const port = await IavfPort.open('net_iavf0', deviceAt(`vfio-user:${process.argv[2]!}`));
const failures: string[] = [];
port.onError((error) => failures.push(error.message));
await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
await port.start();
const window = Window.open();
const { module, init } = port.datapath();
const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
const path = await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0 }, init as never);
const burst = allocateBurst(window, 8);
const { u8, view } = window;
const mac = port.info.mac!;

let seen = { echoed: 0, wrong: 0, slowestMs: 0 };
process.on('message', () => {
  process.send!({ ...seen, failures } satisfies Steady);
  seen = { echoed: 0, wrong: 0, slowestMs: 0 };
});
process.on('disconnect', () => process.exit(0));
process.send!('ready');

/** One frame at a time: how long it takes is what the neighbour's attacks may not change much. */
for (let number = 0; ; number++) {
  const length = 60 + (number % 1400);
  u8.fill(0, burst.records, burst.records + FRAME_RECORD_BYTES);
  u8.fill(number & 0xff, burst.arena, burst.arena + length);
  u8.set(mac, burst.arena);
  u8.set(mac, burst.arena + 6);
  view.setUint16(burst.arena + 12, 0x88b5);
  view.setUint32(burst.arena + 14, number);
  view.setUint32(burst.records, burst.arena, true);
  view.setUint32(burst.records + 4, length, true);
  const expected = u8.slice(burst.arena, burst.arena + length);
  const sentAt = performance.now();
  while (path.txBurst(0, burst, 1) === 0) await turn();
  let count = 0;
  while ((count = path.rxBurst(0, burst, 8)) === 0) await turn();
  seen.slowestMs = Math.max(seen.slowestMs, performance.now() - sentAt);
  const at = view.getUint32(burst.records, true);
  const same = count === 1 && view.getUint32(burst.records + 4, true) === length && Buffer.compare(u8.subarray(at, at + length), expected) === 0;
  seen.echoed++;
  if (!same) seen.wrong++;
  if ((number & 63) === 0) await turn();
}
