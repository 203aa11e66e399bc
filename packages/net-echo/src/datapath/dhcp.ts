import { checksumOf } from '@emudev/ethdev';
import type { Host } from './host.ts';
import { IPV4_BYTES, UDP_BYTES, pseudoSum, writeIpv4 } from './ipv4.ts';
import { Leases, NONE, OFFERED } from './leases.ts';

/* RFC 2131, figure 1: offsets in the message. */
const OP = 0;
const HLEN = 2;
const FLAGS = 10;
const CIADDR = 12;
const YIADDR = 16;
const GIADDR = 24;
const CHADDR = 28;
const COOKIE = 236;
const OPTIONS = 240;
/** BOOTP relays and some clients want at least this much. */
const MIN_MESSAGE_BYTES = 300;
const MAGIC = 0x63825363;
const BROADCAST_FLAG = 0x8000;

/* RFC 2132. */
const OPTION_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_DNS = 6;
const OPTION_MTU = 26;
const OPTION_REQUESTED = 50;
const OPTION_LEASE = 51;
const OPTION_TYPE = 53;
const OPTION_SERVER = 54;
const OPTION_END = 255;
const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const DECLINE = 4;
const ACK = 5;
const NAK = 6;
const RELEASE = 7;
const INFORM = 8;

/** Window offset of an option's value, or 0; `size` bytes long exactly. Never reads past `end`. */
function option(host: Host, message: number, end: number, code: number, size: number): number {
  const { u8 } = host;
  let at = message + OPTIONS;
  while (at < end) {
    const found = u8[at]!;
    if (found === OPTION_END) return 0;
    if (found === 0) {
      at++;
      continue;
    }
    if (at + 1 >= end) return 0;
    const length = u8[at + 1]!;
    if (at + 2 + length > end) return 0;
    if (found === code) return length === size ? at + 2 : 0;
    at += 2 + length;
  }
  return 0;
}

/**
 * A DHCP server for its own wire: clients that come through a relay (giaddr) are not served, overloaded fields (option 52) not
 * looked into, clients told apart by their MAC only.
 */
export function answerDhcp(host: Host, frame: number, ip: number, udp: number, end: number): number {
  const { view, u8, init } = host;
  const dhcp = init.dhcp!;
  const message = udp + UDP_BYTES;
  if (end - message < OPTIONS + 3 || view.getUint8(message + OP) !== 1 || view.getUint16(message + HLEN - 1) !== 0x0106 || view.getUint32(message + COOKIE) !== MAGIC) {
    host.count('malformed');
    return 0;
  }
  const typeAt = option(host, message, end, OPTION_TYPE, 1);
  if (typeAt === 0 || view.getUint32(message + GIADDR) !== 0) return 0;
  const mac = message + CHADDR;
  // A group address, or none, is no client.
  if ((u8[mac]! & 1) !== 0 || (view.getUint32(mac) === 0 && view.getUint16(mac + 4) === 0)) return 0;
  const leases = new Leases(host, dhcp);
  const requestedAt = option(host, message, end, OPTION_REQUESTED, 4);
  const requested = requestedAt === 0 ? 0 : view.getUint32(requestedAt);
  const serverAt = option(host, message, end, OPTION_SERVER, 4);
  const forUs = serverAt === 0 || view.getUint32(serverAt) === init.ip;
  const current = view.getUint32(message + CIADDR);
  switch (u8[typeAt]!) {
    case DISCOVER: {
      const slot = leases.choose(mac, requested);
      if (slot === NONE) {
        host.count('dhcp_no_address');
        return 0;
      }
      leases.offer(slot, mac);
      return reply(host, frame, ip, udp, OFFER, leases.addressOf(slot));
    }
    case REQUEST: {
      const own = leases.find(mac);
      if (!forUs) {
        // It took another server's offer.
        if (own !== NONE && leases.state(own) === OFFERED) leases.free(own);
        return 0;
      }
      const wanted = requested !== 0 ? requested : current;
      const slot = own !== NONE && leases.addressOf(own) === wanted ? own : leases.slotOf(wanted);
      const usable = slot !== NONE && (slot === own || (own === NONE && leases.choose(mac, wanted) === slot));
      if (!usable) return reply(host, frame, ip, udp, NAK, 0);
      leases.lease(slot, mac);
      return reply(host, frame, ip, udp, ACK, wanted);
    }
    case INFORM:
      return current === 0 ? 0 : reply(host, frame, ip, udp, ACK, 0);
    case RELEASE: {
      const own = leases.find(mac);
      if (forUs && own !== NONE && leases.addressOf(own) === current) leases.free(own);
      return 0;
    }
    case DECLINE: {
      const own = leases.find(mac);
      if (forUs && own !== NONE && leases.addressOf(own) === requested) leases.decline(own);
      return 0;
    }
    default:
      return 0;
  }
}

