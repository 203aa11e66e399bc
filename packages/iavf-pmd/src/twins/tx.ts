/** The plain TypeScript twin of kernels/tx.ts: the oracle of its property test, written for reading, not for speed. */
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_IPV6, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_L4_SCTP, FRAME_L4_TCP, FRAME_L4_UDP,
  FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_SEGMENT, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN, FRAME_VLAN_TCI,
} from '@emudev/ethdev';
import {
  TXC_EOP, TXC_ICRC, TXC_IL2TAG1, TXC_IPV4, TXC_IPV4_CSUM, TXC_IPV6, TXC_RS, TXC_SCTP, TXC_TCP, TXC_UDP, TXD_DONE, TXD_DTYPE_CONTEXT,
  TXX_LENGTH_SHIFT, TXX_MSS_SHIFT, TXX_TSO, TX_CMD_SHIFT, TX_L2TAG1_SHIFT, TX_LENGTH_SHIFT, TX_OFFSET_SHIFT,
} from '../descriptors.ts';
import {
  MAX_MSS, MAX_TSO_PAYLOAD_BYTES, MIN_MSS, MIN_TX_FRAME_BYTES, QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_BUFFERS,
  Q_BUFFER_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA, Q_LENGTH, Q_RING, Q_SLOTS, Q_POOL_BYTES, Q_TAIL, RS_INTERVAL, TXQ_MAX_FRAME, TXQ_PARTNER, TXQ_RS_HEAD,
  TXQ_RS_LIST, TXQ_RS_TAIL, TXQ_SINCE_RS, TXQ_USO, TX_DESCRIPTOR_BYTES,
} from '../layout.ts';
import { addCounter, type TwinMemory } from './memory.ts';

function reclaim(view: DataView, q: number): void {
  const length = view.getUint32(q + Q_LENGTH, true);
  const list = view.getUint32(q + TXQ_RS_LIST, true);
  let next = view.getUint32(q + TXQ_RS_TAIL, true);
  while (next !== view.getUint32(q + TXQ_RS_HEAD, true)) {
    const index = view.getUint32(list + 4 * next, true);
    if ((view.getUint32(view.getUint32(q + Q_RING, true) + index * TX_DESCRIPTOR_BYTES + 8, true) & 0xf) !== TXD_DONE) break;
    view.setUint32(q + Q_TAIL, (index + 1) % length, true);
    next = (next + 1) % length;
  }
  view.setUint32(q + TXQ_RS_TAIL, next, true);
}

interface Plan {
  /** Qword 1 without length, EOP and RS. */
  readonly word: bigint;
  /** Qword 1 of the context descriptor, if there is one. */
  readonly context?: bigint;
}

/** undefined: the device cannot take the frame. */
function plan(view: DataView, q: number, record: number): Plan | undefined {
  const u16 = (at: number): number => view.getUint16(record + at, true);
  const size = view.getUint32(record + FRAME_LENGTH, true);
  const flags = view.getUint32(record + FRAME_FLAGS, true);
  const maxFrame = view.getUint32(q + TXQ_MAX_FRAME, true);
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const tso = has(FRAME_TX_TSO);
  if (size < MIN_TX_FRAME_BYTES || (!tso && size > maxFrame)) return undefined;
  let command = TXC_ICRC;
  let offset = 0;
  let tag = 0;
  if (has(FRAME_TX_VLAN)) {
    command |= TXC_IL2TAG1;
    tag = u16(FRAME_VLAN_TCI);
  }
  const l2 = u16(FRAME_L2_LENGTH);
  const l3 = u16(FRAME_L3_LENGTH);
  const l4 = u16(FRAME_L4_LENGTH);
  if (tso || has(FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM)) {
    if (l2 % 2 !== 0 || l2 > 254 || l3 % 4 !== 0 || l3 > 508 || l3 === 0 || l2 + l3 > size) return undefined;
    offset = (l2 / 2) | ((l3 / 4) << 7);
    const six = has(FRAME_IPV6) || view.getUint8(view.getUint32(record + FRAME_DATA, true) + l2) >> 4 === 6;
    command |= six ? TXC_IPV6 : tso || has(FRAME_TX_IPV4_CSUM) ? TXC_IPV4_CSUM : TXC_IPV4;
  }
  if (tso || has(FRAME_TX_L4_CSUM)) {
    if (l4 % 4 !== 0 || l4 > 60 || l4 === 0 || l2 + l3 + l4 > size) return undefined;
    offset |= (l4 / 4) << 14;
    if (has(FRAME_L4_TCP)) command |= TXC_TCP;
    else if (has(FRAME_L4_UDP)) command |= TXC_UDP;
    else if (has(FRAME_L4_SCTP)) command |= TXC_SCTP;
    else return undefined;
  }
  const word = (BigInt(command) << BigInt(TX_CMD_SHIFT)) | (BigInt(offset) << BigInt(TX_OFFSET_SHIFT)) | (BigInt(tag) << BigInt(TX_L2TAG1_SHIFT));
  if (!tso) return { word };
  const payload = size - l2 - l3 - l4;
  const mss = u16(FRAME_SEGMENT);
  if (payload === 0 || payload > MAX_TSO_PAYLOAD_BYTES || mss < MIN_MSS || mss > MAX_MSS || l2 + l3 + l4 + mss > maxFrame) return undefined;
  if (has(FRAME_L4_SCTP) || (has(FRAME_L4_UDP) && view.getUint32(q + TXQ_USO, true) === 0)) return undefined;
  const context = BigInt(TXD_DTYPE_CONTEXT | (TXX_TSO << TX_CMD_SHIFT)) | (BigInt(payload) << BigInt(TXX_LENGTH_SHIFT)) | (BigInt(mss) << BigInt(TXX_MSS_SHIFT));
  return { word, context };
}

