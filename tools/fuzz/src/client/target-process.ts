/** `node target-process.ts SOCKET`: a client that connects when told to, does things, and counts what it holds when asked. */
import { Window } from '@emudev/dma';
import { catchStrays, takeCounts } from '../defects.ts';
import { Random } from '../random.ts';
import { drive } from './driver.ts';

export type ClientRequest = 'count' | { readonly seed: number; readonly operations: number; readonly sane: boolean };

catchStrays();
using window = Window.open();
const path = process.argv[2]!;
process.on('message', (request: ClientRequest) => {
  if (request === 'count') void takeCounts().then((counts) => process.send!(counts));
  else void drive(new Random(request.seed), window, { path, operations: request.operations, sane: request.sane }).then(() => process.send!('done'));
});
process.send!('ready');
await new Promise((resolve) => process.once('disconnect', resolve));
