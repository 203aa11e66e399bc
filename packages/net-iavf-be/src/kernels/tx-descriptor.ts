/** Fields of the guest's Tx descriptors (qw1), and the packet that a run of them describes. */

export const DTYPE_MASK: u64 = 0xf;
export const DTYPE_DATA: u32 = 0;
export const DTYPE_CONTEXT: u32 = 1;
export const DTYPE_DONE: u32 = 0xf;

/** Bits of qw1. */
export const QW1_EOP: u64 = 1 << 4;
export const QW1_RS: u64 = 1 << 5;
/** OFFSET. */
export const OFFSETS_MASK: u64 = 0x3ffff << 16;

/** Data CMD, relative to bit 4. */
export const CMD_IL2TAG1: u32 = 0x008;
export const CMD_DUMMY: u32 = 0x010;
export const CMD_IIPT: u32 = 0x060;
export const CMD_IIPT_IPV6: u32 = 0x020;
export const CMD_IIPT_IPV4_CSUM: u32 = 0x060;
export const CMD_L4T: u32 = 0x300;
export const CMD_L4T_TCP: u32 = 0x100;
export const CMD_L4T_SCTP: u32 = 0x200;
export const CMD_L4T_UDP: u32 = 0x300;
/** What keeps a packet of one descriptor from the short path. */
export const CMD_SPECIAL: u32 = CMD_IL2TAG1 | CMD_DUMMY;

/** Context CMD, as bits of qw1. */
export const CONTEXT_TSO: u64 = 0x01 << 4;
export const CONTEXT_IL2TAG2: u64 = 0x04 << 4;

@inline
export function dtypeOf(qw1: u64): u32 {
  return <u32>qw1 & 0xf;
}
@inline
export function cmdOf(qw1: u64): u32 {
  return <u32>(qw1 >> 4) & 0xfff;
}
@inline
export function sizeOf(qw1: u64): u32 {
  return <u32>(qw1 >> 34) & 0x3fff;
}
@inline
export function tag1Of(qw1: u64): u32 {
  return <u32>(qw1 >> 48);
}
/** OFFSET in bytes: Ethernet header, IP header, L4 header. */
@inline
export function l2Of(qw1: u64): u32 {
  return (<u32>(qw1 >> 16) & 0x7f) << 1;
}
@inline
export function l3Of(qw1: u64): u32 {
  return (<u32>(qw1 >> 23) & 0x7f) << 2;
}
@inline
export function l4Of(qw1: u64): u32 {
  return (<u32>(qw1 >> 30) & 0xf) << 2;
}
@inline
export function tsoLengthOf(context: u64): u32 {
  return <u32>(context >> 30) & 0x3ffff;
}
@inline
export function mssOf(context: u64): u32 {
  return <u32>(context >> 50);
}

/** The packet `collect` found. */
export let packetDescriptors: u32 = 0;
export let packetBytes: u32 = 0;
/** qw1 of the first data descriptor: it carries CMD, OFFSET and L2TAG1 for the packet. */
export let packetFirst: u64 = 0;
/** qw1 of the last context descriptor, 0 = none. */
export let packetContext: u64 = 0;
export let packetMalformed: bool = false;

/**
 * Copies descriptors from `head` on to `copy` until one ends the packet; false = it does not end within `available`. `qw1` is
 * that of the first one, already fetched. Descriptors of another type inside a packet make it malformed, "done" ones are skipped.
 */
export function collect(ring: u32, length: u32, head: u32, available: u32, qw1: u64, copy: u32): bool {
  let context: u64 = 0;
  let first: u64 = 0;
  let bytes: u32 = 0;
  let started = false;
  let malformed = false;
  let count: u32 = 0;
  while (true) {
    store<u64>(copy, load<u64>(ring + (head << 4)));
    store<u64>(copy, qw1, 8);
    ++count;
    const type = dtypeOf(qw1);
    if (type == DTYPE_DATA) {
      if (!started) first = qw1;
      started = true;
      bytes += sizeOf(qw1);
      if ((qw1 & QW1_EOP) != 0) break;
    } else if (type == DTYPE_CONTEXT && !started) {
      context = qw1;
    } else if (type != DTYPE_DONE) {
      malformed = true;
    }
    if (count == available) return false;
    copy += 16;
    if (++head == length) head = 0;
    qw1 = load<u64>(ring + (head << 4), 8); // GUEST: fetched once
  }
  packetDescriptors = count;
  packetBytes = bytes;
  packetFirst = first;
  packetContext = context;
  packetMalformed = malformed;
  return true;
}
