/** The plain TypeScript twin of kernels/rx.ts: the oracle of its property test, written for reading, not for speed. */
import {
  FRAME_RECORD_BYTES, FRAME_RX_IP_BAD, FRAME_RX_IP_GOOD, FRAME_RX_L4_BAD, FRAME_RX_L4_GOOD, FRAME_RX_RSS, FRAME_RX_VLAN,
} from '@emudev/ethdev';
import {
  PTYPE_IPV4_FIRST, PTYPE_IPV4_LAST, PTYPE_IPV6_FIRST, PTYPE_IPV6_LAST, RXS_DD, RXS_EOP, RXS_FLTSTAT_MASK, RXS_FLTSTAT_RSS, RXS_IPE,
  RXS_L2TAG1P, RXS_L3L4P, RXS_L4E, RXS_RXE, RX_LENGTH_MASK, RX_LENGTH_SHIFT, RX_PTYPE_MASK, RX_PTYPE_SHIFT,
} from '../descriptors.ts';
import {
  MAX_RX_BUFFERS, QS_BYTES, QS_ERRORS, QS_LARGE, QS_NO_ROOM, QS_PACKETS, Q_BUFFERS, Q_BUFFER_BYTES, Q_DOORBELL, Q_ENABLED, Q_HEAD, Q_IOVA,
  Q_LENGTH, Q_NUMBER, Q_RING, Q_SLOTS, Q_TAIL, RXQ_LAST, RXQ_SHORT, RXQ_SKIP, RX_DESCRIPTOR_BYTES, RX_LOOKAHEAD, RX_PATIENCE, SHORT_RX_DESCRIPTOR_BYTES,
} from '../layout.ts';
import { addCounter, field, type TwinMemory } from './memory.ts';

const descriptorBytes = (view: DataView, q: number): number => view.getUint32(q + RXQ_SHORT, true) === 1 ? SHORT_RX_DESCRIPTOR_BYTES : RX_DESCRIPTOR_BYTES;

function repost(view: DataView, q: number): number {
  const stride = descriptorBytes(view, q);
  const ring = view.getUint32(q + Q_RING, true);
  const length = view.getUint32(q + Q_LENGTH, true);
  const head = view.getUint32(q + Q_HEAD, true);
  const limit = (head + length - 1) % length;
  let tail = view.getUint32(q + Q_TAIL, true);
  if (tail === limit) return tail;
  for (; tail !== limit; tail = (tail + 1) % length) {
    const address = view.getBigUint64(q + Q_IOVA, true) + BigInt(view.getUint32(view.getUint32(q + Q_SLOTS, true) + 4 * tail, true));
    view.setBigUint64(ring + tail * stride, address, true);
    view.setBigUint64(ring + tail * stride + 8, 0n, true);
  }
  view.setUint32(q + Q_TAIL, tail, true);
  view.setUint32(view.getUint32(q + Q_DOORBELL, true), tail, true);
  return tail;
}

function checksumFlags(status: number, ptype: number): number {
  const four = ptype >= PTYPE_IPV4_FIRST && ptype <= PTYPE_IPV4_LAST;
  if (!four && (ptype < PTYPE_IPV6_FIRST || ptype > PTYPE_IPV6_LAST)) return 0;
  const kind = ptype - (four ? PTYPE_IPV4_FIRST : PTYPE_IPV6_FIRST);
  let flags = 0;
  if (four) flags |= (status & RXS_IPE) !== 0 ? FRAME_RX_IP_BAD : FRAME_RX_IP_GOOD;
  if (kind === 2 || kind === 4 || kind === 5) flags |= (status & RXS_L4E) !== 0 ? FRAME_RX_L4_BAD : FRAME_RX_L4_GOOD;
  return flags;
}

interface Word {
  readonly low: number;
  readonly high: number;
}

function writeRecord(view: DataView, record: number, data: number, length: number, descriptor: number, word: Word, queue: number): void {
  let flags = 0;
  let tci = 0;
  let hash = 0;
  if ((word.low & RXS_L2TAG1P) !== 0) {
    flags |= FRAME_RX_VLAN;
    tci = view.getUint16(descriptor + 2, true);
  }
  if ((word.low & RXS_FLTSTAT_MASK) === RXS_FLTSTAT_RSS) {
    flags |= FRAME_RX_RSS;
    hash = view.getUint32(descriptor + 4, true);
  }
  if ((word.low & RXS_L3L4P) !== 0) flags |= checksumFlags(word.low, field(word.low, word.high, RX_PTYPE_SHIFT, RX_PTYPE_MASK));
  const words = [data, length, flags, tci, 0, 0, hash, queue];
  words.forEach((value, i) => {
    view.setUint32(record + 4 * i, value, true);
  });
}

