/**
 * What a sender left undone (burst.ts) in terms of virtio_net_hdr (virtio 1.2, 5.1.6; the kernel reads it in
 * include/linux/virtio_net.h): where the checksum goes, and how to segment.
 *
 * A TSO frame comes with undefined IP lengths and a pseudo-header sum without length. The kernel wants the frame as it would be
 * were it one large packet: IP length, IPv4 header checksum and a pseudo-header sum with length (tcp_gso_segment subtracts them
 * again). An IP packet has at most 65535 bytes, so a longer TSO frame is written in several such packets, cut between segments.
 */
import { FRAME_DATA, FRAME_FLAGS, FRAME_IPV6, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_L4_SCTP, FRAME_L4_TCP, FRAME_LENGTH, FRAME_SEGMENT, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO } from '../burst.ts';
import { checksumOf, foldSum, sumWindowWords } from '../checksum.ts';
import type { LcoreContext } from '../port.ts';
import { crc32c } from './crc32c.ts';
import { GSO_ECN, GSO_TCPV4, GSO_TCPV6, MAX_IP_BYTES, VHF_NEEDS_CSUM, VH_CSUM_OFFSET, VH_CSUM_START, VH_GSO_SIZE, VH_GSO_TYPE, VH_HEADER_LENGTH } from './format.ts';

const IPV4_MIN = 20;
const IPV6_MIN = 40;
const TCP_MIN = 20;
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
const SCTP_CHECKSUM = 8;
const TCP_FLAGS = 13;
const FIN_PSH = 0x01 | 0x08;
const CWR = 0x80;

type Memory = Pick<LcoreContext, 'u8' | 'u32' | 'view'>;

/** A frame's record, read once with `loadFrame`. */
export interface TxFrame {
  data: number;
  length: number;
  flags: number;
  segment: number;
  l2: number;
  l3: number;
  l4: number;
}

/** The record at byte offset `record`. */
export function loadFrame(memory: Memory, record: number, frame: TxFrame): void {
  const { u32, view } = memory;
  frame.data = u32[(record + FRAME_DATA) >>> 2]!;
  frame.length = u32[(record + FRAME_LENGTH) >>> 2]!;
  frame.flags = u32[(record + FRAME_FLAGS) >>> 2]!;
  frame.segment = view.getUint16(record + FRAME_SEGMENT, true);
  frame.l2 = view.getUint16(record + FRAME_L2_LENGTH, true);
  frame.l3 = view.getUint16(record + FRAME_L3_LENGTH, true);
  frame.l4 = view.getUint16(record + FRAME_L4_LENGTH, true);
}

function clearHeader(memory: Memory, header: number): void {
  const { view } = memory;
  view.setUint32(header, 0);
  view.setUint32(header + 4, 0);
  view.setUint32(header + 8, 0);
}

function finishIpv4(memory: Memory, ip: number, headerBytes: number): void {
  memory.view.setUint16(ip + 10, 0);
  memory.view.setUint16(ip + 10, checksumOf(sumWindowWords(memory.u32, memory.u8, ip, headerBytes)));
}

/** How many bytes of a frame `describeFrame` changes, or looks at to change them: a copy of so many will do. Possibly more than there are. */
export function bytesToFinish(frame: TxFrame): number {
  if ((frame.flags & FRAME_TX_L4_CSUM) !== 0 && (frame.flags & FRAME_L4_SCTP) !== 0) return frame.length;
  return (frame.flags & FRAME_TX_IPV4_CSUM) === 0 ? 0 : frame.l2 + frame.l3;
}

/**
 * Finishes the frame whose bytes are at `at`, or tells the kernel in the virtio header at `header` how to. false: its lengths contradict
 * each other and it cannot be sent.
 */
