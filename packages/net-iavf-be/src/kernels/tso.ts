/**
 * Segmentation. The whole frame is gathered into the queue's stage once, its descriptors are completed, and the segments are
 * emitted by as many bursts as it takes: Q_TSO_* is where it stands.
 */
import {
  DEV_MAX_FRAME, FRAME_RECORD_BYTES, PADDED_FRAME_BYTES, Q_STAGE, Q_STATS, Q_TSO_OFFSET, Q_TSO_STATE, Q_TSO_TOTAL, QS_ERRORS,
  STAGE_FRAME_BYTES, TSO_MAX_MSS, TSO_MIN_MSS, TSOF_IPV6, TSOF_TAG, TSOF_TAG_PEER, TSOF_UDP, TSOS_FLAGS, TSOS_L2_WORDS,
  TSOS_L3_WORDS, TSOS_L4_WORDS, TSOS_MSS, TSOS_VLAN_TCI, FRAME_TX_VLAN,
} from './layout';
import { copySummed, fold, sumWords, swap16, swap32 } from './checksum';
import { copy, MIN_COPY_FRAME_BYTES } from '../../../../tools/kernels/src/kernels/copy';
import { zero } from './zero';
import { countFrame, increment } from './statistics';
import { writeRecord } from './record';
import { CMD_IIPT, CMD_IIPT_IPV6, CMD_L4T, CMD_L4T_TCP, CMD_L4T_UDP, l2Of, l3Of, l4Of, mssOf, tsoLengthOf } from './tx-descriptor';
import { insertTag, setIpv4Checksum } from './tx-offload';

const TCP_FIN_PSH: u32 = 0x09;
const TCP_CWR: u32 = 0x80;

/** Can a packet with these descriptors be segmented? TSO LEN only has to be there: the payload is what the buffers hold. */
export function tsoFits(device: u32, first: u64, context: u64, cmd: u32, bytes: u32): bool {
  const mss = mssOf(context);
  if (mss < TSO_MIN_MSS || mss > TSO_MAX_MSS || tsoLengthOf(context) == 0) return false;
  const l2 = l2Of(first);
  const l3 = l3Of(first);
  const l4 = l4Of(first);
  const iipt = cmd & CMD_IIPT;
  const l4t = cmd & CMD_L4T;
  if (l2 < 14 || iipt == 0 || l3 < (iipt == CMD_IIPT_IPV6 ? <u32>40 : <u32>20)) return false;
  if (l4t == CMD_L4T_TCP ? l4 < 20 : l4t != CMD_L4T_UDP || l4 != 8) return false;
  const header = l2 + l3 + l4;
  if (bytes <= header || bytes > STAGE_FRAME_BYTES) return false;
  return header + min<u32>(mss, bytes - header) <= load<u32>(device, DEV_MAX_FRAME);
}

/** The stage holds the frame: from here on the queue owes its segments. */
export function startSegments(block: u32, first: u64, context: u64, cmd: u32, bytes: u32, tagFlags: u32, tci: u32): void {
  const state = block + Q_TSO_STATE;
  store<u8>(state, l2Of(first) >> 1, TSOS_L2_WORDS);
  store<u8>(state, l3Of(first) >> 2, TSOS_L3_WORDS);
  store<u8>(state, l4Of(first) >> 2, TSOS_L4_WORDS);
  store<u8>(
    state,
    tagFlags | ((cmd & CMD_IIPT) == CMD_IIPT_IPV6 ? TSOF_IPV6 : 0) | ((cmd & CMD_L4T) == CMD_L4T_UDP ? TSOF_UDP : 0),
    TSOS_FLAGS,
  );
  store<u16>(state, mssOf(context), TSOS_MSS);
  store<u16>(state, tci, TSOS_VLAN_TCI);
  store<u32>(block, 0, Q_TSO_OFFSET);
  store<u32>(block, bytes - l2Of(first) - l3Of(first) - l4Of(first), Q_TSO_TOTAL);
}

/** Where the arena goes on after `emitSegments`. */
export let segmentsEnd: u32 = 0;

