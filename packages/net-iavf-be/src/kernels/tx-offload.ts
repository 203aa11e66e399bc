/** Offloads of frames that are not segmented: IPv4 header checksum, L4 checksum, VLAN tag. Works on our copy of the frame. */
import { FRAME_L4_TCP, FRAME_L4_UDP, FRAME_TX_L4_CSUM } from './layout';
import { crc32c, fold, insertL4, sum16, sumIpv4Header } from './checksum';
import { CMD_IIPT, CMD_IIPT_IPV4_CSUM, CMD_L4T, CMD_L4T_SCTP, CMD_L4T_TCP, CMD_L4T_UDP } from './tx-descriptor';

const ETHERNET_HEADER_BYTES: u32 = 14;
const MIN_IP_HEADER_BYTES: u32 = 20;
/** Bytes of TCP's header as far as its checksum; UDP's comes earlier. */
export const TCP_CHECKSUM_END: u32 = 18;

/** Do the header lengths of OFFSET fit the frame and the work asked for? */
@inline
export function headersFit(cmd: u32, l2: u32, l3: u32, l4: u32, bytes: u32): bool {
  const l4t = cmd & CMD_L4T;
  if (l4t == 0 && (cmd & CMD_IIPT) != CMD_IIPT_IPV4_CSUM) return true;
  if (l2 < ETHERNET_HEADER_BYTES || l3 < MIN_IP_HEADER_BYTES || l2 + l3 + l4 > bytes) return false;
  // Up to the end of the checksum field
  if (l4t == CMD_L4T_TCP) return l2 + l3 + TCP_CHECKSUM_END <= bytes;
  if (l4t == CMD_L4T_UDP) return l2 + l3 + 8 <= bytes;
  if (l4t == CMD_L4T_SCTP) return l2 + l3 + 12 <= bytes;
  return true;
}

/** Inserts the checksums, or leaves TCP's or UDP's to a peer with `caps`; returns the record's FRAME_* flags. */
export function finishChecksums(frame: u32, cmd: u32, l2: u32, l3: u32, bytes: u32, caps: u32, crcTable: u32): u32 {
  if ((cmd & CMD_IIPT) == CMD_IIPT_IPV4_CSUM) setIpv4Checksum(frame + l2, l3);
  const l4t = cmd & CMD_L4T;
  if (l4t == 0) return 0;
  const at = frame + l2 + l3;
  const covered = bytes - l2 - l3;
  if (l4t == CMD_L4T_SCTP) {
    store<u32>(at, 0, 8);
    store<u32>(at, crc32c(crcTable, at, covered), 8);
    return 0;
  }
  if (caps & FRAME_TX_L4_CSUM) return FRAME_TX_L4_CSUM | (l4t == CMD_L4T_TCP ? FRAME_L4_TCP : FRAME_L4_UDP);
  // The driver has left the pseudo-header sum in the field, so the sum over everything is the sum to invert
  insertL4(at, sum16(at, covered) ^ 0xffff, l4t == CMD_L4T_TCP);
  return 0;
}

@inline
export function setIpv4Checksum(ip: u32, headerBytes: u32): void {
  // The old field is taken out of the sum (by adding its complement) rather than zeroed: a load over a fresh narrow store stalls
  store<u16>(ip, fold(sumIpv4Header(ip, headerBytes) + (load<u16>(ip, 10) ^ 0xffff)) ^ 0xffff, 10);
}

/** The frame lies at slot + 4: moves its addresses to `slot` and puts the tag behind them. */
@inline
export function insertTag(slot: u32, tci: u32): void {
  const destination = load<u64>(slot, 4);
  const rest = load<u32>(slot, 12);
  store<u64>(slot, destination);
  store<u32>(slot, rest, 8);
  store<u32>(slot, 0x0081 | ((tci & 0xff) << 24) | ((tci >> 8) << 16), 12);
}
