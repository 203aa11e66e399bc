import { checksumOf, foldSum, updateChecksum } from '@emudev/ethdev';
import type { Host } from './host.ts';
import { resetTcp } from './tcp.ts';

const IPV6_BYTES = 40;
const UDP_BYTES = 8;
const NEXT_TCP = 6;
const NEXT_UDP = 17;
const NEXT_ICMPV6 = 58;
const HOP_LIMIT = 64;
/** Neighbour discovery is believed only from the link itself (RFC 4861 7.1). */
const ON_LINK_HOP_LIMIT = 255;
const ECHO_REQUEST = 128;
const ECHO_REPLY = 129;
const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
const PORT_ECHO = 7;
const PORT_DISCARD = 9;

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const UNSPECIFIED = new Uint8Array(16);

function pseudoSum(host: Host, ip: number, next: number, length: number): number {
  return host.bytes.sum(ip + 8, 32, (length >>> 16) + (length & 0xffff) + next);
}

/** Of our two addresses the one at `offset`. */
function ours(host: Host, offset: number): boolean {
  return host.equals(offset, host.init.ip6) || host.equals(offset, host.init.linkLocal);
}

function malformed(host: Host): number {
  host.count('malformed');
  return 0;
}

/** Extension headers (fragments among them) are not looked through: such packets are not answered. */
export function answerIpv6(host: Host, frame: number, ip: number, end: number): number {
  const { view } = host;
  if (end - ip < IPV6_BYTES || view.getUint8(ip) >> 4 !== 6) return malformed(host);
  const length = view.getUint16(ip + 4);
  if (length > end - ip - IPV6_BYTES) return malformed(host);
  const next = view.getUint8(ip + 6);
  const l4 = ip + IPV6_BYTES;
  const toUs = ours(host, ip + 24);
  // Nobody sends from a group; and what says it comes from us does not.
  if (view.getUint8(ip + 8) === 0xff || ours(host, ip + 8) || (!toUs && view.getUint8(ip + 24) !== 0xff)) {
    host.count('not_for_us');
    return 0;
  }
  if (next === 44) {
    host.count('fragments');
    return 0;
  }
  if (next !== NEXT_ICMPV6 && next !== NEXT_UDP && next !== NEXT_TCP) {
    host.count('not_for_us');
    return 0;
  }
  if (length < UDP_BYTES || foldSum(host.bytes.sum(l4, length, pseudoSum(host, ip, next, length))) !== 0xffff) return malformed(host);
  if (next === NEXT_ICMPV6) {
    const type = view.getUint16(l4);
    if (type === NEIGHBOUR_SOLICITATION << 8) return answerNeighbour(host, frame, ip, length);
    if (type === ROUTER_SOLICITATION << 8) return answerRouter(host, frame, ip, length);
  }
  // The rest is between two addresses.
  if (!toUs || (view.getUint8(frame) & 1) !== 0 || host.equals(ip + 8, UNSPECIFIED)) {
    host.count('not_for_us');
    return 0;
  }
  if (next === NEXT_ICMPV6) return answerEcho(host, frame, ip, length);
  if (next === NEXT_UDP) return answerUdp(host, frame, ip, length);
  return answerTcp(host, frame, ip, length);
}

/** Addresses change places, which leaves every sum as it is. */
function returnPacket(host: Host, frame: number, ip: number): void {
  const { view } = host;
  host.turnAround(frame);
  for (let i = 8; i < 24; i += 4) {
    const from = view.getUint32(ip + i);
    view.setUint32(ip + i, view.getUint32(ip + i + 16));
    view.setUint32(ip + i + 16, from);
  }
  view.setUint8(ip + 7, HOP_LIMIT);
}

function answerEcho(host: Host, frame: number, ip: number, length: number): number {
  const { view } = host;
  const icmp = ip + IPV6_BYTES;
  if (view.getUint16(icmp) !== ECHO_REQUEST << 8) return 0;
  view.setUint16(icmp, ECHO_REPLY << 8);
  view.setUint16(icmp + 2, updateChecksum(view.getUint16(icmp + 2), ECHO_REQUEST << 8, ECHO_REPLY << 8));
  returnPacket(host, frame, ip);
  host.count('icmpv6_echo_replies');
  return icmp + length - frame;
}

function answerUdp(host: Host, frame: number, ip: number, length: number): number {
  const { view } = host;
  const udp = ip + IPV6_BYTES;
  // A checksum is not optional here (RFC 8200 8.1); the length has to be the packet's: jumbograms are not for us.
  if (view.getUint16(udp + 6) === 0 || view.getUint16(udp + 4) !== length) return malformed(host);
  const from = view.getUint16(udp);
  const to = view.getUint16(udp + 2);
  if (to === PORT_DISCARD) {
    host.count('udp_discarded');
    return 0;
  }
  if (to !== PORT_ECHO || from < 1024) {
    host.count('not_for_us');
    return 0;
  }
  view.setUint16(udp, to);
  view.setUint16(udp + 2, from);
  returnPacket(host, frame, ip);
  host.count('udp_echoes');
  return udp + length - frame;
}

