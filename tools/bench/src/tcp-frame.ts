/** TCP over IPv4 between two made-up hosts, with right checksums. */
export const L2_BYTES = 14;
export const L3_BYTES = 20;
export const L4_BYTES = 20;
export const TCP_HEADERS_BYTES: number = L2_BYTES + L3_BYTES + L4_BYTES;
/** Of the checksum's field in the TCP header. */
export const TCP_CHECKSUM_OFFSET: number = L2_BYTES + L3_BYTES + 16;

function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

function sumOf(view: DataView, from: number, to: number): number {
  let sum = 0;
  for (let at = from; at + 1 < to; at += 2) sum += view.getUint16(at);
  if ((to - from) % 2 === 1) sum += view.getUint8(to - 1) << 8;
  return sum;
}

/** Sum of addresses, protocol and length: what a driver leaves in the field for the card to go on from, big-endian. */
export function pseudoHeaderSum(view: DataView, frameBytes: number): number {
  return fold(sumOf(view, L2_BYTES + 12, L2_BYTES + 20) + 6 + frameBytes - L2_BYTES - L3_BYTES);
}

export function tcpFrame(to: Uint8Array, bytes: number): Uint8Array {
  const frame = new Uint8Array(bytes);
  const view = new DataView(frame.buffer);
  frame.set(to, 0);
  frame.set([2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45], 6);
  view.setUint16(L2_BYTES + 2, bytes - L2_BYTES);
  frame.set([64, 6], L2_BYTES + 8);
  frame.set([198, 18, 0, 1, 198, 18, 0, 2, 0x30, 0x39, 0x00, 0x50], L2_BYTES + 12);
  frame.set([0x50, 0x10], L2_BYTES + L3_BYTES + 12);
  for (let at = TCP_HEADERS_BYTES; at < bytes; at++) frame[at] = at * 7;
  view.setUint16(L2_BYTES + 10, fold(sumOf(view, L2_BYTES, L2_BYTES + L3_BYTES)) ^ 0xffff);
  view.setUint16(TCP_CHECKSUM_OFFSET, fold(pseudoHeaderSum(view, bytes) + sumOf(view, L2_BYTES + L3_BYTES, bytes)) ^ 0xffff);
  return frame;
}
