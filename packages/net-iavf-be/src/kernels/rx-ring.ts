/**
 * The guest's Rx ring: frames of a burst to guest buffers. Like a NIC it takes every frame: what the guest does not want is
 * filtered, what it has no room for is discarded and counted. Write-back is the legacy 32-byte format (RXDID 0 and 1).
 */
import {
  DEV_FLAGS, DEV_HENA, DEV_IOTLB, DEV_LUT, DEV_MAX_FRAME, DEV_PAUSED, DEV_QUEUE_PAIRS, DEV_RSS_TABLE, DEV_RX_BLOCKS, DEV_RX_KICK,
  DEV_STATS, DEVF_VLAN_STRIP, DEVS_RX_FILTERED, DEVS_RX_NO_QUEUE, DEVS_RX_OVERSIZE, DEVS_RX_RUNT, FRAME_DATA, FRAME_FLAGS,
  FRAME_LENGTH, FRAME_RECORD_BYTES, IOTLB_WRITE, MAX_RX_BUFFERS, PADDED_FRAME_BYTES, Q_BAD_BUFFERS, Q_BUFFER, Q_BYTES, Q_DOORBELL,
  Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH, Q_MAX_PACKET, Q_RING, Q_RX_ADDRESSES, Q_STATS, QFAULT_BUFFER, QFAULT_TAIL, QS_DISCARDS,
  QS_ERRORS, RSS_LUT_ENTRIES, RX_BAD_BUFFER_LIMIT,
} from './layout';
import { swap16 } from './checksum';
import { classify, hashTypes, isIpv6, l4, ptype } from './classify';
import { copy, zero } from './copy';
import { castOf, isAddressed, isPruned, MAC_MASK } from './filter';
import { copyToGuest, isMapped, span, translate, useIotlb, zeroGuest } from './iotlb';
import { toeplitz4, toeplitz6 } from './rss';
import { countCast, increment } from './statistics';
import { verdict } from './verify';

const ETHERNET_HEADER_BYTES: u32 = 14;
const FCS_BYTES: u32 = 4;
/** 0x8100 as a little-endian load sees it. */
const ETHERTYPE_VLAN: u32 = 0x0081;

/** Bits of qw1. */
const DD: u64 = 1;
const EOP: u64 = 2;
const L2TAG1P: u64 = 1 << 2;
const UMBCAST_SHIFT: u64 = 9;
const FLTSTAT_RSS: u64 = 3 << 12;
const RXE: u64 = 1 << 19;
const PTYPE_SHIFT: u64 = 30;
const LENGTH_SHIFT: u64 = 38;

/** Takes all `count` frames (0 while paused); DEV_RX_KICK tells which queues got a write-back. */
export function txBurst(device: u32, records: u32, count: u32): u32 {
  let kick: u32 = 0;
  if (atomic.load<u32>(device + DEV_PAUSED) != 0) count = 0;
  useIotlb(load<u32>(device, DEV_IOTLB), IOTLB_WRITE);
  const end = records + count * FRAME_RECORD_BYTES;
  for (let record = records; record < end; record += FRAME_RECORD_BYTES) kick |= deliver(device, record);
  store<u32>(device, kick, DEV_RX_KICK);
  return count;
}

@inline
function discard(device: u32, counter: u32): u32 {
  increment(device + DEV_STATS + (counter << 3));
  return 0;
}

