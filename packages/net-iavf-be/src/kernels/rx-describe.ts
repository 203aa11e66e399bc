/**
 * What a frame for the guest is: does the guest want it, which queue gets it, what the write-back says about it. Looks at frames
 * and filters only; the answers go to the device's scratch, one entry per frame of the chunk.
 */
import {
  DEV_FLAGS, DEV_HENA, DEV_LUT, DEV_MAX_FRAME, DEV_QUEUE_PAIRS, DEV_RSS_TABLE, DEV_SCRATCH, DEVF_VLAN_STRIP, DEVS_RX_FILTERED,
  DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT, FRAME_FLAGS, FRAME_L2_LENGTH, FRAME_L4_TCP, FRAME_LENGTH, FRAME_LENT, FRAME_RECORD_BYTES,
  FRAME_TX_L4_CSUM, RSS_LUT_ENTRIES, SCRATCH_DISCARD, SCRATCH_ENTRY_BYTES, SCRATCH_LENT, SCRATCH_QUEUE, SCRATCH_QW0, SCRATCH_STATUS,
} from './layout';
import { swap16 } from './checksum';
import {
  classify, ETHERTYPE_IPV4, hashTypes, hasExtensions, ipv4HeaderBytes, isIpv6, isUnparsed, l4, l4Bytes, protocol, PROTOCOL_TCP, PROTOCOL_UDP, ptype,
  PTYPE_L2_PAYLOAD,
} from './classify';
import { makeWhole } from './lent';
import { castOf, isAddressed, isPruned, MAC_MASK, UNICAST } from './filter';
import { toeplitz4, toeplitz6 } from './rss';
import { plainVerdict, verdict, VERIFY_LATER } from './verify';

const ETHERNET_HEADER_BYTES: u32 = 14;
/** 0x8100 as a little-endian load sees it. */
const ETHERTYPE_VLAN: u32 = 0x0081;

/** Bits of qw1. */
export const DD: u64 = 1;
export const EOP: u64 = 2;
export const PTYPE_SHIFT: u64 = 30;
export const L2TAG1P: u64 = 1 << 2;
export const UMBCAST_SHIFT: u64 = 9;
export const UMBCAST_MASK: u64 = 3 << 9;
const FLTSTAT_RSS: u64 = 3 << 12;

const PTYPE_IPV4_UDP: u64 = 24;
const PTYPE_IPV4_TCP: u64 = 26;
/** HENA bits of IPv4: 29 and 31 unicast UDP, 30 and 31 other UDP, 33 TCP, 32 its SYN. */
const HENA_UDP_UNICAST: u64 = 0b101 << 29;
const HENA_UDP_OTHER: u64 = 0b110 << 29;
const HENA_TCP: u64 = <u64>1 << 33;
const HENA_TCP_SYN: u64 = <u64>1 << 32;

/** As far as one has to look into an untagged packet of IPv4, or of nothing we know, to know everything about it but its checksums. */
const FLOW_BYTES: u32 = 48;

