import type { Host } from './host.ts';

const TCP_BYTES = 20;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;

/**
 * No port is open: writes the reset that answers the segment at `tcp` (RFC 9293 3.10.7.1) to `to`, checksum still zero, and returns
 * its length; 0 for a reset, and for what is no segment. `to` may overlap the segment.
 */
export function resetTcp(host: Host, tcp: number, length: number, to: number): number {
  const { view } = host;
  if (length < TCP_BYTES) {
    host.count('malformed');
    return 0;
  }
  const headerBytes = (view.getUint8(tcp + 12) >> 4) * 4;
  if (headerBytes < TCP_BYTES || headerBytes > length) {
    host.count('malformed');
    return 0;
  }
  const flags = view.getUint8(tcp + 13);
  if ((flags & RST) !== 0) return 0;
  const from = view.getUint16(tcp);
  const port = view.getUint16(tcp + 2);
  const sequence = view.getUint32(tcp + 4);
  const acknowledged = view.getUint32(tcp + 8);
  const occupies = length - headerBytes + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
  view.setUint16(to, port);
  view.setUint16(to + 2, from);
  if ((flags & ACK) !== 0) {
    view.setUint32(to + 4, acknowledged);
    view.setUint32(to + 8, 0);
    view.setUint16(to + 12, 0x5000 | RST);
  } else {
    view.setUint32(to + 4, 0);
    view.setUint32(to + 8, (sequence + occupies) >>> 0);
    view.setUint16(to + 12, 0x5000 | RST | ACK);
  }
  view.setUint16(to + 14, 0);
  view.setUint32(to + 16, 0);
  host.count('tcp_resets');
  return TCP_BYTES;
}
