/**
 * Runs of Tx packets that are one descriptor each, to copy out of one piece of memory: nearly all. The loops are compiled once for packets
 * to send as they are and once for those with a checksum to insert, and each of them once more for where long ones are lent, so that each
 * keeps its variables in registers.
 */
import {
  CHUNK_BYTES, FRAME_L4_TCP, FRAME_L4_UDP, FRAME_LENT, FRAME_RECORD_BYTES, FRAME_TX_L4_CSUM, LENT_HEAD_BYTES, PADDED_FRAME_BYTES,
} from './layout';
import { copySummed, fold, insertL4, MAX_SKIPPED, sumIpv4Header } from './checksum';
import { copyBlock, copyFrame } from '../../../../tools/kernels/src/kernels/copy';
import { isWholeChunk, span, translate } from './iotlb';
import { publish } from './publish';
import { TCP_CHECKSUM_END } from './tx-offload';
import {
  CMD_IIPT, CMD_IIPT_IPV4_CSUM, CMD_L4T, CMD_L4T_TCP, CMD_L4T_UDP, CMD_SPECIAL, cmdOf, l2Of, l3Of, l4Of, OFFSETS_MASK, QW1_EOP, QW1_RS, sizeOf,
} from './tx-descriptor';

/** Of a burst's result. */
export const RAISE: u32 = 1 << 16;
/** No qw1 is at hand: whoever gets it fetches one. GUEST: a descriptor may well have this value, and is then fetched again. */
export const NOTHING_FETCHED: u64 = 0;
/** Bits of qw1 that make a packet more than one descriptor with perhaps checksums to insert: another type, no EOP, a tag, DUMMY. */
const SIMPLE_MASK: u64 = 0x1f | (<u64>CMD_SPECIAL << 4);
const WORK_MASK: u64 = <u64>(CMD_IIPT | CMD_L4T) << 4;

/** What a run leaves behind. */
export let runFrames: u32 = 0;
export let runBytes: u32 = 0;
/** How many of the frames go to a group address. */
export let runGroup: u32 = 0;
export let runRaise: u32 = 0;
export let runHead: u32 = 0;
export let runCursor: u32 = 0;

/** One descriptor, with at most checksums to insert. */
@inline
export function isSimple(qw1: u64): bool {
  return (qw1 & SIMPLE_MASK) == QW1_EOP;
}

/** Of a simple one: to send as it is. */
@inline
export function isPlain(qw1: u64): bool {
  return (qw1 & WORK_MASK) == 0;
}

/** The plain packets from `head` on. `qw1` is that of the first; returned is that of the packet it stopped at, or NOTHING_FETCHED. */
export function takePlain(
  ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, queue: u32, qw1: u64,
): u64 {
  return takeRun(false, false, ring, length, head, count, record, cursor, end, maxFrame, maxFrame, queue, qw1);
}

/** As `takePlain`, those with TCP's or UDP's checksum to insert, as long as they have it in the same place. */
export function takeSummed(
  ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, queue: u32, qw1: u64,
): u64 {
  return takeRun(true, false, ring, length, head, count, record, cursor, end, maxFrame, maxFrame, queue, qw1);
}

/** As `takePlain`, those longer than `whole` are lent, and no descriptor goes back. */
export function lendPlain(
  ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, whole: u32, queue: u32, qw1: u64,
): u64 {
  return takeRun(false, true, ring, length, head, count, record, cursor, end, maxFrame, whole, queue, qw1);
}

/** As `takeSummed`, those longer than `whole` are lent, and no descriptor goes back. */
export function lendSummed(
  ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, whole: u32, queue: u32, qw1: u64,
): u64 {
  return takeRun(true, true, ring, length, head, count, record, cursor, end, maxFrame, whole, queue, qw1);
}

