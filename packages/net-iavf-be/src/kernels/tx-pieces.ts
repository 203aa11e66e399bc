/** The Tx packet of several buffers, each in one piece of memory: nearly all that have several. */
import { PADDED_FRAME_BYTES, Q_STAGE, Q_STATS, STAGE_CRC_TABLE, STAGE_DESCRIPTORS } from './layout';
import { copy } from '../../../../tools/kernels/src/kernels/copy';
import { forgetMiss, span, translate } from './iotlb';
import { writeRecord } from './record';
import { countFrame } from './statistics';
import { CMD_IIPT, CMD_L4T, cmdOf, l2Of, l3Of, l4Of, packetBytes, packetDescriptors, packetFirst, sizeOf } from './tx-descriptor';
import { finishChecksums, headersFit } from './tx-offload';

/** Where the next frame may begin, after `takePieces`. */
export let piecesEnd: u32 = 0;

/** Makes the ordinary packet that `collect` found a frame at `cursor`; false = it is wrong, or takes more than that, and waits for who can tell. */
export function takePieces(block: u32, queue: u32, record: u32, caps: u32, maxFrame: u32, cursor: u32, end: u32): bool {
  const bytes = packetBytes;
  const first = packetFirst;
  const cmd = cmdOf(first);
  const works = (cmd & (CMD_IIPT | CMD_L4T)) != 0;
  if (bytes < PADDED_FRAME_BYTES || bytes > maxFrame || bytes > end - cursor) return false;
  if (works && !headersFit(cmd, l2Of(first), l3Of(first), l4Of(first), bytes)) return false;
  const stage = load<u32>(block, Q_STAGE);
  let to = cursor;
  let descriptor = stage + STAGE_DESCRIPTORS;
  for (const last = descriptor + (packetDescriptors << 4); descriptor != last; descriptor += 16) {
    const part = sizeOf(load<u64>(descriptor, 8));
    if (part == 0) return false; // its address may be anything, nobody looks at it
    const from = translate(load<u64>(descriptor));
    if (from == 0 || span < part) {
      forgetMiss();
      return false;
    }
    copy(to, from, part);
    to += part;
  }
  let flags: u32 = 0;
  if (works) flags = finishChecksums(cursor, cmd, l2Of(first), l3Of(first), bytes, caps, stage + STAGE_CRC_TABLE);
  if (flags == 0) writeRecord(record, cursor, bytes, 0, 0, 0, 0, 0, 0, queue);
  else writeRecord(record, cursor, bytes, flags, 0, 0, l2Of(first), l3Of(first), l4Of(first), queue);
  countFrame(block + Q_STATS, load<u64>(cursor), 1, bytes);
  piecesEnd = min<u32>((cursor + bytes + 63) & ~63, end);
  return true;
}
