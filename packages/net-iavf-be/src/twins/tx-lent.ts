/** Twin of src/kernels/tx-lent.ts: packets whose payload stays in the guest's memory until the frame has been taken. */
import { FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_LENT, FRAME_LOAN, FRAME_RECORD_BYTES, LENT_HEAD_BYTES } from '@emudev/ethdev';
import {
  DEV_LENDS, DEV_MAX_FRAME, DEV_TX_BLOCKS, LEND_ABOVE_BYTES, LEND_LEAST, LEND_PAUSE_BURSTS, MAX_LENT, PADDED_FRAME_BYTES, Q_BOUNCED, Q_BYTES, Q_LEND_WAIT,
  Q_LENT, Q_STAGE, STAGE_RETURNS,
} from '../layout.ts';
import type { TwinIotlb } from './iotlb.ts';
import type { TwinMemory } from './memory.ts';
import type { TxBurst } from './tx-burst.ts';
import { CMD_DUMMY, CMD_EOP, CMD_IL2TAG1, CMD_RS, cmdOf, DTYPE_DATA, dtypeOf, fetchDescriptor, sizeOf, type TxDescriptor } from './tx-descriptor.ts';

/** IIPT and L4T of CMD. */
const CHECKSUMS = 0x360;

/** One descriptor, nothing to insert. */
const isPlain = (d: TxDescriptor): boolean =>
  dtypeOf(d) === DTYPE_DATA && (cmdOf(d) & CMD_EOP) !== 0 && (cmdOf(d) & (CMD_IL2TAG1 | CMD_DUMMY | CHECKSUMS)) === 0;

/** Whether long packets of this burst are lent. */
export function lends(memory: TwinMemory, device: number, block: number): boolean {
  if (memory.u32(device + DEV_LENDS) === 0 || memory.u32(block + Q_BOUNCED) !== 0) return false;
  const wait = memory.u32(block + Q_LEND_WAIT);
  if (wait === 0) return true;
  memory.setU32(block + Q_LEND_WAIT, wait - 1);
  return false;
}

export const isLendable = (d: TxDescriptor): boolean => isPlain(d) && sizeOf(d) > LEND_ABOVE_BYTES;

/** The plain packets from that of `first` on, the short ones as they are. Returns how many. */
export function takeLent(
  memory: TwinMemory, iotlb: TwinIotlb, device: number, block: number, ring: number, length: number, available: number, burst: TxBurst, first: TxDescriptor,
): number {
  const returns = memory.u32(block + Q_STAGE) + STAGE_RETURNS;
  const most = Math.min(available, burst.room, MAX_LENT);
  let returned = 0;
  let frames = 0;
  for (let d = first; ; ) {
    const bytes = sizeOf(d);
    if (!isPlain(d) || bytes < PADDED_FRAME_BYTES || bytes > memory.u32(device + DEV_MAX_FRAME) || !burst.hasRoom(bytes)) break;
    const from = iotlb.translate(d.addressHigh, d.addressLow);
    if (from === 0 || iotlb.span < bytes) break;
    const isLent = bytes > LEND_ABOVE_BYTES;
    memory.copy(burst.cursor, from, isLent ? LENT_HEAD_BYTES : bytes);
    const lines = Math.ceil(bytes / 64);
    const next = burst.cursor + 64 * (lines % 2 === 0 ? lines + 1 : lines);
    burst.emit(bytes, isLent ? { flags: FRAME_LENT, loan: from + LENT_HEAD_BYTES } : {});
    burst.cursor = next;
    if (cmdOf(d) & CMD_RS) {
      memory.setU32(returns + 16 * returned, d.low | 0xf);
      memory.setU32(returns + 16 * returned + 4, d.high);
      memory.setU32(returns + 16 * returned + 8, ring + 16 * d.index + 8);
      memory.setU32(returns + 16 * returned + 12, 0);
      returned++;
    }
    if (++frames === most) {
      memory.setU32(block + Q_LENT, returned);
      return frames;
    }
    d = fetchDescriptor(memory, ring, (d.index + 1) % length);
  }
  if (frames > 0) {
    memory.setU32(block + Q_LENT, returned);
    if (frames < LEND_LEAST) memory.setU32(block + Q_LEND_WAIT, LEND_PAUSE_BURSTS);
  }
  return frames;
}

/** What is missing of a lent frame is copied to its place; nothing happens to a whole one. */
export function makeWhole(memory: TwinMemory, record: number): void {
  const flags = memory.u32(record + FRAME_FLAGS);
  if ((flags & FRAME_LENT) === 0) return;
  memory.copy(memory.u32(record + FRAME_DATA) + LENT_HEAD_BYTES, memory.u32(record + FRAME_LOAN), memory.u32(record + FRAME_LENGTH) - LENT_HEAD_BYTES);
  memory.setU32(record + FRAME_FLAGS, flags & ~FRAME_LENT);
  memory.setU32(record + FRAME_LOAN, 0);
}

/** Makes the kept frames whole and gives the descriptors back; true = there were any. */
export function takeBack(memory: TwinMemory, device: number, queue: number, records: number, count: number): boolean {
  for (let n = 0; n < count; n++) makeWhole(memory, records + n * FRAME_RECORD_BYTES);
  const block = memory.u32(device + DEV_TX_BLOCKS) + queue * Q_BYTES;
  const returned = memory.u32(block + Q_LENT);
  const returns = memory.u32(block + Q_STAGE) + STAGE_RETURNS;
  for (let at = returns; at < returns + 16 * returned; at += 16) memory.publish(memory.u32(at + 8), memory.u32(at), memory.u32(at + 4));
  memory.setU32(block + Q_LENT, 0);
  return returned > 0;
}
