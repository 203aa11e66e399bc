/**
 * The driver process of `memory-span`: `node span-driver.ts SOCKET GIB FRAME_BYTES FRAMES_IN_FLIGHT`. A guest of so much memory (a sparse
 * memfd) whose buffers lie on pages anywhere in it. It touches descriptors only: every frame lies ready in its buffer, so what is
 * measured is the device. A JSON line with the count of returned frames and the time answers every line on stdin.
 */
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { linux } from '@emudev/linux';
import { HandDriver, RAM_IOVA } from '../../../apps/iavf-device/test/support/hand-driver.ts';
import { Random } from '../../../apps/iavf-device/test/support/random.ts';

const [socket = '', gibText = '1', frameText = '64', inFlightText = '256'] = process.argv.slice(2);
const frameBytes = Number(frameText);
const LENGTH = 4096;
const PAGE = 4096;
const BASE = 0x100_0000_0000n;
const TX_RING = 0;
const RX_RING = 0x4_0000;
const SLICE_MS = 20;
const WARMUP_ROUNDS = 16;
const MAX_WARMUP_MS = 20_000;
/** CMD of a data descriptor: EOP, and RS on every 32nd. */
const EOP = 0x10;
const RS = 0x20;
const RS_EVERY = 32;

const driver = await HandDriver.attach(socket);
const ram = linux.memfdCreate('span-guest', { allowSealing: true });
const pages = (Number(gibText) * 2 ** 30) / PAGE;
linux.ftruncate(ram, pages * PAGE);
await driver.client.dmaMap({ iova: BASE, sizeBytes: pages * PAGE, readable: true, writable: true, fd: ram });

// Every buffer on a page of its own.
const random = new Random(0x5ba4);
const taken = new Set<number>();
while (taken.size < 2 * LENGTH) taken.add(random.below(pages));
const buffers = [...taken].map((page) => BASE + BigInt(page * PAGE));
const frame = new Uint8Array(frameBytes);
frame.set(driver.mac);
frame.set([2, 0, 0, 0, 0, 1, 0x88, 0xb5], 6);
for (const iova of buffers.slice(0, LENGTH)) linux.pwrite(ram, frame, Number(iova - BASE));

const { u32, i32 } = driver.window;
const tx = (driver.ram.offset + TX_RING) >>> 2;
const rx = (driver.ram.offset + RX_RING) >>> 2;
/** Addresses as the descriptors have them: low and high word of each slot. */
const txAddress = Uint32Array.from(buffers.slice(0, LENGTH).flatMap((iova) => [Number(iova & 0xffff_ffffn), Number(iova >> 32n)]));
const rxAddress = Uint32Array.from(buffers.slice(LENGTH).flatMap((iova) => [Number(iova & 0xffff_ffffn), Number(iova >> 32n)]));
const lengthHigh = frameBytes << 2;

function postTx(slot: number): void {
  const at = tx + 4 * slot;
  u32[at] = txAddress[2 * slot]!;
  u32[at + 1] = txAddress[2 * slot + 1]!;
  u32[at + 2] = slot % RS_EVERY === RS_EVERY - 1 ? EOP | RS : EOP;
  u32[at + 3] = lengthHigh;
}
function postRx(slot: number): void {
  const at = rx + 8 * slot;
  u32[at] = rxAddress[2 * slot]!;
  u32[at + 1] = rxAddress[2 * slot + 1]!;
  u32[at + 2] = 0;
  u32[at + 3] = 0;
}

for (let slot = 0; slot < LENGTH; slot++) postRx(slot);
await driver.filters();
const ring = { vsiId: 1, queueId: 0, ringLength: LENGTH };
await driver.configure({
  tx: { ...ring, ringAddress: RAM_IOVA + BigInt(TX_RING) },
  rx: { ...ring, ringAddress: RAM_IOVA + BigInt(RX_RING), bufferBytes: 2048, maxPacketBytes: 9728 },
});
await driver.enable(1);
const rxTail = driver.tail('rx', 0) >>> 2;
const txTail = driver.tail('tx', 0) >>> 2;
Atomics.store(i32, rxTail, LENGTH - 1);

let received = 0;
let sent = 0;
let head = 0;
/** Everything that has come back is posted and sent once more, until the time is over. */
function run(until: number): void {
  while (performance.now() < until) {
    for (let polls = 0; polls < 256; polls++) {
      let count = 0;
      while (count < 64 && (Atomics.load(u32, rx + 8 * head + 2) & 1) !== 0) {
        postRx(head);
        head = (head + 1) % LENGTH;
        postTx(sent % LENGTH);
        sent++;
        count++;
      }
      if (count === 0) continue;
      received += count;
      Atomics.store(i32, rxTail, (head + LENGTH - 1) % LENGTH);
      Atomics.store(i32, txTail, sent % LENGTH);
    }
  }
}
for (let n = 0; n < Number(inFlightText); n++) postTx(sent++ % LENGTH);
Atomics.store(i32, txTail, sent % LENGTH);

// Every buffer some times: what has to come into the window is there, and what is only in the way has left.
const warmUntil = performance.now() + MAX_WARMUP_MS;
while (received < WARMUP_ROUNDS * LENGTH && performance.now() < warmUntil) {
  run(performance.now() + SLICE_MS);
  await turn();
}
let ended = false;
const input = createInterface({ input: process.stdin });
input.on('line', () => { console.log(JSON.stringify({ received, at: performance.now(), lost: 0 })); });
input.on('close', () => { ended = true; });
console.log(JSON.stringify({ ready: true }));
while (!ended) {
  run(performance.now() + SLICE_MS);
  await turn();
}
await driver[Symbol.asyncDispose]();
linux.close(ram);