/** Emits segments into records [produced, max) and arena [cursor, end); returns the new number of records. */
export function emitSegments(block: u32, queue: u32, records: u32, produced: u32, max: u32, cursor: u32, end: u32): u32 {
  const state = block + Q_TSO_STATE;
  const stage = load<u32>(block, Q_STAGE);
  const flags = <u32>load<u8>(state, TSOS_FLAGS);
  const l2 = <u32>load<u8>(state, TSOS_L2_WORDS) << 1;
  const l3 = <u32>load<u8>(state, TSOS_L3_WORDS) << 2;
  const l4 = <u32>load<u8>(state, TSOS_L4_WORDS) << 2;
  const mss = <u32>load<u16>(state, TSOS_MSS);
  const header = l2 + l3 + l4;
  const total = load<u32>(block, Q_TSO_TOTAL);
  let offset = load<u32>(block, Q_TSO_OFFSET);
  const gap: u32 = flags & TSOF_TAG ? 4 : 0;
  while (offset < total && produced < max) {
    const payload = min<u32>(mss, total - offset);
    let bytes = gap + header + payload;
    if (end - cursor < max_(bytes, PADDED_FRAME_BYTES)) {
      if (produced != 0) break;
      // Not even an empty arena takes a segment: it never will
      increment(block + Q_STATS + (QS_ERRORS << 3));
      offset = total;
      break;
    }
    const frame = cursor + gap;
    copy(frame, stage, header);
    const payloadSum = copyPayload(frame + header, stage + header + offset, payload);
    patchHeaders(frame, flags, l2, l3, l4, offset, payload, payloadSum, mss, offset + payload == total);
    if (gap != 0) insertTag(cursor, load<u16>(state, TSOS_VLAN_TCI));
    if (bytes < PADDED_FRAME_BYTES) {
      zero(cursor + bytes, PADDED_FRAME_BYTES - bytes);
      bytes = PADDED_FRAME_BYTES;
    }
    const peerTag = (flags & TSOF_TAG_PEER) != 0;
    writeRecord(
      records + produced * FRAME_RECORD_BYTES, cursor, bytes, peerTag ? FRAME_TX_VLAN : 0,
      peerTag ? <u32>load<u16>(state, TSOS_VLAN_TCI) : 0, 0, 0, 0, 0, queue,
    );
    countFrame(block + Q_STATS, load<u64>(cursor), 1, bytes);
    offset += payload;
    ++produced;
    cursor = min<u32>((cursor + bytes + 63) & ~63, end);
  }
  store<u32>(block, offset, Q_TSO_OFFSET);
  if (offset >= total) store<u32>(block, 0, Q_TSO_TOTAL);
  segmentsEnd = cursor;
  return produced;
}

/** Returns the unfolded sum of what it copies. */
@inline
function copyPayload(to: u32, from: u32, bytes: u32): u64 {
  if (bytes >= MIN_COPY_FRAME_BYTES) return copySummed(to, from, bytes, 0);
  copy(to, from, bytes);
  return sumWords(from, bytes);
}

@inline
function max_(a: u32, b: u32): u32 {
  return a > b ? a : b;
}

/** Everything in the headers that differs from segment to segment; the checksum seed is the pseudo header without its length. */
function patchHeaders(
  frame: u32, flags: u32, l2: u32, l3: u32, l4: u32, offset: u32, payload: u32, payloadSum: u64, mss: u32, last: bool,
): void {
  const ip = frame + l2;
  const at = ip + l3;
  const l4Total = l4 + payload;
  if (flags & TSOF_IPV6) {
    store<u16>(ip, swap16(l3 - 40 + l4Total), 4);
  } else {
    store<u16>(ip, swap16(l3 + l4Total), 2);
    store<u16>(ip, swap16(swap16(load<u16>(ip, 4)) + offset / mss), 4);
    setIpv4Checksum(ip, l3);
  }
  if (flags & TSOF_UDP) {
    store<u16>(at, swap16(l4Total), 4);
    const sum = fold(sumWords(at, l4) + payloadSum + swap16(l4Total)) ^ 0xffff;
    store<u16>(at, sum == 0 ? 0xffff : sum, 6);
    return;
  }
  store<u32>(at, swap32(swap32(load<u32>(at, 4)) + offset), 4);
  let bits = <u32>load<u8>(at, 13);
  if (!last) bits &= ~TCP_FIN_PSH;
  if (offset != 0) bits &= ~TCP_CWR;
  store<u8>(at, bits, 13);
  store<u16>(at, fold(sumWords(at, l4) + payloadSum + swap16(l4Total)) ^ 0xffff, 16);
}