/** Filter, classify, choose the queue; returns the bit of a queue that got a write-back. */
function deliver(device: u32, record: u32): u32 {
  const data = load<u32>(record, FRAME_DATA);
  const length = load<u32>(record, FRAME_LENGTH);
  if (length < ETHERNET_HEADER_BYTES) return discard(device, DEVS_RX_RUNT);
  if (length > load<u32>(device, DEV_MAX_FRAME)) return discard(device, DEVS_RX_OVERSIZE);
  const flags = load<u32>(device, DEV_FLAGS);
  const address = load<u64>(data) & MAC_MASK;
  const cast = castOf(address);
  if (!isAddressed(device, flags, address, cast)) return discard(device, DEVS_RX_FILTERED);
  let l3 = ETHERNET_HEADER_BYTES;
  let tci: u32 = 0;
  let etherType: u32 = load<u16>(data, 12);
  let strip = false;
  if (etherType == ETHERTYPE_VLAN && length >= ETHERNET_HEADER_BYTES + 4) {
    tci = swap16(load<u16>(data, 14));
    etherType = load<u16>(data, 16);
    l3 = ETHERNET_HEADER_BYTES + 4;
    if (isPruned(device, flags, tci & 0xfff)) return discard(device, DEVS_RX_FILTERED);
    strip = (flags & DEVF_VLAN_STRIP) != 0;
  }
  classify(data, length, l3, etherType, cast);

  let status: u64 = DD | EOP | (<u64>cast << UMBCAST_SHIFT) | (<u64>ptype << PTYPE_SHIFT);
  let hash: u32 = 0;
  if ((hashTypes & load<u64>(device, DEV_HENA)) != 0) {
    const table = load<u32>(device, DEV_RSS_TABLE);
    const ports = l4 != 0 ? data + l4 : 0;
    hash = isIpv6 ? toeplitz6(table, data + l3 + 8, ports) : toeplitz4(table, data + l3 + 12, ports);
    status |= FLTSTAT_RSS;
  }
  const queue = <u32>load<u8>(device + (hash & (RSS_LUT_ENTRIES - 1)), DEV_LUT);
  if (queue >= load<u32>(device, DEV_QUEUE_PAIRS)) return discard(device, DEVS_RX_NO_QUEUE);
  const block = load<u32>(device, DEV_RX_BLOCKS) + queue * Q_BYTES;
  if (load<u32>(block, Q_ENABLED) == 0 || load<u32>(block, Q_FAULT) != 0 || load<u32>(block, Q_RING) == 0) {
    return discard(device, DEVS_RX_NO_QUEUE);
  }
  if (length + FCS_BYTES > load<u32>(block, Q_MAX_PACKET)) return discard(device, DEVS_RX_OVERSIZE);

  let qw0: u64 = <u64>hash << 32;
  if (strip) {
    qw0 |= <u64>tci << 16;
    status |= L2TAG1P;
  }
  status |= verdict(data, l3, load<u32>(record, FRAME_FLAGS));
  return place(block, data, length, strip, cast, qw0, status) ? <u32>1 << queue : 0;
}

/** Puts the frame into as many buffers as it takes, or discards it; true = descriptors were written back. */
@inline
function place(block: u32, data: u32, length: u32, strip: bool, cast: u32, qw0: u64, status: u64): bool {
  const ringLength = load<u32>(block, Q_LENGTH);
  const tail = atomic.load<u32>(load<u32>(block, Q_DOORBELL)); // GUEST: any value
  if (tail >= ringLength) {
    store<u32>(block, QFAULT_TAIL, Q_FAULT);
    increment(block + Q_STATS + (QS_DISCARDS << 3));
    return false;
  }
  const ring = load<u32>(block, Q_RING);
  const head = load<u32>(block, Q_HEAD);
  const available = tail >= head ? tail - head : tail + ringLength - head;
  const content = strip ? length - 4 : length;
  const bytes = content < PADDED_FRAME_BYTES ? PADDED_FRAME_BYTES : content;
  if (bytes <= load<u32>(block, Q_BUFFER) && available != 0) {
    const descriptor = ring + (head << 5);
    const iova = load<u64>(descriptor); // GUEST: fetched once
    const to = translate(iova);
    if (to != 0 && span >= bytes) {
      // The common frame: one buffer in one piece
      if (strip) {
        v128.store(to, v128.load(data)); // 12 bytes of addresses; the other four are overwritten by what follows the tag
        copy(to + 12, data + 16, length - 16);
      } else {
        copy(to, data, length);
      }
      if (content < PADDED_FRAME_BYTES) zero(to + content, PADDED_FRAME_BYTES - content);
      writeBack(descriptor, qw0, status | (<u64>bytes << LENGTH_SHIFT));
      store<u32>(block, head + 1 == ringLength ? 0 : head + 1, Q_HEAD);
      store<u32>(block, 0, Q_BAD_BUFFERS);
      countCast(block + Q_STATS, cast, 1, length);
      return true;
    }
    store<u64>(block, iova, Q_RX_ADDRESSES);
    return scatter(block, ring, ringLength, head, available, data, length, content, bytes, strip, cast, qw0, status, 1);
  }
  return scatter(block, ring, ringLength, head, available, data, length, content, bytes, strip, cast, qw0, status, 0);
}

