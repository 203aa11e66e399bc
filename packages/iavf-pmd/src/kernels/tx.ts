// Transmit: frame records become iavf Tx descriptors. The record is free when the burst returns, so the slot must own the bytes: a
// frame that lies in a buffer of the Rx queue it comes from comes with that buffer, in exchange for the slot's own; others are copied.
import { copy, copyInline } from '../../../../tools/kernels/src/kernels/copy';
import { takeLines } from '../../../../tools/kernels/src/kernels/lines';
import { addCounter } from './counter';
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_IPV6, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_L4_SCTP, FRAME_L4_TCP, FRAME_L4_UDP,
  FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_SEGMENT, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_MASK, FRAME_TX_TSO, FRAME_TX_VLAN,
  FRAME_VLAN_TCI, MAX_MSS, MAX_TSO_PAYLOAD_BYTES, MIN_MSS, MIN_TX_FRAME_BYTES, QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS,
  Q_BUFFERS, Q_BUFFER_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA, Q_LENGTH, Q_RING, Q_SLOTS, Q_POOL_BYTES, Q_TAIL, RS_INTERVAL, TXC_EOP, TXC_ICRC,
  TXC_IL2TAG1, TXC_IPV4, TXC_IPV4_CSUM, TXC_IPV6, TXC_RS, TXC_SCTP, TXC_TCP, TXC_UDP, TXD_DONE, TXD_DTYPE_CONTEXT, TXQ_MAX_FRAME, TXQ_PARTNER,
  TXQ_RS_HEAD, TXQ_RS_LIST, TXQ_RS_TAIL, TXQ_SINCE_RS, TXQ_USO, TXX_LENGTH_SHIFT, TXX_MSS_SHIFT, TXX_TSO, TX_CMD_SHIFT,
  TX_DESCRIPTOR_BYTES, TX_L2TAG1_SHIFT, TX_LENGTH_SHIFT, TX_OFFSET_SHIFT,
} from './layout';
import { publish } from './publish';

const TX_DESCRIPTOR_SHIFT: u32 = 4;

/** Takes back the descriptors the device has completed. Only the oldest RS descriptor is looked at: completions come in order. */
function reclaim(q: u32, ring: u32, length: u32): void {
  const list = load<u32>(q + TXQ_RS_LIST);
  const end = load<u32>(q + TXQ_RS_HEAD);
  let next = load<u32>(q + TXQ_RS_TAIL);
  let clean = load<u32>(q + Q_TAIL);
  while (next != end) {
    const index = load<u32>(list + next * 4);
    if ((<u32>atomic.load<u64>(ring + index * TX_DESCRIPTOR_BYTES, 8) & 0xf) != TXD_DONE) break;
    clean = index + 1 == length ? 0 : index + 1;
    next = next + 1 == length ? 0 : next + 1;
  }
  store<u32>(q + TXQ_RS_TAIL, next);
  store<u32>(q + Q_TAIL, clean);
}

@inline
function freeSlots(head: u32, clean: u32, length: u32): u32 {
  return (clean > head ? clean - head : clean + length - head) - 1;
}

/** CMD and OFFSET of a frame with offloads, in place in qword 1; all ones: the header lengths cannot be said in a descriptor. */
function offloads(record: u32, data: u32, bytes: u32, flags: u32): u64 {
  let command: u32 = 0;
  let offset: u32 = 0;
  let tag: u64 = 0;
  if ((flags & FRAME_TX_VLAN) != 0) {
    command |= TXC_IL2TAG1;
    tag = load<u16>(record + FRAME_VLAN_TCI);
  }
  if ((flags & (FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_TX_TSO)) != 0) {
    const l2: u32 = load<u16>(record + FRAME_L2_LENGTH);
    const l3: u32 = load<u16>(record + FRAME_L3_LENGTH);
    const l4: u32 = load<u16>(record + FRAME_L4_LENGTH);
    const l4Wanted = (flags & (FRAME_TX_L4_CSUM | FRAME_TX_TSO)) != 0;
    if ((l2 & 1) != 0 || l2 > 254 || (l3 & 3) != 0 || l3 > 508 || l3 == 0 || l2 + l3 > bytes) return -1;
    if (l4Wanted && ((l4 & 3) != 0 || l4 > 60 || l4 == 0 || l2 + l3 + l4 > bytes)) return -1;
    offset = (l2 >> 1) | ((l3 >> 2) << 7);
    const six = (flags & FRAME_IPV6) != 0 || (load<u8>(data + l2) >> 4) == 6;
    if (six) command |= TXC_IPV6;
    else command |= (flags & (FRAME_TX_IPV4_CSUM | FRAME_TX_TSO)) != 0 ? TXC_IPV4_CSUM : TXC_IPV4;
    if (l4Wanted) {
      offset |= (l4 >> 2) << 14;
      if ((flags & FRAME_L4_TCP) != 0) command |= TXC_TCP;
      else if ((flags & FRAME_L4_UDP) != 0) command |= TXC_UDP;
      else if ((flags & FRAME_L4_SCTP) != 0) command |= TXC_SCTP;
      else return -1;
    }
  }
  return (<u64>command << TX_CMD_SHIFT) | (<u64>offset << TX_OFFSET_SHIFT) | (tag << TX_L2TAG1_SHIFT);
}

