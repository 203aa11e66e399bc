/** A worker that raises a vector as an lcore does: publish, then raise. It "signals" by counting. */
import { workerData } from 'node:worker_threads';
import { raiseVector } from '../src/vector.ts';

const { buffer, events } = workerData as { buffer: SharedArrayBuffer; events: number };
const i32 = new Int32Array(buffer);
const PUBLISHED = 16;
const SIGNALS = 17;
for (let i = 0; i < events; i++) {
  Atomics.add(i32, PUBLISHED, 1);
  raiseVector(i32, 0, () => {
    Atomics.add(i32, SIGNALS, 1);
    Atomics.notify(i32, SIGNALS);
    return true;
  });
}