/** Any number of buffers, crossing any borders. `fetched`: addresses that are in Q_RX_ADDRESSES already. */
function scatter(
  block: u32, ring: u32, ringLength: u32, head: u32, available: u32, data: u32, length: u32, content: u32, bytes: u32, strip: bool,
  cast: u32, qw0: u64, status: u64, fetched: u32,
): bool {
  const buffer = load<u32>(block, Q_BUFFER);
  const addresses = block + Q_RX_ADDRESSES;
  let needed: u32 = 0;
  for (let room: u32 = 0; room < bytes && needed <= MAX_RX_BUFFERS; room += buffer) ++needed;
  if (needed > MAX_RX_BUFFERS || needed > available) {
    increment(block + Q_STATS + (QS_DISCARDS << 3));
    return false;
  }
  // All buffers must be good before the first byte is written: a frame is delivered whole or not at all
  let left = bytes;
  for (let n: u32 = 0; n < needed; ++n) {
    if (n >= fetched) store<u64>(addresses + (n << 3), load<u64>(ring + (wrap(head + n, ringLength) << 5))); // GUEST: fetched once
    const part = min<u32>(left, buffer);
    if (!isMapped(load<u64>(addresses + (n << 3)), part)) {
      refuse(block, ring, ringLength, head, n + 1);
      return true;
    }
    left -= part;
  }
  let at: u32 = 0;
  for (let n: u32 = 0; n < needed; ++n) {
    const part = min<u32>(bytes - at, buffer);
    fill(load<u64>(addresses + (n << 3)), data, at, part, content, strip);
    at += part;
  }
  // Last one first: a driver that has seen the first DD finds the whole frame
  for (let n = needed; n-- != 0;) {
    const descriptor = ring + (wrap(head + n, ringLength) << 5);
    if (n + 1 == needed) writeBack(descriptor, qw0, status | (<u64>(bytes - n * buffer) << LENGTH_SHIFT));
    else writeBack(descriptor, 0, DD | (status & ((<u64>0xff) << PTYPE_SHIFT)) | (<u64>buffer << LENGTH_SHIFT));
  }
  store<u32>(block, wrap(head + needed, ringLength), Q_HEAD);
  store<u32>(block, 0, Q_BAD_BUFFERS);
  countCast(block + Q_STATS, cast, 1, length);
  return true;
}

@inline
function wrap(index: u32, length: u32): u32 {
  return index >= length ? index - length : index;
}

/** Bytes [at, at + bytes) of what the guest gets: the frame, without its tag when stripped, zeroes behind `content`. */
function fill(iova: u64, data: u32, at: u32, bytes: u32, content: u32, strip: bool): void {
  if (strip && at < 12) {
    const part = min<u32>(12 - at, bytes);
    copyToGuest(iova, data + at, part);
    iova += part;
    at += part;
    bytes -= part;
  }
  if (at < content) {
    const part = min<u32>(content - at, bytes);
    copyToGuest(iova, data + at + (strip ? 4 : 0), part);
    iova += part;
    bytes -= part;
  }
  zeroGuest(iova, bytes);
}

/** Ownership bit in one store after the other words: the guest's driver may look at any time. */
@inline
function writeBack(descriptor: u32, qw0: u64, qw1: u64): void {
  store<u64>(descriptor, qw0);
  store<u64>(descriptor, 0, 16);
  store<u64>(descriptor, 0, 24);
  atomic.store<u64>(descriptor + 8, qw1);
}

/**
 * A buffer that is not mapped for writing: its descriptor, and those before it that the frame would have used, go back as frames
 * with a receive error, which every driver drops. A guest that goes on like that loses the queue.
 */
function refuse(block: u32, ring: u32, ringLength: u32, head: u32, count: u32): void {
  increment(block + Q_STATS + (QS_DISCARDS << 3));
  increment(block + Q_STATS + (QS_ERRORS << 3));
  for (let n: u32 = 0; n < count; ++n) {
    writeBack(ring + (wrap(head + n, ringLength) << 5), 0, DD | EOP | RXE | (<u64>PADDED_FRAME_BYTES << LENGTH_SHIFT));
  }
  store<u32>(block, wrap(head + count, ringLength), Q_HEAD);
  const bad = load<u32>(block, Q_BAD_BUFFERS) + 1;
  store<u32>(block, bad, Q_BAD_BUFFERS);
  if (bad >= RX_BAD_BUFFER_LIMIT) store<u32>(block, QFAULT_BUFFER, Q_FAULT);
}
