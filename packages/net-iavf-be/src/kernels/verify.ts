/** Rx checksum verdict of a classified frame, as bits of qw1 of the write-back. */
import { FRAME_RX_IP_BAD, FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD, FRAME_TX_L4_CSUM, SCRATCH_LENT, SCRATCH_SEED, SCRATCH_SUM_FROM } from './layout';
import { copySummed, fold, sumIpv4Header, sumOf, sumWords, swap16, MAX_SKIPPED } from './checksum';
import { copyLent, copyLentSummed } from './lent';
import { PROTOCOL_SCTP, PROTOCOL_UDP } from './classify';

const L3L4P: u32 = 1 << 3;
const IPE: u32 = 1 << 22;
const L4E: u32 = 1 << 23;
/** No bit of qw1: the sum is taken while the frame is copied. */
export const VERIFY_LATER: u32 = 1 << 31;
const KNOWN: u32 = FRAME_RX_IP_BAD | FRAME_RX_IP_GOOD | FRAME_RX_L4_BAD | FRAME_RX_L4_GOOD;
const VOUCHED: u32 = FRAME_RX_IP_GOOD | FRAME_RX_L4_GOOD;
const LATER_BYTES: u32 = 128;

/**
 * L3L4P only for complete TCP, UDP and (when the sending port vouches for it) SCTP: L3L4P = 0 is always safe, the driver then
 * verifies itself. `flags`: what the sending port has found out (FRAME_RX_*). `l4` is not 0, and IPv6 has no extension headers.
 */
export function verdict(
  entry: u32, frame: u32, length: u32, l3: u32, flags: u32, l4: u32, l4Bytes: u32, protocol: u32, isIpv6: bool, ipv4HeaderBytes: u32,
): u32 {
  let bits = L3L4P;
  if (!isIpv6) {
    if (flags & FRAME_RX_IP_BAD) bits |= IPE;
    else if ((flags & FRAME_RX_IP_GOOD) == 0 && !isGood(sumIpv4Header(frame + l3, ipv4HeaderBytes))) bits |= IPE;
  }
  if (flags & FRAME_RX_L4_BAD) return bits | L4E;
  if (flags & FRAME_RX_L4_GOOD) return bits;
  if (protocol == PROTOCOL_SCTP) return 0;
  const addresses = isIpv6 ? sumWords(frame + l3 + 8, 32) : <u64>load<u32>(frame + l3, 12) + load<u32>(frame + l3, 16);
  return verdictOfL4(bits, entry, frame, length, l4, l4Bytes, protocol, isIpv6, addresses, false);
}

/** As `verdict`, of a packet that `plainIpv4` has found, if it is long enough and its `flags` are the common ones. */
@inline
export function plainVerdict(entry: u32, frame: u32, length: u32, l3: u32, flags: u32, l4Bytes: u32, protocol: u32): u32 {
  const known = flags & KNOWN;
  if (known == VOUCHED) return L3L4P;
  if (known != 0) return verdict(entry, frame, length, l3, flags, l3 + 20, l4Bytes, protocol, false, 20);
  const ip = frame + l3;
  const addresses = <u64>load<u32>(ip, 12) + load<u32>(ip, 16);
  const bits = isGood(addresses + load<u32>(ip) + load<u32>(ip, 4) + load<u32>(ip, 8)) ? L3L4P : L3L4P | IPE;
  return verdictOfL4(bits, entry, frame, length, l3 + 20, l4Bytes, protocol, false, addresses, (flags & FRAME_TX_L4_CSUM) != 0);
}

@inline
function verdictOfL4(
  bits: u32, entry: u32, frame: u32, length: u32, l4: u32, l4Bytes: u32, protocol: u32, isIpv6: bool, addresses: u64, undone: bool,
): u32 {
  const at = frame + l4;
  if (protocol == PROTOCOL_UDP) {
    // A length that disagrees with IP's is for the driver to judge; so is a zero checksum in IPv6 (RFC 6936)
    if (swap16(load<u16>(at, 4)) != l4Bytes) return 0;
    if (load<u16>(at, 6) == 0 && !undone) return isIpv6 ? 0 : bits;
  }
  const seed = addresses + (protocol << 8) + swap16(l4Bytes);
  // It will be right if the sum to go on from, which the sender's driver has left in the field, is right
  if (undone) return isGood(seed + (load<u16>(at + (protocol == PROTOCOL_UDP ? 6 : 16)) ^ 0xffff)) ? bits : bits | L4E;
  if (l4Bytes >= LATER_BYTES && l4 + l4Bytes == length && l4 <= MAX_SKIPPED) {
    store<u64>(entry, seed, SCRATCH_SEED);
    return bits | VERIFY_LATER;
  }
  return isGood(seed + sumOf(at, l4Bytes)) ? bits : bits | L4E;
}

@inline
function isGood(sum: u64): bool {
  return fold(sum) == 0xffff;
}

/** What is still to be said about an entry's checksum: L4E or nothing. */
export function lateVerdict(entry: u32, frame: u32, length: u32): u32 {
  const from = load<u32>(entry, SCRATCH_SUM_FROM);
  return from == 0 || isGood(load<u64>(entry, SCRATCH_SEED) + sumWords(frame + from, length - from)) ? 0 : L4E;
}

/** As `copyFrame` and `lateVerdict`, in one pass; or what SCRATCH_LENT in `from` says. */
export function copyVerified(entry: u32, to: u32, record: u32, length: u32, from: u32): u32 {
  if ((from & SCRATCH_LENT) != 0) {
    from &= ~SCRATCH_LENT;
    if (from != 0) return isGood(load<u64>(entry, SCRATCH_SEED) + copyLentSummed(to, record, length, from)) ? 0 : L4E;
    copyLent(to, record, length);
    return 0;
  }
  const frame = load<u32>(record);
  return isGood(load<u64>(entry, SCRATCH_SEED) + copySummed(to, frame, length, from)) ? 0 : L4E;
}
