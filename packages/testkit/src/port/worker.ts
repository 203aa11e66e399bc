import { Worker } from 'node:worker_threads';
import type { Burst, DatapathSpec } from '@emudev/ethdev';
import type { Window } from '@emudev/dma';

/** What the data path did in the other thread. */
export interface WorkerOutcome {
  readonly taken: number;
  readonly received: number;
}

/** Source text, not a file: it must run wherever the kit is, built or not. */
const SCRIPT = `
const { parentPort, workerData } = require('node:worker_threads');
const { module, init, memory, base, burst, count, max } = workerData;
(async () => {
  const { createDatapath } = await import(module);
  const { buffer } = memory;
  const context = { lcore: 1, memory, base, u8: new Uint8Array(buffer), i32: new Int32Array(buffer), u32: new Uint32Array(buffer), view: new DataView(buffer) };
  const datapath = await createDatapath(context, init);
  const taken = datapath.txBurst(0, burst, count);
  const received = datapath.rxBurst(0, burst, max);
  datapath.close?.();
  parentPort.postMessage({ taken, received });
})();
`;

/** Loads a data path in a thread of its own; there it sends the `count` frames of the burst on queue 0 and then receives into it. */
export function inWorker(spec: DatapathSpec, window: Window, burst: Burst, count: number): Promise<WorkerOutcome> {
  const { records, capacity, arena, arenaBytes } = burst;
  const workerData = { module: spec.module, init: spec.init, memory: window.memory, base: window.base, burst: { records, capacity, arena, arenaBytes }, count, max: capacity };
  const worker = new Worker(SCRIPT, { eval: true, workerData });
  return new Promise<WorkerOutcome>((resolve, reject) => {
    let outcome: WorkerOutcome | undefined;
    worker.once('message', (message: WorkerOutcome) => { outcome = message; });
    worker.once('error', reject);
    worker.once('exit', () => {
      if (outcome === undefined) reject(new Error('the thread ended without a word'));
      else resolve(outcome);
    });
  });
}
