import { checksumOf, foldSum, updateChecksum } from '@emudev/ethdev';
import { answerDhcp } from './dhcp.ts';
import type { Host } from './host.ts';
import { resetTcp } from './tcp.ts';

export const IPV4_BYTES = 20;
export const UDP_BYTES = 8;
const ICMP_BYTES = 8;
const PROTOCOL_ICMP = 1;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const TTL = 64;
const PORT_ECHO = 7;
const PORT_DISCARD = 9;
const PORT_DHCP_SERVER = 67;
const ICMP_UNREACHABLE_PORT = 0x0303;

/** Sum of the pseudo header (RFC 768, RFC 9293 3.1) of the packet at `ip`. */
export function pseudoSum(host: Host, ip: number, protocol: number, length: number): number {
  const { view } = host;
  return view.getUint16(ip + 12) + view.getUint16(ip + 14) + view.getUint16(ip + 16) + view.getUint16(ip + 18) + protocol + length;
}

/** Writes the header of an answer over the one at `ip`: 20 bytes, from us to `to`. */
export function writeIpv4(host: Host, ip: number, protocol: number, to: number, totalBytes: number): void {
  const { view, init } = host;
  view.setUint16(ip, 0x4500);
  view.setUint16(ip + 2, totalBytes);
  view.setUint32(ip + 4, 0x00004000); // Do not fragment: then an identification needs no meaning (RFC 6864).
  view.setUint8(ip + 8, TTL);
  view.setUint8(ip + 9, protocol);
  view.setUint16(ip + 10, 0);
  view.setUint32(ip + 12, init.ip);
  view.setUint32(ip + 16, to);
  view.setUint16(ip + 10, checksumOf(host.bytes.sum(ip, IPV4_BYTES)));
}

/** The in-place half: addresses change places, the time to live starts anew; options stay. */
function returnPacket(host: Host, frame: number, ip: number, headerBytes: number): void {
  const { view } = host;
  host.turnAround(frame);
  const from = view.getUint32(ip + 12);
  view.setUint32(ip + 12, view.getUint32(ip + 16));
  view.setUint32(ip + 16, from);
  view.setUint8(ip + 8, TTL);
  view.setUint16(ip + 10, 0);
  view.setUint16(ip + 10, checksumOf(host.bytes.sum(ip, headerBytes)));
}

/** An address somebody can be answered at. */
function isAnswerable(host: Host, address: number): boolean {
  const net = address >>> 24;
  return net !== 0 && net !== 127 && net < 224 && address !== host.init.ip && address !== host.broadcast;
}

export function answerIpv4(host: Host, frame: number, ip: number, end: number): number {
  const { view } = host;
  if (end - ip < IPV4_BYTES) return malformed(host);
  const versionAndLength = view.getUint8(ip);
  const headerBytes = (versionAndLength & 15) * 4;
  const totalBytes = view.getUint16(ip + 2);
  if (versionAndLength >> 4 !== 4 || headerBytes < IPV4_BYTES || totalBytes < headerBytes || totalBytes > end - ip) return malformed(host);
  if (foldSum(host.bytes.sum(ip, headerBytes)) !== 0xffff) return malformed(host);
  if ((view.getUint16(ip + 6) & 0x3fff) !== 0) {
    host.count('fragments');
    return 0;
  }
  const protocol = view.getUint8(ip + 9);
  const l4 = ip + headerBytes;
  const length = totalBytes - headerBytes;
  const to = view.getUint32(ip + 16);
  if (protocol === PROTOCOL_UDP && host.init.dhcp !== undefined && length >= UDP_BYTES && view.getUint16(l4 + 2) === PORT_DHCP_SERVER) {
    if (to !== host.init.ip && to !== 0xffffffff && to !== host.broadcast) return notForUs(host);
    if (!udpIsSound(host, ip, l4, length)) return malformed(host);
    return answerDhcp(host, frame, ip, l4, l4 + view.getUint16(l4 + 4));
  }
  if (to !== host.init.ip || (view.getUint8(frame) & 1) !== 0 || !isAnswerable(host, view.getUint32(ip + 12))) return notForUs(host);
  switch (protocol) {
    case PROTOCOL_ICMP:
      return answerIcmp(host, frame, ip, l4, length);
    case PROTOCOL_UDP:
      return answerUdp(host, frame, ip, l4, length);
    case PROTOCOL_TCP:
      return answerTcp(host, frame, ip, l4, length);
    default:
      return notForUs(host);
  }
}

