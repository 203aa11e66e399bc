/**
 * Runs of Tx packets of several descriptors, each with a buffer in one piece of memory: nearly all that are longer than a buffer. The loops
 * are compiled once for packets to send as they are and once for those with a checksum to insert.
 */
import { CHUNK_BYTES, FRAME_RECORD_BYTES, PADDED_FRAME_BYTES, Q_STAGE, STAGE_CRC_TABLE, STAGE_DESCRIPTORS } from './layout';
import { copyPart, MIN_COPY_INLINE_BYTES } from '../../../../tools/kernels/src/kernels/copy';
import { forgetMiss, isWholeChunk, span, translate } from './iotlb';
import { publish } from './publish';
import { writeRecord } from './record';
import { CMD_IIPT, CMD_L4T, CMD_SPECIAL, cmdOf, DTYPE_MASK, l2Of, l3Of, l4Of, QW1_EOP, QW1_RS, sizeOf } from './tx-descriptor';
import { finishChecksums, headersFit } from './tx-offload';
import { RAISE } from './tx-run';

const TYPE_MASK: u64 = DTYPE_MASK | QW1_EOP | (<u64>CMD_SPECIAL << 4);
const WORK_MASK: u64 = <u64>(CMD_IIPT | CMD_L4T) << 4;

/** What a run leaves behind. */
export let piecesFrames: u32 = 0;
export let piecesBytes: u32 = 0;
/** How many of the frames go to a group address. */
export let piecesGroup: u32 = 0;
/** RAISE if a descriptor of them has RS. */
export let piecesRaise: u32 = 0;
export let piecesHead: u32 = 0;
export let piecesCursor: u32 = 0;

/** The first of several descriptors, with at most checksums to insert. */
@inline
export function isInPieces(qw1: u64): bool {
  return (qw1 & TYPE_MASK) == 0;
}

/**
 * The packets from `head` on, at most `count` and none beyond `available` descriptors. A packet that is wrong, or takes more than that, waits
 * for who can tell. `returns`: QW1_RS, or 0 where no descriptor goes back now.
 */
export function takePieces(
  block: u32, queue: u32, ring: u32, length: u32, head: u32, available: u32, record: u32, count: u32, caps: u32, maxFrame: u32, cursor: u32, end: u32,
  returns: u64, qw1: u64,
): void {
  if ((qw1 & WORK_MASK) == 0) takePlainPieces(block, queue, ring, length, head, available, record, count, maxFrame, cursor, end, returns);
  else takeSummedPieces(block, queue, ring, length, head, available, record, count, caps, maxFrame, cursor, end, returns);
}

function takePlainPieces(
  block: u32, queue: u32, ring: u32, length: u32, head: u32, available: u32, record: u32, count: u32, maxFrame: u32, cursor: u32, end: u32, returns: u64,
): void {
  takeRun(false, block, queue, ring, length, head, available, record, count, 0, maxFrame, cursor, end, returns);
}

function takeSummedPieces(
  block: u32, queue: u32, ring: u32, length: u32, head: u32, available: u32, record: u32, count: u32, caps: u32, maxFrame: u32, cursor: u32, end: u32,
  returns: u64,
): void {
  takeRun(true, block, queue, ring, length, head, available, record, count, caps, maxFrame, cursor, end, returns);
}