export function describe(device: u32, records: u32, count: u32): void {
  const maxFrame = load<u32>(device, DEV_MAX_FRAME);
  const flags = load<u32>(device, DEV_FLAGS);
  const hena = load<u64>(device, DEV_HENA);
  const table = load<u32>(device, DEV_RSS_TABLE);
  const pairs = load<u32>(device, DEV_QUEUE_PAIRS);
  /** The unicast address that was found in the filter last: mostly the guest has but one. */
  let accepted: u64 = -1;
  let lastHash: u32 = 0;
  let entry = device + DEV_SCRATCH;
  const end = records + count * FRAME_RECORD_BYTES;
  for (let record = records; record < end; record += FRAME_RECORD_BYTES, entry += SCRATCH_ENTRY_BYTES) {
    const word = load<u64>(record);
    const data = <u32>word;
    const length = <u32>(word >> 32);
    let l3 = ETHERNET_HEADER_BYTES;
    if (length < ETHERNET_HEADER_BYTES) {
      store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_RUNT, SCRATCH_QUEUE);
      continue;
    }
    if (length > maxFrame) {
      store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_OVERSIZE, SCRATCH_QUEUE);
      continue;
    }
    const address = load<u64>(data) & MAC_MASK;
    const cast = castOf(address);
    if (address != accepted) {
      if (!isAddressed(device, flags, address, cast)) {
        store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_FILTERED, SCRATCH_QUEUE);
        continue;
      }
      accepted = address;
    }
    let etherType: u32 = load<u16>(data, 12);
    let qw0: u64 = 0;
    let status: u64 = DD | EOP | (<u64>cast << UMBCAST_SHIFT);
    if (etherType == ETHERTYPE_VLAN && length >= ETHERNET_HEADER_BYTES + 4) {
      const tci = swap16(load<u16>(data, 14));
      etherType = load<u16>(data, 16);
      l3 = ETHERNET_HEADER_BYTES + 4;
      if (isPruned(device, flags, tci & 0xfff)) {
        store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_FILTERED, SCRATCH_QUEUE);
        continue;
      }
      if ((flags & DEVF_VLAN_STRIP) != 0) {
        status |= L2TAG1P;
        qw0 = <u64>tci << 16;
      }
    }
    const ip = data + l3;
    const plain = etherType == ETHERTYPE_IPV4 ? plainIpv4(ip, length - l3) : 0;
    const isTcp = (plain >> 16) == PROTOCOL_TCP;
    let hash: u32 = 0;
    if (plain != 0) {
      // The common packet: nothing of it goes through the globals of classify.ts
      let types: u64 = cast == UNICAST ? HENA_UDP_UNICAST : HENA_UDP_OTHER;
      if (isTcp) types = (load<u8>(ip, 33) & 0x12) == 0x02 ? HENA_TCP | HENA_TCP_SYN : HENA_TCP;
      if ((types & hena) != 0) {
        hash = toeplitz4(table, ip + 12, ip + 20);
        status |= FLTSTAT_RSS;
      }
      status |= (isTcp ? PTYPE_IPV4_TCP : PTYPE_IPV4_UDP) << PTYPE_SHIFT;
    } else if (isUnparsed(etherType)) {
      status |= <u64>PTYPE_L2_PAYLOAD << PTYPE_SHIFT;
    } else {
      describeParsed(device, entry, record, l3, etherType, cast, qw0, status);
      continue;
    }
    const queue = <u32>load<u8>(device + (hash & (RSS_LUT_ENTRIES - 1)), DEV_LUT);
    if (queue >= pairs) {
      store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_NO_QUEUE, SCRATCH_QUEUE);
      continue;
    }
    qw0 |= <u64>hash << 32;
    conclude(entry, record, data, length, l3, plain, qw0, status, queue);
    if (hash == lastHash && l3 == ETHERNET_HEADER_BYTES && length >= FLOW_BYTES) {
      const more = describeFlow(entry, record, end, plain, qw0, status, queue);
      record += more * FRAME_RECORD_BYTES;
      entry += more * SCRATCH_ENTRY_BYTES;
    }
    lastHash = hash;
  }
}

/**
 * The frames behind `record` as far as they are of its flow; their number. Frames come in trains, and those of one flow go the same way. No frame is
 * ever taken for one of the flow that differs in a bit of the masks. Where no two in a row have a hash in common, nobody gets here.
 */