/** The partner's Rx slots that the driver holds just now, received and not posted again yet, from the first not looked at on. */
let heldSlot: u32 = 0;
let heldCount: u32 = 0;
let heldBuffers: u32 = 0;
/** Of the partner's ring. */
let heldLength: u32 = 0;

@inline
function usePartner(q: u32): void {
  const partner = load<u32>(q + TXQ_PARTNER);
  heldCount = 0;
  if (partner == 0 || load<u32>(partner + Q_ENABLED) == 0) return;
  const head = load<u32>(partner + Q_HEAD);
  heldSlot = load<u32>(partner + Q_TAIL);
  heldBuffers = load<u32>(partner + Q_SLOTS);
  heldLength = load<u32>(partner + Q_LENGTH);
  heldCount = head >= heldSlot ? head - heldSlot : head + heldLength - heldSlot;
}

/**
 * If a frame at `offset` of the pool lies in a buffer that a held Rx slot owns, Tx slot `mine` gets that buffer and the Rx slot that
 * of the Tx slot. Frames come in the order of their slots, so every held slot is looked at once in a burst at most. false = it lies
 * elsewhere, or was passed over (it has been sent already, or out of order): copy it.
 */
@inline
function exchange(mine: u32, offset: u32, size: u32, bufferBytes: u32): bool {
  let found = false;
  while (heldCount != 0 && !found) {
    const theirs = heldBuffers + heldSlot * 4;
    --heldCount;
    if (++heldSlot == heldLength) heldSlot = 0;
    const start = load<u32>(theirs);
    if (offset - start <= bufferBytes - size) {
      store<u32>(theirs, load<u32>(mine));
      store<u32>(mine, start);
      found = true;
    }
  }
  return found;
}

/** What `sendHeld` and `sendCopied` leave behind. */
let runHead: u32 = 0;
let runBytes: u32 = 0;

/** The frames of these records as long as each needs nothing done and lies in the buffer of the next held slot: their number. */
function sendHeld(q: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, limit: u32): u32 {
  const slots = load<u32>(q + Q_SLOTS);
  const buffers = load<u32>(q + Q_BUFFERS);
  const iova = load<u64>(q + Q_IOVA);
  const theirs = heldBuffers;
  const theirLength = heldLength;
  let slot = heldSlot;
  if (count > heldCount) count = heldCount;
  const first = record;
  const end = record + count * FRAME_RECORD_BYTES;
  let bytes: u32 = 0;
  while (record < end) {
    const word = load<u64>(record);
    const size = <u32>(word >> 32);
    const start = load<u32>(theirs + slot * 4);
    if ((load<u32>(record + FRAME_FLAGS) & FRAME_TX_MASK) != 0 || size - MIN_TX_FRAME_BYTES > limit || <u32>word - buffers != start) break;
    store<u32>(theirs + slot * 4, load<u32>(slots + head * 4));
    store<u32>(slots + head * 4, start);
    v128.store(
      ring + head * TX_DESCRIPTOR_BYTES,
      i64x2.replace_lane(i64x2.splat(iova + start), 1, (<u64>(TXC_ICRC | TXC_EOP) << TX_CMD_SHIFT) | (<u64>size << TX_LENGTH_SHIFT)),
    );
    bytes += size;
    if (++head == length) head = 0;
    if (++slot == theirLength) slot = 0;
    record += FRAME_RECORD_BYTES;
  }
  const sent = (record - first) / FRAME_RECORD_BYTES;
  heldSlot = slot;
  heldCount -= sent;
  runHead = head;
  runBytes = bytes;
  return sent;
}