export function describeFrame(memory: Memory, header: number, at: number, frame: TxFrame): boolean {
  const { view } = memory;
  clearHeader(memory, header);
  if ((frame.flags & (FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM)) === 0) return true;
  const ip = at + frame.l2;
  const l4 = frame.l2 + frame.l3;
  if (l4 > frame.length || frame.l2 < 14) return false;
  if ((frame.flags & FRAME_TX_IPV4_CSUM) !== 0) {
    if (frame.l3 < IPV4_MIN) return false;
    finishIpv4(memory, ip, frame.l3);
  }
  if ((frame.flags & FRAME_TX_L4_CSUM) === 0) return true;
  if ((frame.flags & FRAME_L4_SCTP) !== 0) {
    if (l4 + SCTP_CHECKSUM + 4 > frame.length) return false;
    const sctp = at + l4;
    view.setUint32(sctp + SCTP_CHECKSUM, 0);
    view.setUint32(sctp + SCTP_CHECKSUM, crc32c(memory.u8, sctp, frame.length - l4), true);
    return true;
  }
  const checksum = (frame.flags & FRAME_L4_TCP) !== 0 ? TCP_CHECKSUM : UDP_CHECKSUM;
  if (l4 + checksum + 2 > frame.length) return false;
  view.setUint8(header, VHF_NEEDS_CSUM);
  view.setUint16(header + VH_CSUM_START, l4, true);
  view.setUint16(header + VH_CSUM_OFFSET, checksum, true);
  return true;
}

/** Lengths of a TSO frame make sense; nothing else of it is believed. */
export function isSegmentable(frame: TxFrame): boolean {
  const six = (frame.flags & FRAME_IPV6) !== 0;
  return (
    frame.l2 >= 14 &&
    frame.l3 >= (six ? IPV6_MIN : IPV4_MIN) &&
    frame.l4 >= TCP_MIN &&
    frame.segment > 0 &&
    frame.l2 + frame.l3 + frame.l4 <= frame.length &&
    frame.l3 + frame.l4 + frame.segment <= MAX_IP_BYTES
  );
}

/** Most payload one write of this frame carries: whole segments in one IP packet. */
export function payloadPerWrite(frame: TxFrame): number {
  return Math.floor((MAX_IP_BYTES - frame.l3 - frame.l4) / frame.segment) * frame.segment;
}

/**
 * The headers of the packet with payload bytes [from, from + bytes) of a TSO frame, of which a copy is at `at`, and the virtio header at
 * `header` that goes before them.
 */
export function describeSegment(memory: Memory, header: number, at: number, frame: TxFrame, from: number, bytes: number, last: boolean): void {
  const { u8, u32, view } = memory;
  const six = (frame.flags & FRAME_IPV6) !== 0;
  const ip = at + frame.l2;
  const tcp = ip + frame.l3;
  const tcpBytes = frame.l4 + bytes;
  if (from > 0) view.setUint32(tcp + 4, (view.getUint32(tcp + 4) + from) >>> 0);
  const flags = view.getUint8(tcp + TCP_FLAGS);
  // FIN and PSH belong to the last segment, CWR to the first (RFC 3168 6.1.2).
  const kept = flags & ~((last ? 0 : FIN_PSH) | (from > 0 ? CWR : 0));
  view.setUint8(tcp + TCP_FLAGS, kept);
  let pseudo: number;
  if (six) {
    view.setUint16(ip + 4, frame.l3 - IPV6_MIN + tcpBytes);
    pseudo = sumWindowWords(u32, u8, ip + 8, 32);
  } else {
    view.setUint16(ip + 2, frame.l3 + tcpBytes);
    // Segments are numbered on from the first one's identification.
    view.setUint16(ip + 4, (view.getUint16(ip + 4) + from / frame.segment) & 0xffff);
    finishIpv4(memory, ip, frame.l3);
    pseudo = sumWindowWords(u32, u8, ip + 12, 8);
  }
  view.setUint16(tcp + TCP_CHECKSUM, foldSum(pseudo + 6 + tcpBytes));
  clearHeader(memory, header);
  view.setUint8(header, VHF_NEEDS_CSUM);
  view.setUint16(header + VH_CSUM_START, frame.l2 + frame.l3, true);
  view.setUint16(header + VH_CSUM_OFFSET, TCP_CHECKSUM, true);
  if (bytes > frame.segment) {
    view.setUint8(header + VH_GSO_TYPE, (six ? GSO_TCPV6 : GSO_TCPV4) | ((kept & CWR) !== 0 ? GSO_ECN : 0));
    view.setUint16(header + VH_HEADER_LENGTH, frame.l2 + frame.l3 + frame.l4, true);
    view.setUint16(header + VH_GSO_SIZE, frame.segment, true);
  }
}

/** Whether a frame has to be cut. */
export const isTso = (flags: number): boolean => (flags & FRAME_TX_TSO) !== 0;
