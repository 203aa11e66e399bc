/** A process of a memif loop: `node memif-end.ts server|client SOCKET FRAME_BYTES FRAMES_IN_FLIGHT BURST`: our port as an end of it (loop-end.ts). */
import { Window } from '@emudev/dma';
import { MemifPort } from '@emudev/net-memif';
import { goRound } from './loop-end.ts';

const [role = 'server', socket = '', frameBytes = '60', inFlight = '0', burst = '64'] = process.argv.slice(2);

using window = Window.open();
await using undo = new AsyncDisposableStack();
const port = MemifPort.open('net_memif0', { role: role === 'client' ? 'client' : 'server', socket, socketAbstract: false });
undo.defer(() => port.close());
await goRound(port, window, { frameBytes: Number(frameBytes), inFlight: Number(inFlight), burst: Number(burst) });