/** As `sendHeld`, frames that lie elsewhere: each is copied to the slot's own buffer. */
function sendCopied(q: u32, ring: u32, length: u32, head: u32, count: u32, record: u32, limit: u32): u32 {
  const buffers = load<u32>(q + Q_BUFFERS);
  const iova = load<u64>(q + Q_IOVA);
  // As far as the end of the ring: the frame behind it goes the way of any frame
  const first = record;
  const last = record + min<u32>(count, length - head) * FRAME_RECORD_BYTES;
  let bytes: u32 = 0;
  // Pointers move on before they are used: the result of an addition is an address as it is
  let descriptor = ring + head * TX_DESCRIPTOR_BYTES - TX_DESCRIPTOR_BYTES;
  let slot = load<u32>(q + Q_SLOTS) + head * 4 - 4;
  record -= FRAME_RECORD_BYTES;
  while (true) {
    record += FRAME_RECORD_BYTES;
    if (record == last) break;
    descriptor += TX_DESCRIPTOR_BYTES;
    slot += 4;
    const size = load<u32>(record, FRAME_LENGTH);
    if ((load<u32>(record, FRAME_FLAGS) & FRAME_TX_MASK) != 0 || size - MIN_TX_FRAME_BYTES > limit) break;
    const start = load<u32>(slot);
    copyInline(buffers + start, load<u32>(record, FRAME_DATA), size);
    v128.store(
      descriptor,
      i64x2.replace_lane(i64x2.splat(iova + start), 1, (<u64>(TXC_ICRC | TXC_EOP) << TX_CMD_SHIFT) | (<u64>size << TX_LENGTH_SHIFT)),
    );
    bytes += size;
  }
  const sent = (record - first) / FRAME_RECORD_BYTES;
  head += sent;
  runHead = head == length ? 0 : head;
  runBytes = bytes;
  return sent;
}