function answerIcmp(host: Host, frame: number, ip: number, icmp: number, length: number): number {
  const { view } = host;
  if (length < ICMP_BYTES || foldSum(host.bytes.sum(icmp, length)) !== 0xffff) return malformed(host);
  if (view.getUint16(icmp) !== 0x0800) return 0;
  view.setUint16(icmp, 0);
  view.setUint16(icmp + 2, updateChecksum(view.getUint16(icmp + 2), 0x0800, 0));
  returnPacket(host, frame, ip, icmp - ip);
  host.count('icmp_echo_replies');
  return icmp + length - frame;
}

/** Length field inside the packet, checksum right or absent. */
function udpIsSound(host: Host, ip: number, udp: number, length: number): boolean {
  const { view } = host;
  if (length < UDP_BYTES) return false;
  const udpBytes = view.getUint16(udp + 4);
  if (udpBytes < UDP_BYTES || udpBytes > length) return false;
  if (view.getUint16(udp + 6) === 0) return true;
  return foldSum(host.bytes.sum(udp, udpBytes, pseudoSum(host, ip, PROTOCOL_UDP, udpBytes))) === 0xffff;
}

function answerUdp(host: Host, frame: number, ip: number, udp: number, length: number): number {
  const { view } = host;
  if (!udpIsSound(host, ip, udp, length)) return malformed(host);
  const from = view.getUint16(udp);
  const to = view.getUint16(udp + 2);
  if (to === PORT_DISCARD) {
    host.count('udp_discarded');
    return 0;
  }
  if (to !== PORT_ECHO) return refuseUdp(host, frame, ip, udp);
  // Two echo servers would keep each other busy for ever (CERT CA-1996-01).
  if (from < 1024) return notForUs(host);
  // Ports and addresses change places: the sum, and so the checksum, stays.
  view.setUint16(udp, to);
  view.setUint16(udp + 2, from);
  returnPacket(host, frame, ip, udp - ip);
  host.count('udp_echoes');
  return udp + length - frame;
}

/** ICMP port unreachable (RFC 1122 4.1.3.1): a resolver that asks us gives up at once. Quotes the header and 8 bytes. */
function refuseUdp(host: Host, frame: number, ip: number, udp: number): number {
  const { view } = host;
  const quoted = udp - ip + 8;
  const from = view.getUint32(ip + 12);
  const icmp = ip + IPV4_BYTES;
  host.u8.copyWithin(icmp + ICMP_BYTES, ip, ip + quoted);
  host.turnAround(frame);
  view.setUint16(icmp, ICMP_UNREACHABLE_PORT);
  view.setUint16(icmp + 2, 0);
  view.setUint32(icmp + 4, 0);
  view.setUint16(icmp + 2, checksumOf(host.bytes.sum(icmp, ICMP_BYTES + quoted)));
  writeIpv4(host, ip, PROTOCOL_ICMP, from, IPV4_BYTES + ICMP_BYTES + quoted);
  host.count('udp_unreachable');
  return icmp + ICMP_BYTES + quoted - frame;
}

function answerTcp(host: Host, frame: number, ip: number, tcp: number, length: number): number {
  const { view } = host;
  if (foldSum(host.bytes.sum(tcp, length, pseudoSum(host, ip, PROTOCOL_TCP, length))) !== 0xffff) return malformed(host);
  const from = view.getUint32(ip + 12);
  const reset = ip + IPV4_BYTES;
  const resetBytes = resetTcp(host, tcp, length, reset);
  if (resetBytes === 0) return 0;
  host.turnAround(frame);
  writeIpv4(host, ip, PROTOCOL_TCP, from, IPV4_BYTES + resetBytes);
  view.setUint16(reset + 16, checksumOf(host.bytes.sum(reset, resetBytes, pseudoSum(host, ip, PROTOCOL_TCP, resetBytes))));
  return reset + resetBytes - frame;
}

function malformed(host: Host): number {
  host.count('malformed');
  return 0;
}

function notForUs(host: Host): number {
  host.count('not_for_us');
  return 0;
}
