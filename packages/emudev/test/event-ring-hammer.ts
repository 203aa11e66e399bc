/** A worker at one end of an event ring: takes until a record of no bytes comes, or posts `records` of them. Reports a checksum. */
import { parentPort, workerData } from 'node:worker_threads';
import { attachWindow } from '@emudev/dma';
import type { EventRingHandle } from '../src/device.ts';
import { EventConsumer, EventProducer } from '../src/event-ring.ts';
import { checksum, fillRecord } from './event-ring-records.ts';

const { memory, base, handle, role, records } = workerData as { memory: WebAssembly.Memory; base: bigint; handle: EventRingHandle; role: 'take' | 'post'; records: number };
const window = attachWindow(memory, base);
if (role === 'take') {
  const consumer = new EventConsumer(window, handle);
  const into = new Uint8Array(consumer.maxRecordBytes);
  let sum = 0;
  let taken = 0;
  let sleeps = 0;
  for (;;) {
    const length = consumer.take(into);
    if (length === 0) break;
    if (length > 0) {
      sum = checksum(sum, into, length);
      taken++;
    } else {
      sleeps++;
      if (!consumer.wait(10_000)) throw new Error(`nothing for ten seconds after ${taken} records`);
    }
  }
  parentPort!.postMessage({ sum, taken, sleeps });
} else {
  const producer = new EventProducer(window, handle);
  const record = new Uint8Array(64);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let sum = 0;
  for (let i = 0; i < records; i++) {
    const length = fillRecord(record, i);
    sum = checksum(sum, record, length);
    while (!producer.post(record, length)) Atomics.wait(pause, 0, 0, 1);
  }
  parentPort!.postMessage({ sum, refused: producer.refused });
}
