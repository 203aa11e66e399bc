/**
 * Runs of Tx packets that are one descriptor each, to copy out of one piece of memory: nearly all. The loops are compiled once for packets
 * to send as they are and once for those with a checksum to insert, so that each keeps its variables in registers.
 */
import { CHUNK_BYTES, FRAME_RECORD_BYTES, PADDED_FRAME_BYTES } from './layout';
import { copySummed, fold, MAX_SKIPPED, sumIpv4Header } from './checksum';
import { copyFrame } from '../../../../tools/kernels/src/kernels/copy';
import { isWholeChunk, span, translate } from './iotlb';
import { publish } from './publish';
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
  return takeRun(false, ring, length, head, count, record, cursor, end, maxFrame, queue, qw1);
}

/** As `takePlain`, those with TCP's or UDP's checksum to insert, as long as they have it in the same place. */
export function takeSummed(
  ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, queue: u32, qw1: u64,
): u64 {
  return takeRun(true, ring, length, head, count, record, cursor, end, maxFrame, queue, qw1);
}

@inline
function takeRun(
  summed: bool, ring: u32, length: u32, head: u32, count: u32, record: u32, cursor: u32, end: u32, maxFrame: u32, queue: u32, qw1: u64,
): u64 {
  const second = i64x2.replace_lane(i64x2.splat(0), 1, <u64>queue << 32);
  // Of those with checksums, all of a run have this in common
  const kind = summed ? qw1 & (WORK_MASK | OFFSETS_MASK) : 0;
  const least = summed ? leastBytes(qw1) : PADDED_FRAME_BYTES;
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
      if (summed) copyAndInsert(cursor, from, bytes, kind);
      else copyFrame(cursor, from, bytes);
      v128.store(record, i64x2.replace_lane(i64x2.splat(0), 0, <u64>cursor | (<u64>bytes << 32)));
      v128.store(record, second, 16);
      sums += <u64>bytes | ((load<u64>(cursor) & 1) << 32);
      cursor = (cursor + bytes + 63) & ~63;
      if ((qw1 & QW1_RS) != 0) {
        publish(descriptor + 8, qw1 | 0xf);
        sums += <u64>1 << 48;
      }
    }
    // GUEST: the address of one that has been looked up may be another by now
    if (inside || descriptor == outside) break;
    base = translate(iova);
    if (base == 0 || span < sizeOf(qw1)) break;
    // What is not a whole chunk may have been looked up ahead, packet by packet
    const whole = isWholeChunk(iova);
    const within = whole ? <u32>iova & (CHUNK_BYTES - 1) : 0;
    start = iova - within;
    base -= within;
    size = whole ? CHUNK_BYTES : sizeOf(qw1);
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

/** Bytes of the shortest packet that these checksums can be inserted into; no packet is as long if they are none of `takeSummed`'s. */
function leastBytes(qw1: u64): u32 {
  const l4t = cmdOf(qw1) & CMD_L4T;
  const l2 = l2Of(qw1);
  const l3 = l3Of(qw1);
  if ((l4t != CMD_L4T_TCP && l4t != CMD_L4T_UDP) || l2 < 14 || l3 < 20 || l2 + l3 > MAX_SKIPPED) return u32.MAX_VALUE;
  return max<u32>(PADDED_FRAME_BYTES, l2 + l3 + max<u32>(l4Of(qw1), l4t == CMD_L4T_TCP ? 18 : 8));
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
  if ((cmdOf(kind) & CMD_IIPT) == CMD_IIPT_IPV4_CSUM) {
    const ip = from + l2;
    store<u16>(to + l2, fold(sumIpv4Header(ip, l3) + (load<u16>(ip, 10) ^ 0xffff)) ^ 0xffff, 10);
  }
  if ((cmdOf(kind) & CMD_L4T) == CMD_L4T_TCP) store<u16>(to + l2 + l3, sum, 16);
  else store<u16>(to + l2 + l3, sum == 0 ? 0xffff : sum, 6);
}
