/** Segmentation of the staged frame of a queue (see src/kernels/tso.ts for the why). */
import { FRAME_TX_VLAN } from '@emudev/ethdev';
import {
  DEV_MAX_FRAME, PADDED_FRAME_BYTES, Q_STAGE, Q_STATS, Q_TSO_OFFSET, Q_TSO_STATE, Q_TSO_TOTAL, QS_ERRORS, STAGE_FRAME_BYTES,
  TSO_MAX_MSS, TSO_MIN_MSS, TSOF_IPV6, TSOF_TAG, TSOF_TAG_PEER, TSOF_UDP, TSOS_FLAGS, TSOS_L2_WORDS, TSOS_L3_WORDS, TSOS_L4_WORDS,
  TSOS_MSS, TSOS_VLAN_TCI,
} from '../layout.ts';
import { foldSum, setIpv4Checksum, sumBytes } from './checksum.ts';
import { insertTag, type TxBurst } from './tx-burst.ts';
import { IIPT_IPV6, L4T_TCP, L4T_UDP, type TxPacket } from './tx-descriptor.ts';
import type { TwinMemory } from './memory.ts';

export function tsoFits(memory: TwinMemory, device: number, p: TxPacket): boolean {
  const header = p.l2 + p.l3 + p.l4;
  const payload = p.bytes - header;
  return (
    p.mss >= TSO_MIN_MSS && p.mss <= TSO_MAX_MSS && p.tsoLength > 0 &&
    p.l2 >= 14 && p.iipt !== 0 && p.l3 >= (p.iipt === IIPT_IPV6 ? 40 : 20) &&
    (p.l4t === L4T_TCP ? p.l4 >= 20 : p.l4t === L4T_UDP && p.l4 === 8) &&
    payload > 0 && p.bytes <= STAGE_FRAME_BYTES && header + Math.min(p.mss, payload) <= memory.u32(device + DEV_MAX_FRAME)
  );
}

export function startSegments(memory: TwinMemory, block: number, p: TxPacket, tagFlags: number): void {
  const state = block + Q_TSO_STATE;
  memory.setU8(state + TSOS_L2_WORDS, p.l2 / 2);
  memory.setU8(state + TSOS_L3_WORDS, p.l3 / 4);
  memory.setU8(state + TSOS_L4_WORDS, p.l4 / 4);
  memory.setU8(state + TSOS_FLAGS, tagFlags | (p.iipt === IIPT_IPV6 ? TSOF_IPV6 : 0) | (p.l4t === L4T_UDP ? TSOF_UDP : 0));
  memory.setU16(state + TSOS_MSS, p.mss);
  memory.setU16(state + TSOS_VLAN_TCI, p.tag1);
  memory.setU32(block + Q_TSO_OFFSET, 0);
  memory.setU32(block + Q_TSO_TOTAL, p.bytes - p.l2 - p.l3 - p.l4);
}

/** Emits what fits; true = the staged frame is done. */
export function emitSegments(memory: TwinMemory, block: number, burst: TxBurst): boolean {
  const state = block + Q_TSO_STATE;
  const stage = memory.u32(block + Q_STAGE);
  const flags = memory.u8(state + TSOS_FLAGS);
  const l2 = memory.u8(state + TSOS_L2_WORDS) * 2;
  const l3 = memory.u8(state + TSOS_L3_WORDS) * 4;
  const l4 = memory.u8(state + TSOS_L4_WORDS) * 4;
  const mss = memory.u16(state + TSOS_MSS);
  const tci = memory.u16(state + TSOS_VLAN_TCI);
  const header = l2 + l3 + l4;
  const total = memory.u32(block + Q_TSO_TOTAL);
  const gap = flags & TSOF_TAG ? 4 : 0;
  let offset = memory.u32(block + Q_TSO_OFFSET);
  while (offset < total && !burst.isFull()) {
    const payload = Math.min(mss, total - offset);
    const bytes = gap + header + payload;
    if (!burst.hasRoom(Math.max(bytes, PADDED_FRAME_BYTES))) {
      if (burst.produced > 0) break;
      memory.count(block + Q_STATS + 8 * QS_ERRORS); // not even an empty arena takes a segment
      offset = total;
      break;
    }
    const frame = burst.cursor + gap;
    memory.copy(frame, stage, header);
    memory.copy(frame + header, stage + header + offset, payload);

    const ip = frame + l2;
    const at = ip + l3;
    const l4Total = l4 + payload;
    const index = Math.floor(offset / mss);
    if (flags & TSOF_IPV6) {
      memory.setBe16(ip + 4, l3 - 40 + l4Total);
    } else {
      memory.setBe16(ip + 2, l3 + l4Total);
      memory.setBe16(ip + 4, memory.be16(ip + 4) + index);
      setIpv4Checksum(memory, ip, l3);
    }
    if (flags & TSOF_UDP) {
      memory.setBe16(at + 4, l4Total);
      const checksum = foldSum(sumBytes(memory, at, l4Total) + l4Total) ^ 0xffff;
      memory.setBe16(at + 6, checksum === 0 ? 0xffff : checksum);
    } else {
      memory.setBe32(at + 4, memory.be32(at + 4) + offset);
      let tcpFlags = memory.u8(at + 13);
      if (offset + payload < total) tcpFlags &= ~0x09; // FIN, PSH: on the last
      if (offset > 0) tcpFlags &= ~0x80; // CWR: on the first
      memory.setU8(at + 13, tcpFlags);
      memory.setBe16(at + 16, foldSum(sumBytes(memory, at, l4Total) + l4Total) ^ 0xffff);
    }
    if (gap > 0) insertTag(memory, burst.cursor, tci);
    const peerTag = (flags & TSOF_TAG_PEER) !== 0;
    burst.emit(bytes, { flags: peerTag ? FRAME_TX_VLAN : 0, vlanTci: peerTag ? tci : 0 });
    offset += payload;
  }
  memory.setU32(block + Q_TSO_OFFSET, offset);
  if (offset >= total) memory.setU32(block + Q_TSO_TOTAL, 0);
  return offset >= total;
}
