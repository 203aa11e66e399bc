/** Twin of src/kernels/tx-ring.ts: the guest's Tx ring to frames. */
import { IOTLB_READ } from '@emudev/dma';
import { FRAME_IPV6, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_TX_L4_CSUM, FRAME_TX_TSO, FRAME_TX_VLAN } from '@emudev/ethdev';
import {
  DEV_IOTLB, DEV_MAX_FRAME, DEV_PAUSED, DEV_PEER_TX_CAPS, DEV_QUEUE_PAIRS, DEV_TX_BLOCKS, MIN_TX_FRAME_BYTES, PADDED_FRAME_BYTES,
  Q_BYTES, Q_DOORBELL, Q_ENABLED, Q_FAULT, Q_HEAD, Q_LENGTH, Q_LENT, Q_RING, Q_STAGE, Q_STATS, Q_TSO_TOTAL, QFAULT_NEVER_EOP, QFAULT_TAIL,
  QS_ERRORS, STAGE_CRC_TABLE, TSO_HANDOVER_IP_BYTES, TSOF_TAG, TSOF_TAG_PEER,
} from '../layout.ts';
import { crc32c, foldSum, setIpv4Checksum, sumBytes } from './checksum.ts';
import { TwinIotlb, type MissState } from './iotlb.ts';
import type { TwinMemory } from './memory.ts';
import { emitSegments, startSegments, tsoFits } from './tso.ts';
import { insertTag, TxBurst } from './tx-burst.ts';
import { giveBack, lend, lends, takeBack } from './tx-lent.ts';
import {
  CMD_DUMMY, CMD_EOP, CMD_IL2TAG1, cmdOf, DTYPE_CONTEXT, DTYPE_DATA, DTYPE_DONE, dtypeOf, fetchDescriptor, IIPT_IPV4_CSUM,
  IIPT_IPV6, L4T_SCTP, L4T_TCP, L4T_UDP, packetOf, sizeOf, type TxDescriptor, type TxPacket,
} from './tx-descriptor.ts';

type Outcome = 'done' | 'refused' | 'staged' | 'no room';

const RAISE = 1 << 16;
const MISS = 1 << 17;
const LENT = 1 << 18;

export function rxBurst(
  memory: TwinMemory, misses: MissState, device: number, queue: number, records: number, max: number, arena: number, arenaBytes: number,
): number {
  if (memory.acquire(device + DEV_PAUSED) !== 0 || queue >= memory.u32(device + DEV_QUEUE_PAIRS)) return 0;
  const block = memory.u32(device + DEV_TX_BLOCKS) + queue * Q_BYTES;
  const ring = memory.u32(block + Q_RING);
  if (memory.u32(block + Q_ENABLED) === 0 || memory.u32(block + Q_FAULT) !== 0 || ring === 0) return 0;
  const length = memory.u32(block + Q_LENGTH);
  const tail = memory.acquire(memory.u32(block + Q_DOORBELL)); // GUEST: any value
  if (tail >= length) {
    memory.setU32(block + Q_FAULT, QFAULT_TAIL);
    return 0;
  }
  // Left behind by an lcore that has died between a burst and the end of its loans
  let raise = memory.u32(block + Q_LENT) !== 0 && takeBack(memory, device, queue, 0, 0);
  const iotlb = new TwinIotlb(memory, memory.u32(device + DEV_IOTLB), IOTLB_READ, misses);
  const burst = new TxBurst(memory, records, max, arena, arenaBytes, queue, block);
  if (memory.u32(block + Q_TSO_TOTAL) !== 0 && !emitSegments(memory, block, burst)) return burst.produced | (raise ? RAISE : 0);

  let head = memory.u32(block + Q_HEAD);
  const lending = lends(memory, device, block);
  /** Descriptors that are not given back before the payload has been copied: those of the first lent packet and whatever comes behind it. */
  let kept = 0;
  const goOn = (descriptors: readonly TxDescriptor[], isLent: boolean): void => {
    if (isLent || kept > 0) kept += descriptors.length;
    else raise = giveBack(memory, ring, descriptors) || raise;
    head = (head + descriptors.length) % length;
  };
  while (head !== tail && !burst.isFull()) {
    const available = (tail - head + length) % length;
    const first = fetchDescriptor(memory, ring, head);
    if (lending && lend(memory, iotlb, device, burst, first)) {
      goOn([first], true);
      continue;
    }
    let descriptors: TxDescriptor[] = [first];
    if (dtypeOf(first) === DTYPE_DATA || dtypeOf(first) === DTYPE_CONTEXT) {
      descriptors = collect(memory, ring, length, available, first);
      if (!endsPacket(descriptors.at(-1)!)) {
        // The rest is yet to come, unless the guest has no descriptor left to post
        if (available === length - 1) memory.setU32(block + Q_FAULT, QFAULT_NEVER_EOP);
        break;
      }
      const outcome = assemble(memory, iotlb, device, block, burst, packetOf(descriptors));
      if (outcome === 'no room') break;
      goOn(descriptors, false);
      if (outcome === 'refused' && burst.refuse()) break;
      if (outcome === 'staged' && !emitSegments(memory, block, burst)) break;
    } else {
      if (dtypeOf(first) !== DTYPE_DONE) memory.count(block + Q_STATS + 8 * QS_ERRORS);
      goOn(descriptors, false);
    }
  }
  memory.setU32(block + Q_HEAD, head);
  if (kept > 0) memory.setU32(block + Q_LENT, kept);
  return burst.produced | (raise ? RAISE : 0) | (kept > 0 ? LENT : 0) | (iotlb.missed ? MISS : 0);
}

const endsPacket = (d: TxDescriptor): boolean => dtypeOf(d) === DTYPE_DATA && (cmdOf(d) & CMD_EOP) !== 0;

