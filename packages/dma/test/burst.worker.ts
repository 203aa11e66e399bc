/** A reader with bursts of varying length; counts how often it saw the mapping gone in the middle of one. */
import { parentPort, workerData } from 'node:worker_threads';
import { QuiescentReader, attachWindow } from '@emudev/dma';
import type { ReaderCells } from '@emudev/dma';

const data = workerData as { memory: WebAssembly.Memory; base: bigint; cells: ReaderCells; shared: number; own: number; sleepy: boolean };
const { i32 } = attachWindow(data.memory, data.base);
const reader = new QuiescentReader(i32, data.cells);
const [paused, mapped, stop] = [data.shared, data.shared + 1, data.shared + 2];
const [inBurst, bursts, violations] = [data.own, data.own + 1, data.own + 2];

parentPort!.postMessage('running');
reader.online();
for (let loop = 0; Atomics.load(i32, stop) === 0; loop++) {
  if (Atomics.load(i32, paused) === 0) {
    Atomics.store(i32, inBurst, 1);
    for (let i = 0; i < (loop % 7) * 500; i++) if (Atomics.load(i32, mapped) === 0) Atomics.add(i32, violations, 1);
    Atomics.store(i32, inBurst, 0);
    Atomics.add(i32, bursts, 1);
    Atomics.notify(i32, bursts);
  }
  if (data.sleepy && loop % 3 === 0) {
    reader.offline();
    Atomics.wait(i32, paused, 1, 0.05);
    reader.online();
  }
  reader.checkpoint();
}
reader.offline();