@inline
function takeRun(
  summed: bool, lends: bool, ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, whole: u32, queue: u32,
  qw1: u64,
): u64 {
  // Of those with checksums, all of a run have this in common
  const kind = summed ? qw1 & (WORK_MASK | OFFSETS_MASK) : 0;
  const least = summed ? leastBytes(qw1) : PADDED_FRAME_BYTES;
  const second = i64x2.replace_lane(i64x2.splat(0), 1, <u64>queue << 32);
  /** Of the records of lent ones: flags in the upper half of the first, header lengths in the lower half of the second. */
  const lentFirst = i64x2.splat(summed ? undoneFlags(kind) : FRAME_LENT);
  const lentSecond = i64x2.splat(summed ? <u64>(l2Of(kind) | (l3Of(kind) << 16)) | (<u64>l4Of(kind) << 32) : 0);
  const first = record;
  // As far as the end of the ring: behind it, another run begins
  const last = record + min<u32>(count, length - head) * FRAME_RECORD_BYTES;
  // Pointers move on before they are used: the result of an addition is an address as it is, what a loop carries along takes a second register
  let descriptor = ring + (head << 4) - 16;
  record -= FRAME_RECORD_BYTES;
  /** Bytes, frames to a group from bit 32 on, frames with RS from bit 48 on: one register instead of three. */
  let sums: u64 = 0;
  // The chunk of the buffer translated last: nearly always those of a run lie in one, and a call among them would put variables on the stack
  let start: u64 = 0;
  let base: u32 = 0;
  let size: u32 = 0;
  let outside: u32 = 0;
  while (true) {
    let iova: u64 = 0;
    let inside = true;
    while (true) {
      record += FRAME_RECORD_BYTES;
      descriptor += 16;
      if (record == last) {
        qw1 = NOTHING_FETCHED;
        break;
      }
      // GUEST: fetched once, and again only if nothing came of it; of the first packet, only `kind` is left of what it was before
      qw1 = load<u64>(descriptor, 8);
      if ((qw1 & (summed ? SIMPLE_MASK | WORK_MASK | OFFSETS_MASK : SIMPLE_MASK | WORK_MASK)) != (QW1_EOP | kind)) break;
      const bytes = sizeOf(qw1);
      if (bytes < least || bytes > maxFrame || <i32>(end - cursor) < <i32>bytes) break;
      iova = load<u64>(descriptor); // GUEST: likewise
      const within = iova - start;
      inside = within <= <u64>size && <u32>within + bytes <= size;
      if (!inside) break;
      const from = base + <u32>within;
      const isLent = lends && bytes > whole;
      if (isLent) {
        // GUEST: what anybody decides by is copied now, and read from the copy
        copyBlock(cursor, from);
        if (summed) insertIpv4(cursor, from, kind);
        v128.store(record, i64x2.replace_lane(lentFirst, 0, <u64>cursor | (<u64>bytes << 32)));
        v128.store(record, i64x2.replace_lane(lentSecond, 1, <u64>(from + LENT_HEAD_BYTES) | (<u64>queue << 32)), 16);
      } else {
        if (summed) copyAndInsert(cursor, from, bytes, kind);
        else copyFrame(cursor, from, bytes);
        v128.store(record, i64x2.replace_lane(i64x2.splat(0), 0, <u64>cursor | (<u64>bytes << 32)));
        v128.store(record, second, 16);
      }
      sums += <u64>bytes | ((load<u64>(cursor) & 1) << 32);
      // Heads lie an odd number of lines apart: else all of them are in the same few sets of the cache
      if (isLent) cursor += ((bytes + 63) | 64) & ~63;
      else cursor = (cursor + bytes + 63) & ~63;
      if (!lends && (qw1 & QW1_RS) != 0) {
        publish(descriptor + 8, qw1 | 0xf);
        sums += <u64>1 << 48;
      }
    }
    // GUEST: the address of one that has been looked up may be another by now
    if (inside || descriptor == outside) break;
    base = translate(iova);
    if (base == 0 || span < sizeOf(qw1)) break;
    // What is not a whole chunk may have been looked up ahead, packet by packet
    const isWhole = isWholeChunk(iova);
    const within = isWhole ? <u32>iova & (CHUNK_BYTES - 1) : 0;
    start = iova - within;
    base -= within;
    size = isWhole ? CHUNK_BYTES : sizeOf(qw1);
    outside = descriptor;
    record -= FRAME_RECORD_BYTES;
    descriptor -= 16;
  }
  const frames = (record - first) / FRAME_RECORD_BYTES;
  head += frames;
  runFrames = frames;
  runBytes = <u32>sums;
  runGroup = <u32>(sums >> 32) & 0xffff;
  runRaise = sums >> 48 != 0 ? RAISE : 0;
  runHead = head == length ? 0 : head;
  runCursor = min<u32>(cursor, end);
  return qw1;
}

/** FRAME_* of a lent frame whose checksum is left to whoever copies it. */
@inline
function undoneFlags(kind: u64): u64 {
  return FRAME_LENT | FRAME_TX_L4_CSUM | ((cmdOf(kind) & CMD_L4T) == CMD_L4T_TCP ? FRAME_L4_TCP : FRAME_L4_UDP);
}

/** Bytes of the shortest packet that these checksums can be inserted into; no packet is as long if they are none of `takeSummed`'s. */
function leastBytes(qw1: u64): u32 {
  const l4t = cmdOf(qw1) & CMD_L4T;
  const l2 = l2Of(qw1);
  const l3 = l3Of(qw1);
  if ((l4t != CMD_L4T_TCP && l4t != CMD_L4T_UDP) || l2 < 14 || l3 < 20 || l2 + l3 > MAX_SKIPPED) return u32.MAX_VALUE;
  return max<u32>(PADDED_FRAME_BYTES, l2 + l3 + max<u32>(l4Of(qw1), l4t == CMD_L4T_TCP ? TCP_CHECKSUM_END : 8));
}

/**
 * Copies a frame and inserts what `kind` says. The sums are taken from the guest's memory in the same pass: a load from the fresh copy
 * would wait for the stores. GUEST: if it changes the frame meanwhile, its checksum is wrong.
 */
@inline
function copyAndInsert(to: u32, from: u32, bytes: u32, kind: u64): void {
  const l2 = l2Of(kind);
  const l3 = l3Of(kind);
  // The driver has left the pseudo-header sum in the field, so the sum over everything is the sum to invert
  const sum = fold(copySummed(to, from, bytes, l2 + l3)) ^ 0xffff;
  insertIpv4(to, from, kind);
  insertL4(to + l2 + l3, sum, (cmdOf(kind) & CMD_L4T) == CMD_L4T_TCP);
}

/** The checksum of the IPv4 header, if `kind` says so. */
@inline
function insertIpv4(to: u32, from: u32, kind: u64): void {
  if ((cmdOf(kind) & CMD_IIPT) != CMD_IIPT_IPV4_CSUM) return;
  const l2 = l2Of(kind);
  const ip = from + l2;
  store<u16>(to + l2, fold(sumIpv4Header(ip, l3Of(kind)) + (load<u16>(ip, 10) ^ 0xffff)) ^ 0xffff, 10);
}