export function rxBurstTwin(memory: TwinMemory, q: number, records: number, max: number, arena: number, arenaBytes: number, now: number): number {
  const { view, u8 } = memory;
  const get = (at: number): number => view.getUint32(q + at, true);
  if (get(Q_ENABLED) === 0) return 0;
  const ring = get(Q_RING);
  const length = get(Q_LENGTH);
  const stride = descriptorBytes(view, q);
  if ((now - get(RXQ_LAST)) >>> 0 <= RX_PATIENCE) {
    const lookahead = Math.min(Math.max(max - 1, 0), RX_LOOKAHEAD, length >>> 2);
    const ahead = ring + ((get(Q_HEAD) + lookahead) % length) * stride;
    const posted = (get(Q_TAIL) - get(Q_HEAD) + length) % length;
    if (posted > lookahead && (view.getUint32(ahead + 8, true) & RXS_DD) === 0) return 0;
  }
  const tail = repost(view, q);
  const bufferBytes = get(Q_BUFFER_BYTES);
  const descriptorAt = (index: number): number => ring + index * stride;
  const bufferAt = (index: number): number => get(Q_BUFFERS) + view.getUint32(get(Q_SLOTS) + 4 * index, true);
  const wordAt = (index: number): Word => ({ low: view.getUint32(descriptorAt(index) + 8, true), high: view.getUint32(descriptorAt(index) + 12, true) });
  const lengthOf = (word: Word): number => field(word.low, word.high, RX_LENGTH_SHIFT, RX_LENGTH_MASK);

  let head = get(Q_HEAD);
  let skip = get(RXQ_SKIP) !== 0;
  let count = 0;
  let bytes = 0;
  let arenaUsed = 0;
  const deliver = (data: number, size: number, lastIndex: number): void => {
    writeRecord(view, records + count * FRAME_RECORD_BYTES, data, size, descriptorAt(lastIndex), wordAt(lastIndex), get(Q_NUMBER));
    count++;
    bytes += size;
  };
  while (count < max && head !== tail) {
    const first = wordAt(head);
    if ((first.low & RXS_DD) === 0) break;
    if (skip) {
      if ((first.low & RXS_EOP) !== 0) skip = false;
      head = (head + 1) % length;
      continue;
    }
    const parts: number[] = [];
    let complete = false;
    let bad = false;
    for (let at = head; parts.length < MAX_RX_BUFFERS && at !== tail && !complete; at = (at + 1) % length) {
      const word = wordAt(at);
      if ((word.low & RXS_DD) === 0) break;
      if (lengthOf(word) === 0 || lengthOf(word) > bufferBytes || (word.low & RXS_RXE) !== 0) bad = true;
      if ((word.low & RXS_EOP) !== 0) complete = true;
      parts.push(at);
    }
    if (!complete && parts.length < MAX_RX_BUFFERS) break;
    const next = (head + parts.length) % length;
    if (!complete || bad) {
      addCounter(view, q, QS_ERRORS, 1);
      skip = !complete;
      head = next;
      continue;
    }
    if (parts.length === 1) {
      deliver(bufferAt(head), lengthOf(first), head);
      head = next;
      continue;
    }
    const total = parts.reduce((sum, at) => sum + lengthOf(wordAt(at)), 0);
    if (arenaUsed + total > arenaBytes) {
      if (count > 0) break;
      addCounter(view, q, QS_NO_ROOM, 1);
      head = next;
      continue;
    }
    let to = arena + arenaUsed;
    deliver(to, total, (head + parts.length - 1) % length);
    for (const at of parts) {
      u8.copyWithin(to, bufferAt(at), bufferAt(at) + lengthOf(wordAt(at)));
      to += lengthOf(wordAt(at));
    }
    arenaUsed += Math.ceil(total / 64) * 64;
    addCounter(view, q, QS_LARGE, 1);
    head = next;
  }
  view.setUint32(q + Q_HEAD, head, true);
  view.setUint32(q + RXQ_SKIP, skip ? 1 : 0, true);
  if (count > 0) view.setUint32(q + RXQ_LAST, now, true);
  addCounter(view, q, QS_PACKETS, count);
  addCounter(view, q, QS_BYTES, bytes);
  return count;
}