/** Rewrites the request as the reply of type `type`; `address` 0 for NAK and for the answer to INFORM. */
function reply(host: Host, frame: number, ip: number, request: number, type: number, address: number): number {
  const { view, u8, init } = host;
  const dhcp = init.dhcp!;
  const udp = ip + IPV4_BYTES;
  const message = udp + UDP_BYTES;
  // Past an IP header with options the message lies further back.
  if (request !== udp) u8.copyWithin(message, request + UDP_BYTES, request + UDP_BYTES + OPTIONS);
  const current = view.getUint32(message + CIADDR);
  const broadcast = type === NAK || (current === 0 && (view.getUint16(message + FLAGS) & BROADCAST_FLAG) !== 0);
  view.setUint8(message + OP, 2);
  view.setUint8(message + 3, 0); // hops
  view.setUint16(message + 8, 0); // secs
  if (type === NAK) view.setUint32(message + CIADDR, 0);
  view.setUint32(message + YIADDR, address);
  view.setUint32(message + YIADDR + 4, 0); // siaddr: no next server
  host.zero(message + CHADDR + 16, COOKIE - CHADDR - 16); // sname, file

  let at = message + OPTIONS;
  const number = (code: number, value: number): void => {
    view.setUint16(at, (code << 8) | 4);
    view.setUint32(at + 2, value);
    at += 6;
  };
  view.setUint16(at, (OPTION_TYPE << 8) | 1);
  view.setUint8(at + 2, type);
  at += 3;
  number(OPTION_SERVER, init.ip);
  if (type !== NAK) {
    if (address !== 0) number(OPTION_LEASE, dhcp.leaseSeconds);
    number(OPTION_MASK, init.mask);
    if (dhcp.router !== 0) number(OPTION_ROUTER, dhcp.router);
    if (dhcp.dns !== 0) number(OPTION_DNS, dhcp.dns);
    if (init.mtu !== 0) {
      view.setUint16(at, (OPTION_MTU << 8) | 2);
      view.setUint16(at + 2, init.mtu);
      at += 4;
    }
  }
  view.setUint8(at++, OPTION_END);
  const messageBytes = Math.max(at - message, MIN_MESSAGE_BYTES);
  host.zero(at, message + messageBytes - at);

  const udpBytes = UDP_BYTES + messageBytes;
  const to = broadcast ? 0xffffffff : current !== 0 ? current : address;
  for (let i = 0; i < 6; i++) {
    u8[frame + i] = broadcast ? 0xff : u8[message + CHADDR + i]!;
    u8[frame + 6 + i] = init.mac[i]!;
  }
  writeIpv4(host, ip, 17, to, IPV4_BYTES + udpBytes);
  view.setUint32(udp, (67 << 16) | 68);
  view.setUint16(udp + 4, udpBytes);
  view.setUint16(udp + 6, 0);
  const checksum = checksumOf(host.bytes.sum(udp, udpBytes, pseudoSum(host, ip, 17, udpBytes)));
  view.setUint16(udp + 6, checksum === 0 ? 0xffff : checksum);
  host.count('dhcp_replies');
  return udp + udpBytes - frame;
}
