/** `node path-server-main.ts PATH`: the small device as a process of its own, to be killed. Signals vector 0 at every write to offset 0. */
import { linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { PathServer, smallDevice } from './path-server.ts';

const device = smallDevice();
let irq = -1;
const server = new PathServer(process.argv[2]!, (frame, self) => {
  if (frame.command === p.VFIO_USER_DEVICE_SET_IRQS && frame.fds.length > 0) irq = frame.fds[0]!;
  device(frame, self);
  if (frame.command === p.VFIO_USER_REGION_WRITE && irq !== -1) linux.eventfdSignal(irq);
  // The maps it was told of, where a test can read them.
  if (frame.command === p.VFIO_USER_DMA_MAP) device({ ...frame, command: p.VFIO_USER_REGION_WRITE, flags: p.VFIO_USER_F_NO_REPLY, payload: p.encodeRegionData(0x800, 0, Uint8Array.of(++maps)) }, self);
});
let maps = 0;
console.log(`serving ${server.path}`);
