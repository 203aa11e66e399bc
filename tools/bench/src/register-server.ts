/**
 * The server process of the control-path table: `node register-server.ts SOCKET KIND`, one 4 KiB BAR of registers.
 *
 * `spinning` and `sleeping` are @emudev/vfio-user-server with and without its adaptive spin; `blocking` is what they are compared
 * with: one connection, one thread asleep in recvmsg until a message is there, no event loop, nothing checked.
 */
import { linux } from '@emudev/linux';
import { Window } from '@emudev/dma';
import type { PciDevice } from '@emudev/pci';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { encodeMessage, encodeVersion, newRegionReadReply, VFIO_USER_F_TYPE_REPLY } from '@emudev/vfio-user-protocol';

const BAR_BYTES = 0x1000;
const HEADER_BYTES = 16;
const READ_REPLY_DATA_AT = 32;

const registers = new Uint8Array(BAR_BYTES).fill(0x5a);

const device: PciDevice = {
  name: 'registers',
  regions: [{ index: 0, sizeBytes: BAR_BYTES, readable: true, writable: true }, { index: 7, sizeBytes: 256, readable: true, writable: true }],
  irqs: [], resettable: false,
  attach: () => undefined,
  detach: () => undefined,
  read: (_region, offset, into) => { into.set(registers.subarray(offset, offset + into.length)); },
  write: (_region, offset, from) => { registers.set(from, offset); },
  quiesce: () => Promise.resolve(),
  resume: () => undefined,
  memoryChanged: () => undefined,
  irqsChanged: () => undefined,
  reset: () => undefined,
};

/** Every message of this client comes whole: it waits for each reply. */
function serveBlocking(path: string): void {
  const listener = linux.unixListen(path, 1);
  console.log('ready');
  linux.pollIn(Int32Array.of(listener), 1, -1);
  const socket = linux.unixAccept(listener)!;
  linux.setNonBlocking(socket, false);
  const received = new Uint8Array(new ArrayBuffer(1 << 16));
  const view = new DataView(received.buffer);
  for (;;) {
    const { bytes } = linux.recvmsgBlocking(socket, received, 0);
    if (bytes === 0) return;
    const id = view.getUint16(0, true);
    const command = view.getUint16(2, true);
    if (command === 1) {
      linux.sendmsg(socket, encodeMessage(id, command, VFIO_USER_F_TYPE_REPLY, encodeVersion({ major: 0, minor: 0, capabilities: {} })), []);
      continue;
    }
    const offset = Number(view.getBigUint64(HEADER_BYTES, true));
    const count = view.getUint32(HEADER_BYTES + 12, true);
    const reply = newRegionReadReply(id, { region: 0, offset, count });
    reply.set(registers.subarray(offset, offset + count), READ_REPLY_DATA_AT);
    linux.sendmsg(socket, reply, []);
  }
}

const [path = '', kind = ''] = process.argv.slice(2);
if (kind === 'blocking') {
  serveBlocking(path);
} else {
  const server = new VfioUserServer(device, { window: Window.open(), ...(kind === 'sleeping' ? { spin: false } : {}) });
  await server.listen(path);
  console.log('ready');
}
