import { parentPort, workerData } from 'node:worker_threads';
import { attachWindow } from '@emudev/dma';

const { memory, base, cell } = workerData as { memory: WebAssembly.Memory; base: bigint; cell: number };
const window = attachWindow(memory, base);
parentPort!.once('message', (offset: number) => {
  const byte = window.view.getUint8(offset + 5);
  window.u8[offset + 6] = 22;
  window.i32[cell >>> 2] = 33;
  parentPort!.postMessage({ byte, base: window.base });
});
parentPort!.postMessage('attached');
