/** The driver process of a loop: `node iavf-driver.ts SOCKET FRAME_BYTES,… FRAMES_IN_FLIGHT BURST [CONTENT]`: our iavf driver as an end of it (loop-end.ts). */
import { Window } from '@emudev/dma';
import { deviceAt, IavfPort } from '@emudev/iavf-pmd';
import { goRound, ringsFor } from './loop-end.ts';

const [socket = '', frameBytes = '60', inFlight = '256', burst = '64', content] = process.argv.slice(2);

using window = Window.open();
const port = await IavfPort.open('net_iavf0', deviceAt(`vfio-user:${socket}`), ringsFor(Number(inFlight), Number(burst)));
await using undo = new AsyncDisposableStack();
undo.defer(() => port.close());
await goRound(port, window, {
  frameBytes: frameBytes.split(',').map(Number), inFlight: Number(inFlight), burst: Number(burst), content: content as 'tcp' | 'tcp-checksums' | undefined,
});