/** The Rx slots of the partner that the driver holds: received, and not posted again yet. Window offsets of their Q_SLOTS words, in order. */
function heldSlots(view: DataView, q: number): number[] {
  const at = (offset: number): number => view.getUint32(offset, true);
  const partner = at(q + TXQ_PARTNER);
  if (partner === 0 || at(partner + Q_ENABLED) === 0) return [];
  const length = at(partner + Q_LENGTH);
  const tail = at(partner + Q_TAIL);
  const count = (at(partner + Q_HEAD) - tail + length) % length;
  return Array.from({ length: count }, (_, n) => at(partner + Q_SLOTS) + 4 * ((tail + n) % length));
}

/** Does a frame lie in the pool that the queue shares with its partner? */
function isInPool(view: DataView, q: number, data: number): boolean {
  const at = (offset: number): number => view.getUint32(offset, true);
  const offset = data - at(q + Q_BUFFERS);
  return offset >= 0 && offset < at(q + Q_POOL_BYTES);
}

/** Where in the pool the frame lies, if its buffer could be exchanged for that of Tx slot `slot`. What of `held` was looked at is taken away. */
function exchanged(view: DataView, q: number, held: number[], slot: number, data: number, size: number): number | undefined {
  const at = (offset: number): number => view.getUint32(offset, true);
  if (!isInPool(view, q, data)) return undefined;
  const offset = data - at(q + Q_BUFFERS);
  const mine = at(q + Q_SLOTS) + 4 * slot;
  for (let theirs = held.shift(); theirs !== undefined; theirs = held.shift()) {
    const start = at(theirs);
    if (offset < start || offset + size > start + at(q + Q_BUFFER_BYTES)) continue;
    view.setUint32(theirs, at(mine), true);
    view.setUint32(mine, start, true);
    return offset;
  }
  return undefined;
}

export function txBurstTwin(memory: TwinMemory, q: number, records: number, count: number): number {
  const { view, u8 } = memory;
  const get = (at: number): number => view.getUint32(q + at, true);
  const set = (at: number, value: number): void => {
    view.setUint32(q + at, value, true);
  };
  if (get(Q_ENABLED) === 0) return 0;
  const length = get(Q_LENGTH);
  const bufferBytes = get(Q_BUFFER_BYTES);
  const before = get(Q_HEAD);
  const room = (): number => (get(Q_TAIL) + length - get(Q_HEAD) - 1) % length;
  let reclaimed = room() < count + RS_INTERVAL;
  if (reclaimed) reclaim(view, q);

  // A burst whose first frame lies elsewhere came from elsewhere
  const held = count !== 0 && isInPool(view, q, view.getUint32(records + FRAME_DATA, true)) ? heldSlots(view, q) : [];
  let index = 0;
  for (; index < count; index++) {
    const record = records + index * FRAME_RECORD_BYTES;
    const size = view.getUint32(record + FRAME_LENGTH, true);
    const planned = plan(view, q, record);
    const need = Math.ceil(size / bufferBytes) + (planned?.context === undefined ? 0 : 1);
    if (planned === undefined || need >= length - RS_INTERVAL) {
      addCounter(view, q, QS_ERRORS, 1);
      continue;
    }
    if (need > room() && !reclaimed) {
      reclaim(view, q);
      reclaimed = true;
    }
    if (need > room()) {
      addCounter(view, q, QS_NO_ROOM, 1);
      break;
    }
    const fill = (qw0: bigint, qw1: bigint): void => {
      const descriptor = get(Q_RING) + get(Q_HEAD) * TX_DESCRIPTOR_BYTES;
      view.setBigUint64(descriptor, qw0, true);
      view.setBigUint64(descriptor + 8, qw1, true);
      set(Q_HEAD, (get(Q_HEAD) + 1) % length);
    };
    if (planned.context !== undefined) {
      fill(0n, planned.context);
      addCounter(view, q, QS_LARGE, 1);
    }
    set(TXQ_SINCE_RS, get(TXQ_SINCE_RS) + need);
    const data = view.getUint32(record + FRAME_DATA, true);
    for (let done = 0; done < size; done += bufferBytes) {
      const part = Math.min(bufferBytes, size - done);
      const head = get(Q_HEAD);
      let at = part === size ? exchanged(view, q, held, head, data, size) : undefined;
      if (at === undefined) {
        at = view.getUint32(get(Q_SLOTS) + 4 * head, true);
        u8.copyWithin(get(Q_BUFFERS) + at, data + done, data + done + part);
      }
      let command = 0;
      if (done + part === size) {
        command = TXC_EOP;
        if (get(TXQ_SINCE_RS) >= RS_INTERVAL || index + 1 === count) {
          command |= TXC_RS;
          view.setUint32(get(TXQ_RS_LIST) + 4 * get(TXQ_RS_HEAD), head, true);
          set(TXQ_RS_HEAD, (get(TXQ_RS_HEAD) + 1) % length);
          set(TXQ_SINCE_RS, 0);
        }
      }
      const iova = view.getBigUint64(q + Q_IOVA, true) + BigInt(at);
      fill(iova, planned.word | (BigInt(command) << BigInt(TX_CMD_SHIFT)) | (BigInt(part) << BigInt(TX_LENGTH_SHIFT)));
    }
    addCounter(view, q, QS_PACKETS, 1);
    addCounter(view, q, QS_BYTES, size);
  }
  if (get(Q_HEAD) !== before) view.setUint32(get(Q_DOORBELL), get(Q_HEAD), true);
  return index;
}
