/** Twin of src/kernels/tx-lent.ts and lent.ts: packets whose payload stays in the guest's memory until the frame has been taken. */
import {
  FRAME_DATA, FRAME_FLAGS, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_LENGTH, FRAME_LENT, FRAME_LOAN,
  FRAME_RECORD_BYTES, FRAME_TX_L4_CSUM, LENT_HEAD_BYTES,
} from '@emudev/ethdev';
import {
  DEV_LENDS, DEV_MAX_FRAME, DEV_PEER_TX_CAPS, DEV_TX_BLOCKS, LEND_ABOVE_BYTES, Q_BOUNCED, Q_BYTES, Q_HEAD, Q_LENGTH, Q_LENT, Q_RING,
} from '../layout.ts';
import { foldSum, setIpv4Checksum, sumBytes } from './checksum.ts';
import type { TwinIotlb } from './iotlb.ts';
import type { TwinMemory } from './memory.ts';
import type { TxBurst } from './tx-burst.ts';
import {
  CMD_DUMMY, CMD_EOP, CMD_IL2TAG1, CMD_RS, cmdOf, DTYPE_CONTEXT, DTYPE_DATA, DTYPE_DONE, dtypeOf, fetchDescriptor, IIPT_IPV4_CSUM, L4T_TCP, L4T_UDP,
  packetOf, type TxDescriptor, type TxPacket,
} from './tx-descriptor.ts';

/** Bytes of TCP's header as far as its checksum. */
const TCP_CHECKSUM_END = 18;

/** Whether long packets of this burst are lent. */
export function lends(memory: TwinMemory, device: number, block: number): boolean {
  return memory.u32(device + DEV_LENDS) !== 0 && memory.u32(block + Q_BOUNCED) === 0;
}

/** The packet is this descriptor alone, and there is nothing to do but to insert checksums. */
const isSimple = (d: TxDescriptor): boolean => dtypeOf(d) === DTYPE_DATA && (cmdOf(d) & (CMD_EOP | CMD_IL2TAG1 | CMD_DUMMY)) === CMD_EOP;

/** To send as it is, or with the checksum of TCP or UDP in the part that is copied. */
function isLendable(memory: TwinMemory, device: number, p: TxPacket): boolean {
  if (p.bytes <= LEND_ABOVE_BYTES || p.bytes > memory.u32(device + DEV_MAX_FRAME)) return false;
  if (p.iipt === 0 && p.l4t === 0) return true;
  return (p.l4t === L4T_TCP || p.l4t === L4T_UDP) && p.l2 >= 14 && p.l3 >= 20 && p.l2 + p.l3 + TCP_CHECKSUM_END <= LENT_HEAD_BYTES &&
    (memory.u32(device + DEV_PEER_TX_CAPS) & FRAME_TX_L4_CSUM) === 0;
}

/** false = nothing has happened: the packet is not to be lent, or cannot be. */
export function lend(memory: TwinMemory, iotlb: TwinIotlb, device: number, burst: TxBurst, d: TxDescriptor): boolean {
  if (!isSimple(d)) return false;
  const p = packetOf([d]);
  if (!isLendable(memory, device, p) || !burst.hasRoom(p.bytes)) return false;
  const from = iotlb.translate(d.addressHigh, d.addressLow);
  if (from === 0 || iotlb.span < p.bytes) return false;
  memory.copy(burst.cursor, from, LENT_HEAD_BYTES);
  const loan = from + LENT_HEAD_BYTES;
  if (p.l4t === 0) {
    burst.emitLent(p.bytes, { flags: FRAME_LENT, loan });
    return true;
  }
  if (p.iipt === IIPT_IPV4_CSUM) setIpv4Checksum(memory, burst.cursor + p.l2, p.l3);
  burst.emitLent(p.bytes, {
    flags: FRAME_LENT | FRAME_TX_L4_CSUM | (p.l4t === L4T_TCP ? FRAME_L4_TCP : FRAME_L4_UDP), l2: p.l2, l3: p.l3, l4: p.l4, loan,
  });
  return true;
}

/** What is missing of a lent frame is copied to its place, and its checksum inserted; nothing happens to a whole one. */
export function makeWhole(memory: TwinMemory, record: number): void {
  const flags = memory.u32(record + FRAME_FLAGS);
  if ((flags & FRAME_LENT) === 0) return;
  const frame = memory.u32(record + FRAME_DATA);
  const bytes = memory.u32(record + FRAME_LENGTH);
  memory.copy(frame + LENT_HEAD_BYTES, memory.u32(record + FRAME_LOAN), bytes - LENT_HEAD_BYTES);
  if (flags & FRAME_TX_L4_CSUM) {
    const l4 = memory.u16(record + FRAME_L2_LENGTH) + memory.u16(record + FRAME_L3_LENGTH);
    const checksum = foldSum(sumBytes(memory, frame + l4, bytes - l4)) ^ 0xffff;
    if (flags & FRAME_L4_TCP) memory.setBe16(frame + l4 + 16, checksum);
    else memory.setBe16(frame + l4 + 6, checksum === 0 ? 0xffff : checksum);
  }
  memory.setU32(record + FRAME_FLAGS, 0);
  memory.setU32(record + FRAME_LOAN, 0);
  for (const field of [FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_LENGTH]) memory.setU16(record + field, 0);
}

/** Makes the kept frames whole and gives the descriptors back; true = one with RS was among them. */
export function takeBack(memory: TwinMemory, device: number, queue: number, records: number, count: number): boolean {
  for (let n = 0; n < count; n++) makeWhole(memory, records + n * FRAME_RECORD_BYTES);
  const block = memory.u32(device + DEV_TX_BLOCKS) + queue * Q_BYTES;
  const ring = memory.u32(block + Q_RING);
  const length = memory.u32(block + Q_LENGTH);
  const lent = memory.u32(block + Q_LENT);
  const first = (memory.u32(block + Q_HEAD) - lent + length) % length;
  memory.setU32(block + Q_LENT, 0);
  return giveBack(memory, ring, Array.from({ length: lent }, (_, n) => fetchDescriptor(memory, ring, (first + n) % length)));
}

/** Writes 0xF back where RS was set; true = there was one. */
export function giveBack(memory: TwinMemory, ring: number, descriptors: readonly TxDescriptor[]): boolean {
  let any = false;
  for (const d of descriptors) {
    if (!(cmdOf(d) & CMD_RS) || dtypeOf(d) === DTYPE_CONTEXT || dtypeOf(d) === DTYPE_DONE) continue;
    memory.publish(ring + 16 * d.index + 8, d.low | 0xf, d.high);
    any = true;
  }
  return any;
}
