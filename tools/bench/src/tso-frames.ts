/** The frames of the `tso` table: TCP over IPv4, either 64 KiB to be cut into segments, or segments already. */
export const SEGMENT_BYTES = 1448;
export const HEADER_BYTES: number = 14 + 20 + 32;
/** Whole segments in one IP packet, as a TCP sender fills it. */
export const LARGE_PAYLOAD_BYTES: number = 44 * SEGMENT_BYTES;

/** Everything but the L4 checksum, whose field holds the pseudo-header sum (with length only for a frame that is not cut). */
export function tcpFrame(destination: Uint8Array, source: Uint8Array, payloadBytes: number, cut: boolean): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payloadBytes);
  const view = new DataView(frame.buffer);
  frame.set(destination, 0);
  frame.set(source, 6);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, frame.length - 14);
  view.setUint16(20, 0x4000);
  view.setUint8(22, 64);
  view.setUint8(23, 6);
  view.setUint32(26, 0xc6120001); // 198.18.0.1 and .2: RFC 2544's benchmark network
  view.setUint32(30, 0xc6120002);
  let ip = 0;
  for (let at = 14; at < 34; at += 2) ip += view.getUint16(at);
  view.setUint16(24, ~((ip & 0xffff) + (ip >>> 16)) & 0xffff);
  view.setUint16(34, 5001);
  view.setUint16(36, 5001);
  view.setUint8(46, 0x80);
  view.setUint8(47, 0x10);
  view.setUint16(48, 0xffff);
  let pseudo = 0xc612 + 1 + 0xc612 + 2 + 6 + (cut ? 0 : 32 + payloadBytes);
  while (pseudo > 0xffff) pseudo = (pseudo & 0xffff) + (pseudo >>> 16);
  view.setUint16(50, pseudo);
  // Options: three no-operations would do, a time stamp is what is usual.
  frame.set([1, 1, 8, 10], 54);
  return frame;
}