function collect(memory: TwinMemory, ring: number, length: number, available: number, first: TxDescriptor): TxDescriptor[] {
  const descriptors = [first];
  while (!endsPacket(descriptors.at(-1)!) && descriptors.length < available) {
    descriptors.push(fetchDescriptor(memory, ring, (first.index + descriptors.length) % length));
  }
  return descriptors;
}

function assemble(memory: TwinMemory, iotlb: TwinIotlb, device: number, block: number, burst: TxBurst, p: TxPacket): Outcome {
  const fail = (): Outcome => {
    memory.count(block + Q_STATS + 8 * QS_ERRORS);
    return 'refused';
  };
  const unread = (): Outcome => (iotlb.missed ? 'no room' : fail());
  if (p.malformed || p.secondTag) return fail();
  if (p.cmd & CMD_DUMMY) return 'done';
  const fits = p.segmented
    ? tsoFits(memory, device, p)
    : p.bytes >= MIN_TX_FRAME_BYTES && p.bytes <= memory.u32(device + DEV_MAX_FRAME) && headersFit(p);
  if (!fits) return fail();

  const caps = memory.u32(device + DEV_PEER_TX_CAPS);
  const tagged = (p.cmd & CMD_IL2TAG1) !== 0;
  const peerTag = tagged && (caps & FRAME_TX_VLAN) !== 0;
  const gap = tagged && !peerTag ? 4 : 0;
  const room = Math.max(p.bytes + gap, PADDED_FRAME_BYTES);
  const header = p.l2 + p.l3 + p.l4;
  if (p.segmented) {
    const handOver =
      (caps & FRAME_TX_TSO) !== 0 && p.l4t === L4T_TCP && p.bytes - header > p.mss && p.bytes - p.l2 <= TSO_HANDOVER_IP_BYTES &&
      (burst.hasRoom(room) || burst.produced > 0);
    if (!handOver) {
      if (!gather(memory, iotlb, p, memory.u32(block + Q_STAGE))) return unread();
      startSegments(memory, block, p, peerTag ? TSOF_TAG_PEER : tagged ? TSOF_TAG : 0);
      return 'staged';
    }
  }
  if (!burst.hasRoom(room)) return burst.produced === 0 ? fail() : 'no room';
  const frame = burst.cursor + gap;
  if (!gather(memory, iotlb, p, frame)) return unread();

  const tag = { flags: peerTag ? FRAME_TX_VLAN : 0, vlanTci: peerTag ? p.tag1 : 0 };
  const lengths = { l2: p.l2 + gap, l3: p.l3, l4: p.l4 };
  if (p.segmented) {
    if (gap > 0) insertTag(memory, burst.cursor, p.tag1);
    const packets = Math.ceil((p.bytes - header) / p.mss);
    burst.emit(p.bytes + gap, {
      ...tag,
      ...lengths,
      flags: tag.flags | FRAME_TX_TSO | FRAME_L4_TCP | (p.iipt === IIPT_IPV6 ? FRAME_IPV6 : 0),
      segment: p.mss,
      wirePackets: packets,
      wireBytes: p.bytes + gap + (packets - 1) * (header + gap),
    });
    return 'done';
  }
  const undone = finishChecksums(memory, frame, p, caps, memory.u32(block + Q_STAGE) + STAGE_CRC_TABLE);
  if (gap > 0) insertTag(memory, burst.cursor, p.tag1);
  burst.emit(p.bytes + gap, undone === 0 ? tag : { ...tag, ...lengths, flags: tag.flags | undone });
  return 'done';
}

/** Do the header lengths of OFFSET fit the frame and the work asked for? */
function headersFit(p: TxPacket): boolean {
  if (p.l4t === 0 && p.iipt !== IIPT_IPV4_CSUM) return true;
  if (p.l2 < 14 || p.l3 < 20 || p.l2 + p.l3 + p.l4 > p.bytes) return false;
  const checksumEnd = p.l4t === L4T_TCP ? 18 : p.l4t === L4T_UDP ? 8 : p.l4t === L4T_SCTP ? 12 : 0;
  return p.l2 + p.l3 + checksumEnd <= p.bytes;
}

/** Inserts checksums; returns the flags of what is left to the peer. */
function finishChecksums(memory: TwinMemory, frame: number, p: TxPacket, caps: number, crcTable: number): number {
  if (p.iipt === IIPT_IPV4_CSUM) setIpv4Checksum(memory, frame + p.l2, p.l3);
  if (p.l4t === 0) return 0;
  const at = frame + p.l2 + p.l3;
  const covered = p.bytes - p.l2 - p.l3;
  if (p.l4t === L4T_SCTP) {
    memory.setU32(at + 8, 0);
    memory.setU32(at + 8, crc32c(memory, crcTable, at, covered));
    return 0;
  }
  if (caps & FRAME_TX_L4_CSUM) return FRAME_TX_L4_CSUM | (p.l4t === L4T_TCP ? FRAME_L4_TCP : FRAME_L4_UDP);
  const checksum = foldSum(sumBytes(memory, at, covered)) ^ 0xffff;
  if (p.l4t === L4T_TCP) memory.setBe16(at + 16, checksum);
  else memory.setBe16(at + 6, checksum === 0 ? 0xffff : checksum);
  return 0;
}

function gather(memory: TwinMemory, iotlb: TwinIotlb, p: TxPacket, to: number): boolean {
  for (const d of p.descriptors) {
    if (dtypeOf(d) !== DTYPE_DATA) continue;
    const start = to;
    if (!iotlb.forEachPiece(d.addressHigh, d.addressLow, sizeOf(d), (from, at, bytes) => memory.copy(start + at, from, bytes))) return false;
    to += sizeOf(d);
  }
  return true;
}