function describeFlow(entry: u32, record: u32, end: u32, plain: u32, qw0: u64, status: u64, queue: u32): u32 {
  // Destination, EtherType, version and header length
  const mask0 = i8x16(-1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0);
  let mask1 = i64x2.splat(0);
  let mask2 = i64x2.splat(0);
  if (plain != 0) {
    // Length, fragment, protocol, addresses; ports, SYN and ACK
    mask1 = i8x16(-1, -1, 0, 0, 0x3f, -1, 0, -1, 0, 0, -1, -1, -1, -1, -1, -1);
    mask2 = i8x16(-1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    if (plain >> 16 == PROTOCOL_TCP) mask2 = i8x16.replace_lane(mask2, 15, 0x12);
  }
  const first = record;
  const model = load<u32>(record);
  const length = load<u32>(record, FRAME_LENGTH);
  const flow0 = v128.load(model);
  const flow1 = v128.load(model, 16);
  const flow2 = v128.load(model, 32);
  while (true) {
    record += FRAME_RECORD_BYTES;
    entry += SCRATCH_ENTRY_BYTES;
    if (record == end || load<u32>(record, FRAME_LENGTH) != length) break;
    const data = load<u32>(record);
    if (v128.any_true(v128.or(v128.or(
      v128.and(v128.xor(v128.load(data), flow0), mask0),
      v128.and(v128.xor(v128.load(data, 16), flow1), mask1)),
      v128.and(v128.xor(v128.load(data, 32), flow2), mask2)))) break;
    conclude(entry, record, data, length, ETHERNET_HEADER_BYTES, plain, qw0, status, queue);
  }
  return (record - first) / FRAME_RECORD_BYTES - 1;
}

/** What else there is to say of a frame for `queue`: of its checksums, and whether it can stay lent. `plain`: what plainIpv4 has found. */
@inline
function conclude(entry: u32, record: u32, data: u32, length: u32, l3: u32, plain: u32, qw0: u64, status: u64, queue: u32): void {
  let frameFlags = load<u32>(record, FRAME_FLAGS);
  let sumFrom: u32 = 0;
  if ((frameFlags & FRAME_LENT) != 0) {
    // What is looked at lies in its head, and its checksum is summed up when it is copied; else it has to be whole
    if ((frameFlags & FRAME_TX_L4_CSUM) != 0 ? isAsAsked(record, frameFlags, l3, plain, length) : plain == 0 || l3 + (plain & 0xffff) == length) {
      sumFrom = SCRATCH_LENT;
    } else {
      makeWhole(record);
      frameFlags = 0;
    }
  }
  const bits = plain != 0 ? plainVerdict(entry, data, length, l3, frameFlags, (plain & 0xffff) - 20, plain >> 16) : 0;
  if ((bits & VERIFY_LATER) != 0) sumFrom |= l3 + 20;
  answer(entry, qw0, status | (bits & ~VERIFY_LATER), queue, sumFrom);
}

/** Whether the checksum that has been left to us is this packet's, of all of it. */
@inline
function isAsAsked(record: u32, flags: u32, l3: u32, plain: u32, length: u32): bool {
  return plain != 0 && l3 + (plain & 0xffff) == length && load<u32>(record, FRAME_L2_LENGTH) == (l3 | (20 << 16)) &&
    ((flags & FRAME_L4_TCP) != 0) == (plain >> 16 == PROTOCOL_TCP);
}

@inline
function answer(entry: u32, qw0: u64, status: u64, queue: u32, sumFrom: u32): void {
  store<u64>(entry, qw0, SCRATCH_QW0);
  store<u64>(entry, status, SCRATCH_STATUS);
  store<u64>(entry, <u64>queue | (<u64>sumFrom << 32), SCRATCH_QUEUE);
}

/** The rest of `describe` for a frame that goes through classify.ts: ARP, IPv6, fragments and the like. */
function describeParsed(device: u32, entry: u32, record: u32, l3: u32, etherType: u32, cast: u32, qw0: u64, status: u64): void {
  makeWhole(record);
  const data = load<u32>(record);
  const length = load<u32>(record, FRAME_LENGTH);
  const table = load<u32>(device, DEV_RSS_TABLE);
  let hash: u32 = 0;
  let sumFrom: u32 = 0;
  classify(data, length, l3, etherType, cast);
  if ((hashTypes & load<u64>(device, DEV_HENA)) != 0) {
    const ports = l4 != 0 ? data + l4 : 0;
    hash = isIpv6 ? toeplitz6(table, data + l3 + 8, ports) : toeplitz4(table, data + l3 + 12, ports);
    status |= FLTSTAT_RSS;
  }
  status |= <u64>ptype << PTYPE_SHIFT;
  if (l4 != 0 && !hasExtensions) {
    const bits = verdict(entry, data, length, l3, load<u32>(record, FRAME_FLAGS), l4, l4Bytes, protocol, isIpv6, ipv4HeaderBytes);
    if ((bits & VERIFY_LATER) != 0) sumFrom = l4;
    status |= bits & ~VERIFY_LATER;
  }
  const queue = <u32>load<u8>(device + (hash & (RSS_LUT_ENTRIES - 1)), DEV_LUT);
  if (queue >= load<u32>(device, DEV_QUEUE_PAIRS)) {
    store<u32>(entry, SCRATCH_DISCARD + DEVS_RX_NO_QUEUE, SCRATCH_QUEUE);
    return;
  }
  answer(entry, qw0 | (<u64>hash << 32), status, queue, sumFrom);
}

/** A whole IPv4 packet without options in `bytes` bytes, with a whole TCP or UDP header in it: its length and, above, its protocol; else 0. */
@inline
function plainIpv4(ip: u32, bytes: u32): u32 {
  if (bytes < 28) return 0;
  const start = load<u32>(ip);
  const total = swap16(start >>> 16);
  if ((start & 0xff) != 0x45 || total > bytes || (load<u16>(ip, 6) & 0xff3f) != 0) return 0;
  const next: u32 = load<u8>(ip, 9);
  if (next == PROTOCOL_UDP ? total < 28 : next != PROTOCOL_TCP || total < 40) return 0;
  return total | (next << 16);
}