function answerTcp(host: Host, frame: number, ip: number, length: number): number {
  const { view } = host;
  const tcp = ip + IPV6_BYTES;
  const resetBytes = resetTcp(host, tcp, length, tcp);
  if (resetBytes === 0) return 0;
  returnPacket(host, frame, ip);
  view.setUint32(ip, 0x60000000);
  view.setUint16(ip + 4, resetBytes);
  view.setUint16(tcp + 16, checksumOf(host.bytes.sum(tcp, resetBytes, pseudoSum(host, ip, NEXT_TCP, resetBytes))));
  return tcp + resetBytes - frame;
}

/** The answer's header: from `source`, back to the asker, or to all nodes when the asker has no address yet. */
function writeHeader(host: Host, frame: number, ip: number, source: Uint8Array, length: number): void {
  const { view, u8 } = host;
  const anonymous = host.equals(ip + 8, UNSPECIFIED);
  host.turnAround(frame);
  if (anonymous) {
    host.put(frame, ALL_NODES_MAC);
    host.put(ip + 24, ALL_NODES);
  } else {
    u8.copyWithin(ip + 24, ip + 8, ip + 24);
  }
  host.put(ip + 8, source);
  view.setUint32(ip, 0x60000000);
  view.setUint16(ip + 4, length);
  view.setUint8(ip + 6, NEXT_ICMPV6);
  view.setUint8(ip + 7, ON_LINK_HOP_LIMIT);
}

function finishIcmp(host: Host, ip: number, length: number): void {
  const icmp = ip + IPV6_BYTES;
  host.view.setUint16(icmp + 2, 0);
  host.view.setUint16(icmp + 2, checksumOf(host.bytes.sum(icmp, length, pseudoSum(host, ip, NEXT_ICMPV6, length))));
}

/** RFC 4861 7.1.1 and 7.2.4. Somebody who probes our address (from ::) is told as well that it is taken. */
function answerNeighbour(host: Host, frame: number, ip: number, length: number): number {
  const { view, init } = host;
  const icmp = ip + IPV6_BYTES;
  if (length < 24 || view.getUint8(ip + 7) !== ON_LINK_HOP_LIMIT) return malformed(host);
  const target = icmp + 8;
  const source = host.equals(target, init.ip6) ? init.ip6 : host.equals(target, init.linkLocal) ? init.linkLocal : undefined;
  if (source === undefined) {
    host.count('not_for_us');
    return 0;
  }
  const solicited = !host.equals(ip + 8, UNSPECIFIED);
  writeHeader(host, frame, ip, source, 32);
  view.setUint16(icmp, NEIGHBOUR_ADVERTISEMENT << 8);
  view.setUint32(icmp + 4, solicited ? 0x60000000 : 0x20000000); // Solicited, override
  host.put(target, source);
  view.setUint16(icmp + 24, 0x0201); // Target link-layer address, 8 bytes
  host.put(icmp + 26, init.mac);
  finishIcmp(host, ip, 32);
  host.count('neighbour_advertisements');
  return icmp + 32 - frame;
}

/**
 * RFC 4861 6.2: here is a prefix to make an address from, but no router (lifetime 0): we lead nowhere, and must not take the
 * place of somebody who does.
 */
function answerRouter(host: Host, frame: number, ip: number, length: number): number {
  const { view, init } = host;
  const icmp = ip + IPV6_BYTES;
  if (length < 8 || view.getUint8(ip + 7) !== ON_LINK_HOP_LIMIT) return malformed(host);
  const bytes = 16 + 8 + 32 + (init.mtu === 0 ? 0 : 8);
  writeHeader(host, frame, ip, init.linkLocal, bytes);
  host.zero(icmp, bytes);
  view.setUint16(icmp, ROUTER_ADVERTISEMENT << 8);
  view.setUint8(icmp + 4, HOP_LIMIT);
  view.setUint16(icmp + 16, 0x0101); // Source link-layer address
  host.put(icmp + 18, init.mac);
  const prefix = icmp + 24;
  view.setUint32(prefix, 0x030440c0); // Prefix information, 32 bytes, /64, on link and autonomous
  view.setUint32(prefix + 4, 86400);
  view.setUint32(prefix + 8, 14400);
  for (let i = 0; i < 8; i++) host.u8[prefix + 16 + i] = init.ip6[i]!;
  if (init.mtu !== 0) {
    view.setUint32(prefix + 32, 0x05010000);
    view.setUint32(prefix + 36, init.mtu);
  }
  finishIcmp(host, ip, bytes);
  host.count('router_advertisements');
  return icmp + bytes - frame;
}