@inline
function takeRun(
  summed: bool, block: u32, queue: u32, ring: u32, length: u32, head: u32, available: u32, record: u32, count: u32, caps: u32, maxFrame: u32,
  cursor: u32, end: u32, returns: u64,
): void {
  const second = i64x2.replace_lane(i64x2.splat(0), 1, <u64>queue << 32);
  const stage = load<u32>(block, Q_STAGE);
  const parts = stage + STAGE_DESCRIPTORS;
  const first = record;
  const last = record + count * FRAME_RECORD_BYTES;
  // As far as the end of the ring: a packet that goes on behind it goes the way of any packet
  const lastDescriptor = ring + ((head + min<u32>(available, length - head) - 1) << 4);
  /** The last descriptor of the packet before the one in hand, and of that one. */
  let before = ring + (head << 4) - 16;
  let descriptor = before;
  /** Of those copied aside: the part in hand, and the last one of its packet. */
  let part = parts;
  let lastPart = parts - 16;
  let to = cursor;
  /** qw1 of the packet's last descriptor. */
  let qw1: u64 = 0;
  /** Bytes, frames to a group from bit 32 on, frames with RS from bit 48 on. */
  let sums: u64 = 0;
  // The chunk of the buffer translated last
  let start: u64 = 0;
  let base: u32 = 0;
  let size: u32 = 0;
  while (true) {
    let iova: u64 = 0;
    let bytes: u32 = 0;
    while (true) {
      if (part > lastPart) {
        bytes = 0;
        if (to != cursor) {
          const frameBytes = to - cursor;
          if (summed) {
            const kind = load<u64>(parts, 8);
            const flags = finishChecksums(cursor, cmdOf(kind), l2Of(kind), l3Of(kind), frameBytes, caps, stage + STAGE_CRC_TABLE);
            if (flags == 0) writeRecord(record, cursor, frameBytes, 0, 0, 0, 0, 0, 0, queue);
            else writeRecord(record, cursor, frameBytes, flags, 0, 0, l2Of(kind), l3Of(kind), l4Of(kind), queue);
          } else {
            v128.store(record, i64x2.replace_lane(i64x2.splat(0), 0, <u64>cursor | (<u64>frameBytes << 32)));
            v128.store(record, second, 16);
          }
          sums += <u64>frameBytes | ((load<u64>(cursor) & 1) << 32);
          record += FRAME_RECORD_BYTES;
          cursor = (to + 63) & ~63;
          before = descriptor;
          if ((qw1 & returns) != 0) {
            publish(descriptor + 8, qw1 | 0xf);
            sums += <u64>1 << 48;
          }
        }
        if (record == last) break;
        // The next packet's descriptors: all are looked at before the first byte is copied
        part = parts;
        lastPart = parts - 16;
        let total: u32 = 0;
        do {
          if (descriptor == lastDescriptor) {
            qw1 = 0;
            break;
          }
          descriptor += 16;
          lastPart += 16;
          const both = v128.load(descriptor); // GUEST: fetched once, and again only if nothing came of it
          v128.store(lastPart, both);
          qw1 = i64x2.extract_lane(both, 1);
          total += sizeOf(qw1);
        } while ((qw1 & (summed ? TYPE_MASK | QW1_RS : TYPE_MASK | QW1_RS | WORK_MASK)) == 0);
        if (lastPart == parts || (qw1 & (summed ? TYPE_MASK : TYPE_MASK | WORK_MASK)) != QW1_EOP) break;
        if (total < PADDED_FRAME_BYTES || total > maxFrame || <i32>(end - cursor) < <i32>total) break;
        if (summed) {
          const kind = load<u64>(parts, 8);
          if (!headersFit(cmdOf(kind), l2Of(kind), l3Of(kind), l4Of(kind), total)) break;
        }
        to = cursor;
      }
      bytes = sizeOf(load<u64>(part, 8));
      iova = load<u64>(part);
      const within = iova - start;
      if (bytes < MIN_COPY_INLINE_BYTES || within > <u64>size || <u32>within + bytes > size) break;
      copyPart(to, base + <u32>within, bytes);
      to += bytes;
      part += 16;
    }
    if (bytes < MIN_COPY_INLINE_BYTES) break;
    base = translate(iova);
    if (base == 0 || span < bytes) {
      forgetMiss();
      break;
    }
    const whole = isWholeChunk(iova);
    const within = whole ? <u32>iova & (CHUNK_BYTES - 1) : 0;
    start = iova - within;
    base -= within;
    size = whole ? CHUNK_BYTES : bytes;
  }
  const taken = head + ((before + 16 - ring - (head << 4)) >> 4);
  piecesFrames = (record - first) / FRAME_RECORD_BYTES;
  piecesBytes = <u32>sums;
  piecesGroup = <u32>(sums >> 32) & 0xffff;
  piecesRaise = sums >> 48 != 0 ? RAISE : 0;
  piecesHead = taken == length ? 0 : taken;
  piecesCursor = min<u32>(cursor, end);
}
