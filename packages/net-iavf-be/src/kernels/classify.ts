/**
 * What a frame is: packet type (PTYPE of the Rx descriptor), where its L3 and L4 are, and which HENA bits name it. Every length
 * is checked against the frame before it is used; what does not parse is an L2 payload, and what parses only up to L3 is "other".
 */
import { swap16 } from './checksum';
import { UNICAST } from './filter';

export const PTYPE_L2_PAYLOAD: u32 = 1;
const PTYPE_PTP: u32 = 2;
const PTYPE_LLDP: u32 = 6;
const PTYPE_ARP: u32 = 11;
const PTYPE_IPV4: u32 = 22;
const PTYPE_IPV6: u32 = 88;
/** Slots of an IP block of packet types. */
const SLOT_FRAGMENT: u32 = 0;
const SLOT_OTHER: u32 = 1;
const SLOT_UDP: u32 = 2;
const SLOT_TCP: u32 = 4;
const SLOT_SCTP: u32 = 5;
const SLOT_ICMP: u32 = 6;

/** EtherTypes as a little-endian load sees them. */
export const ETHERTYPE_IPV4: u32 = 0x0008;
const ETHERTYPE_IPV6: u32 = 0xdd86;
const ETHERTYPE_ARP: u32 = 0x0608;
const ETHERTYPE_LLDP: u32 = 0xcc88;
const ETHERTYPE_PTP: u32 = 0xf788;

export const PROTOCOL_ICMP: u32 = 1;
export const PROTOCOL_TCP: u32 = 6;
export const PROTOCOL_UDP: u32 = 17;
export const PROTOCOL_ICMPV6: u32 = 58;
export const PROTOCOL_SCTP: u32 = 132;
/** A longer chain of IPv6 extension headers is "other". */
const MAX_EXTENSION_HEADERS: u32 = 8;

/** HENA bit of IPv4 fragments; those of IPv6 are ten higher. */
const HENA_IPV4_FRAGMENT: u32 = 36;

export let ptype: u32 = 0;
/** HENA bits that name the frame: it is hashed if the guest has set one of them. 0 = not IP. */
export let hashTypes: u64 = 0;
/** TCP, UDP or SCTP: offset of its header; 0 = none, and then only ptype and hashTypes mean something (and isIpv6, if hashed). */
export let l4: u32 = 0;
export let l4Bytes: u32 = 0;
export let protocol: u32 = 0;
export let isIpv6: bool = false;
/** Of IPv4. */
export let ipv4HeaderBytes: u32 = 0;
/** IPv6 with extension headers. */
export let hasExtensions: bool = false;

export function classify(frame: u32, length: u32, l3: u32, etherType: u32, cast: u32): void {
  ptype = PTYPE_L2_PAYLOAD;
  hashTypes = 0;
  l4 = 0;
  if (etherType == ETHERTYPE_IPV4) classifyIpv4(frame, length, l3, cast);
  else if (etherType == ETHERTYPE_IPV6) classifyIpv6(frame, length, l3, cast);
  else if (etherType == ETHERTYPE_ARP) ptype = PTYPE_ARP;
  else if (etherType == ETHERTYPE_LLDP) ptype = PTYPE_LLDP;
  else if (etherType == ETHERTYPE_PTP) ptype = PTYPE_PTP;
}

/** Nothing that `classify` knows: an L2 payload. */
@inline
export function isUnparsed(etherType: u32): bool {
  return etherType != ETHERTYPE_IPV4 && etherType != ETHERTYPE_IPV6 && etherType != ETHERTYPE_ARP && etherType != ETHERTYPE_LLDP && etherType != ETHERTYPE_PTP;
}

@inline
function classifyIpv4(frame: u32, length: u32, l3: u32, cast: u32): void {
  const ip = frame + l3;
  if (length < l3 + 20) return;
  const versionIhl = <u32>load<u8>(ip);
  const header = (versionIhl & 0xf) << 2;
  const total = swap16(load<u16>(ip, 2));
  if (versionIhl >> 4 != 4 || header < 20 || total < header || l3 + total > length) return;
  isIpv6 = false;
  hasExtensions = false;
  ipv4HeaderBytes = header;
  if ((load<u16>(ip, 6) & 0xff3f) != 0) {
    // More Fragments or an offset: the L4 header may be elsewhere
    setType(PTYPE_IPV4, SLOT_FRAGMENT, cast);
    return;
  }
  setL4(frame, l3 + header, total - header, load<u8>(ip, 9), PROTOCOL_ICMP, PTYPE_IPV4, cast);
}

function classifyIpv6(frame: u32, length: u32, l3: u32, cast: u32): void {
  if (length < l3 + 40 || load<u8>(frame + l3) >> 4 != 6) return;
  const end = l3 + 40 + swap16(load<u16>(frame + l3, 4));
  if (end > length) return;
  isIpv6 = true;
  hasExtensions = false;
  let at = l3 + 40;
  let next: u32 = load<u8>(frame + l3, 6);
  for (let count: u32 = 0; count < MAX_EXTENSION_HEADERS; ++count) {
    if (next == 44) {
      hasExtensions = true;
      setType(PTYPE_IPV6, SLOT_FRAGMENT, cast);
      return;
    }
    // hop-by-hop, routing, destination options
    if (next != 0 && next != 43 && next != 60) {
      setL4(frame, at, end - at, next, PROTOCOL_ICMPV6, PTYPE_IPV6, cast);
      return;
    }
    hasExtensions = true;
    if (at + 8 > end) break;
    next = load<u8>(frame + at);
    at += (<u32>load<u8>(frame + at, 1) + 1) << 3;
    if (at > end) break;
  }
  setType(PTYPE_IPV6, SLOT_OTHER, cast);
}

@inline
function setL4(frame: u32, at: u32, bytes: u32, next: u32, icmp: u32, block: u32, cast: u32): void {
  let slot = SLOT_OTHER;
  if (next == PROTOCOL_TCP) {
    if (bytes >= 20) slot = SLOT_TCP;
  } else if (next == PROTOCOL_UDP) {
    if (bytes >= 8) slot = SLOT_UDP;
  } else if (next == PROTOCOL_SCTP) {
    if (bytes >= 12) slot = SLOT_SCTP;
  } else if (next == icmp) {
    slot = SLOT_ICMP;
  }
  if (slot != SLOT_OTHER && slot != SLOT_ICMP) {
    l4 = at;
    l4Bytes = bytes;
    protocol = next;
  }
  setType(block, slot, cast);
  // 32 / 42: TCP SYN without ACK has a type of its own besides TCP's
  if (slot == SLOT_TCP && (load<u8>(frame + at, 13) & 0x12) == 0x02) hashTypes |= <u64>1 << (block == PTYPE_IPV4 ? 32 : 42);
}

/** Types count down from the fragment's: fragment, other (ICMP too), SCTP, TCP, -, UDP; two more for UDP by destination. */
@inline
function setType(block: u32, slot: u32, cast: u32): void {
  const fragment: u32 = block == PTYPE_IPV4 ? HENA_IPV4_FRAGMENT : HENA_IPV4_FRAGMENT + 10;
  ptype = block + slot;
  if (slot == SLOT_TCP) hashTypes = <u64>1 << (fragment - 3);
  else if (slot == SLOT_UDP) hashTypes = <u64>(cast == UNICAST ? 0b101 : 0b110) << (fragment - 7);
  else if (slot == SLOT_SCTP) hashTypes = <u64>1 << (fragment - 2);
  else if (slot == SLOT_FRAGMENT) hashTypes = <u64>1 << fragment;
  else hashTypes = <u64>1 << (fragment - 1);
}
