/**
 * The kernel's side of a TAP as a sender: `node tso-source.ts IFACE MAC large|small`. Sends frames out at the interface by a packet socket,
 * as fast as it can: 64 KiB that the kernel may leave uncut, or segments.
 */
import { linux } from '@emudev/linux';
import { HEADER_BYTES, LARGE_PAYLOAD_BYTES, SEGMENT_BYTES, tcpFrame } from './tso-frames.ts';

const [iface = '', mac = '', size = 'large'] = process.argv.slice(2);
const large = size === 'large';
const MESSAGES = large ? 4 : 64;
/** What the interface's queue holds at most: a sender that only makes it drop would take its time from those who receive. */
const SEND_BUFFER_BYTES = 1 << 20;
const MESSAGE_BYTES = 64;
const VECTORS: number = MESSAGES * MESSAGE_BYTES;
const DATA: number = VECTORS + 16 * MESSAGES;
const VIRTIO_HEADER_BYTES = 10;
const PAUSE_MS = 1;

const destination = Uint8Array.from(mac.split(':'), (hex) => Number.parseInt(hex, 16));
const frame = tcpFrame(destination, Uint8Array.of(2, 0, 0, 0, 0, 1), large ? LARGE_PAYLOAD_BYTES : SEGMENT_BYTES, false);
const memory = new Uint8Array(new ArrayBuffer(DATA + VIRTIO_HEADER_BYTES + frame.length));
const view = new DataView(memory.buffer);
const base = linux.addressOf(memory.buffer);
// struct virtio_net_hdr: the checksum is missing; TCP over IPv4 in segments.
view.setUint8(DATA, 1);
view.setUint8(DATA + 1, large ? 1 : 0);
view.setUint16(DATA + 2, HEADER_BYTES, true);
view.setUint16(DATA + 4, large ? SEGMENT_BYTES : 0, true);
view.setUint16(DATA + 6, 34, true);
view.setUint16(DATA + 8, 16, true);
memory.set(frame, DATA + VIRTIO_HEADER_BYTES);
for (let i = 0; i < MESSAGES; i++) {
  view.setBigUint64(i * MESSAGE_BYTES + 16, base + BigInt(VECTORS + 16 * i), true);
  view.setBigUint64(i * MESSAGE_BYTES + 24, 1n, true);
  view.setBigUint64(VECTORS + 16 * i, base + BigInt(DATA), true);
  view.setBigUint64(VECTORS + 16 * i + 8, BigInt(VIRTIO_HEADER_BYTES + frame.length), true);
}
const fd = linux.packetOpen(iface, { vnetHeader: true, qdiscBypass: false, bufferBytes: SEND_BUFFER_BYTES, ring: { blockBytes: 4096, blocks: 1, frameBytes: 2048, frames: 2 } });

console.log('sending');
function turn(): void {
  for (let i = 0; i < 64; i++) {
    try {
      if (linux.sendMessagesAt(fd, base, MESSAGES) === MESSAGES) continue;
    } catch {
      // ENOBUFS: the queue is full.
    }
    setTimeout(turn, PAUSE_MS);
    return;
  }
  setImmediate(turn);
}
turn();
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
