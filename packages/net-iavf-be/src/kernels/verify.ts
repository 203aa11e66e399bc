/** Rx checksum verdict of a classified frame, as bits of qw1 of the write-back. */
import { FRAME_RX_IP_BAD, FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD } from './layout';
import { fold, sumIpv4Header, sumWords, swap16 } from './checksum';
import { PROTOCOL_SCTP, PROTOCOL_UDP } from './classify';

const L3L4P: u32 = 1 << 3;
const IPE: u32 = 1 << 22;
const L4E: u32 = 1 << 23;

/**
 * L3L4P only for complete TCP, UDP and (when the sending port vouches for it) SCTP: L3L4P = 0 is always safe, the driver then
 * verifies itself. `flags`: what the sending port has found out (FRAME_RX_*). `l4` is not 0, and IPv6 has no extension headers.
 */
@inline
export function verdict(
  frame: u32, l3: u32, flags: u32, l4: u32, l4Bytes: u32, protocol: u32, isIpv6: bool, ipv4HeaderBytes: u32,
): u32 {
  let bits = L3L4P;
  if (!isIpv6) {
    if (flags & FRAME_RX_IP_BAD) bits |= IPE;
    else if ((flags & FRAME_RX_IP_GOOD) == 0 && fold(sumIpv4Header(frame + l3, ipv4HeaderBytes)) != 0xffff) bits |= IPE;
  }
  if (flags & FRAME_RX_L4_BAD) return bits | L4E;
  if (flags & FRAME_RX_L4_GOOD) return bits;
  if (protocol == PROTOCOL_SCTP) return 0;
  const at = frame + l4;
  if (protocol == PROTOCOL_UDP) {
    // A length that disagrees with IP's is for the driver to judge; so is a zero checksum in IPv6 (RFC 6936)
    if (swap16(load<u16>(at, 4)) != l4Bytes) return 0;
    if (load<u16>(at, 6) == 0) return isIpv6 ? 0 : bits;
  }
  const addresses = isIpv6 ? sumWords(frame + l3 + 8, 32) : <u64>load<u32>(frame + l3, 12) + load<u32>(frame + l3, 16);
  const sum = addresses + sumWords(at, l4Bytes) + (protocol << 8) + swap16(l4Bytes);
  return fold(sum) == 0xffff ? bits : bits | L4E;
}