export function txBurst(q: u32, records: u32, count: u32): u32 {
  if (load<u32>(q + Q_ENABLED) == 0) return 0;
  const ring = load<u32>(q + Q_RING);
  const length = load<u32>(q + Q_LENGTH);
  const buffers = load<u32>(q + Q_BUFFERS);
  const poolBytes = load<u32>(q + Q_POOL_BYTES);
  const bufferBytes = load<u32>(q + Q_BUFFER_BYTES);
  const iova = load<u64>(q + Q_IOVA);
  const slots = load<u32>(q + Q_SLOTS);
  const list = load<u32>(q + TXQ_RS_LIST);
  const maxFrame = load<u32>(q + TXQ_MAX_FRAME);
  let head = load<u32>(q + Q_HEAD);
  const before = head;
  let sinceRs = load<u32>(q + TXQ_SINCE_RS);
  let rsHead = load<u32>(q + TXQ_RS_HEAD);
  let free = freeSlots(head, load<u32>(q + Q_TAIL), length);
  let reclaimed = false;
  if (free < count + RS_INTERVAL) {
    reclaim(q, ring, length);
    free = freeSlots(head, load<u32>(q + Q_TAIL), length);
    reclaimed = true;
  }
  takeLines(ring, length, head, min<u32>(count, free), TX_DESCRIPTOR_SHIFT);

  // Frames come out of one queue: if the first lies in the pool that the partner has, most do, and otherwise none
  const isForeign = count != 0 && load<u32>(records + FRAME_DATA) - buffers >= poolBytes;
  if (isForeign) heldCount = 0;
  else usePartner(q);

  let packets: u32 = 0;
  let bytes: u64 = 0;
  let index: u32 = 0;
  for (; index < count; index++) {
    if ((heldCount != 0 || isForeign) && sinceRs + 1 < RS_INTERVAL) {
      // All but what would need RS: the last one of the burst, or of RS_INTERVAL
      const plain = min<u32>(min<u32>(count - index, RS_INTERVAL - sinceRs) - 1, free);
      const first = records + index * FRAME_RECORD_BYTES;
      const limit = min<u32>(bufferBytes, maxFrame) - MIN_TX_FRAME_BYTES;
      const sent = isForeign ? sendCopied(q, ring, length, head, plain, first, limit) : sendHeld(q, ring, length, head, plain, first, limit);
      head = runHead;
      bytes += runBytes;
      sinceRs += sent;
      free -= sent;
      packets += sent;
      index += sent;
    }
    const record = records + index * FRAME_RECORD_BYTES;
    const data = load<u32>(record + FRAME_DATA);
    const size = load<u32>(record + FRAME_LENGTH);
    const flags = load<u32>(record + FRAME_FLAGS) & (FRAME_TX_MASK | FRAME_L4_TCP | FRAME_L4_UDP | FRAME_L4_SCTP | FRAME_IPV6);

    let word: u64 = 0;
    let context: u64 = 0;
    let bad = size < MIN_TX_FRAME_BYTES;
    if ((flags & FRAME_TX_MASK) != 0 && !bad) {
      word = offloads(record, data, size, flags);
      bad = word == -1;
      if (!bad && (flags & FRAME_TX_TSO) != 0) {
        const header: u32 = <u32>load<u16>(record + FRAME_L2_LENGTH) + load<u16>(record + FRAME_L3_LENGTH) + load<u16>(record + FRAME_L4_LENGTH);
        const mss: u32 = load<u16>(record + FRAME_SEGMENT);
        const payload = size - header;
        bad = payload == 0 || payload > MAX_TSO_PAYLOAD_BYTES || mss < MIN_MSS || mss > MAX_MSS || header + mss > maxFrame
          || (flags & FRAME_L4_SCTP) != 0 || ((flags & FRAME_L4_UDP) != 0 && load<u32>(q + TXQ_USO) == 0);
        context = TXD_DTYPE_CONTEXT | (<u64>TXX_TSO << TX_CMD_SHIFT) | (<u64>payload << TXX_LENGTH_SHIFT) | (<u64>mss << TXX_MSS_SHIFT);
      }
    }
    if (context == 0 && size > maxFrame) bad = true;
    const need: u32 = size <= bufferBytes ? (context != 0 ? 2 : 1) : (size + bufferBytes - 1) / bufferBytes + (context != 0 ? 1 : 0);
    // A frame the ring can never hold (up to RS_INTERVAL slots may be waiting for the next RS) must not block those behind it.
    if (bad || need >= length - RS_INTERVAL) {
      addCounter(q, QS_ERRORS, 1);
      continue;
    }
    if (need > free && !reclaimed) {
      store<u32>(q + TXQ_RS_HEAD, rsHead);
      reclaim(q, ring, length);
      free = freeSlots(head, load<u32>(q + Q_TAIL), length);
      reclaimed = true;
    }
    if (need > free) {
      addCounter(q, QS_NO_ROOM, 1);
      break;
    }
    free -= need;
    if (context != 0) {
      const descriptor: usize = ring + head * TX_DESCRIPTOR_BYTES;
      store<u64>(descriptor, 0);
      store<u64>(descriptor, context, 8);
      head++;
      if (head == length) head = 0;
      addCounter(q, QS_LARGE, 1);
    }
    word |= <u64>TXC_ICRC << TX_CMD_SHIFT;
    sinceRs += need;
    let left = size;
    let from = data;
    do {
      const part = left < bufferBytes ? left : bufferBytes;
      let at = from - buffers; // of the pool
      if (heldCount == 0 || part != size || at >= poolBytes || !exchange(slots + head * 4, at, size, bufferBytes)) {
        at = load<u32>(slots + head * 4);
        copy(buffers + at, from, part);
      }
      from += part;
      left -= part;
      let qw1 = word | (<u64>part << TX_LENGTH_SHIFT);
      if (left == 0) {
        qw1 |= <u64>TXC_EOP << TX_CMD_SHIFT;
        if (sinceRs >= RS_INTERVAL || index + 1 == count) {
          qw1 |= <u64>TXC_RS << TX_CMD_SHIFT;
          store<u32>(list + rsHead * 4, head);
          rsHead++;
          if (rsHead == length) rsHead = 0;
          sinceRs = 0;
        }
      }
      const descriptor: usize = ring + head * TX_DESCRIPTOR_BYTES;
      store<u64>(descriptor, iova + at);
      store<u64>(descriptor, qw1, 8);
      head++;
      if (head == length) head = 0;
    } while (left > 0);
    packets++;
    bytes += size;
  }
  if (head != before) {
    store<u32>(q + Q_HEAD, head);
    store<u32>(q + TXQ_RS_HEAD, rsHead);
    store<u32>(q + TXQ_SINCE_RS, sinceRs);
    addCounter(q, QS_PACKETS, packets);
    addCounter(q, QS_BYTES, bytes);
    // The one store that publishes the burst.
    publish(load<u32>(q + Q_DOORBELL), head);
  }
  return index;
}
