/** Runs of frames for several buffers, each in one piece of memory, that need nothing done: nearly all that are longer than a buffer. */
import {
  FRAME_LENGTH, FRAME_RECORD_BYTES, MAX_RX_BUFFERS, Q_RX_ADDRESSES, SCRATCH_ENTRY_BYTES, SCRATCH_QW0, SCRATCH_STATUS,
} from './layout';
import { copy } from '../../../../tools/kernels/src/kernels/copy';
import { span, translate } from './iotlb';
import { makeEntryWhole } from './lent';
import { DD, L2TAG1P, PTYPE_SHIFT, UMBCAST_MASK } from './rx-describe';
import { LENGTH_SHIFT, writeBack } from './rx-write-back';
import { lateVerdict } from './verify';

/** What `placePieces` leaves behind. */
export let piecesHead: u32 = 0;
export let piecesBytes: u32 = 0;
/** Addresses of the frame it stopped at that are in Q_RX_ADDRESSES already. */
export let piecesFetched: u32 = 0;

/** Fetches the addresses of the buffers from `head` on that take `bytes`; true = each is there, in one piece. */
@inline
function fetchAddresses(addresses: u32, ring: u32, ringLength: u32, head: u32, bytes: u32, buffer: u32, shift: u32): bool {
  let fetched: u32 = 0;
  let good = true;
  for (;;) {
    const iova = load<u64>(ring + (head << shift)); // GUEST: fetched once
    store<u64>(addresses + (fetched << 3), iova);
    ++fetched;
    if (translate(iova) == 0 || span < min<u32>(bytes, buffer)) {
      good = false;
      break;
    }
    if (bytes <= buffer) break;
    bytes -= buffer;
    if (++head == ringLength) head = 0;
  }
  piecesFetched = fetched;
  return good;
}

/** Copies a frame to them; false = one has been evicted since. */
@inline
function copyToAddresses(addresses: u32, data: u32, bytes: u32, buffer: u32): bool {
  while (bytes != 0) {
    const part = min<u32>(bytes, buffer);
    const to = translate(load<u64>(addresses));
    if (to == 0 || span < part) break;
    copy(to, data, part);
    data += part;
    bytes -= part;
    addresses += 8;
  }
  return bytes == 0;
}

/** The first frames of a run as long as they are unicast, longer than a buffer and no longer than `limit`, with nothing to strip. */
export function placePieces(
  block: u32, entry: u32, record: u32, count: u32, ring: u32, ringLength: u32, head: u32, available: u32, buffer: u32, limit: u32, shift: u32,
): u32 {
  const addresses = block + Q_RX_ADDRESSES;
  const first = record;
  let total: u32 = 0;
  piecesFetched = 0;
  for (const end = record + count * FRAME_RECORD_BYTES; record != end; record += FRAME_RECORD_BYTES) {
    const data = load<u32>(record);
    const bytes = load<u32>(record, FRAME_LENGTH);
    let status = load<u64>(entry, SCRATCH_STATUS);
    if (bytes <= buffer || bytes > limit || (status & (UMBCAST_MASK | L2TAG1P)) != 0) break;
    if (bytes > min<u32>(available, MAX_RX_BUFFERS) * buffer) break;
    makeEntryWhole(entry, record);
    // All buffers must be good before the first byte is written: a frame is delivered whole or not at all
    if (!fetchAddresses(addresses, ring, ringLength, head, bytes, buffer, shift) || !copyToAddresses(addresses, data, bytes, buffer)) break;
    status |= lateVerdict(entry, data, bytes);
    // In ring order, as hardware does: drivers that look at several descriptors at once count on it
    const part = DD | (status & ((<u64>0xff) << PTYPE_SHIFT)) | (<u64>buffer << LENGTH_SHIFT);
    let left = bytes;
    while (left > buffer) {
      writeBack(ring + (head << shift), shift, 0, part);
      if (++head == ringLength) head = 0;
      left -= buffer;
    }
    writeBack(ring + (head << shift), shift, load<u64>(entry, SCRATCH_QW0), status | (<u64>left << LENGTH_SHIFT));
    if (++head == ringLength) head = 0;
    available -= piecesFetched;
    piecesFetched = 0;
    total += bytes;
    entry += SCRATCH_ENTRY_BYTES;
  }
  piecesHead = head;
  piecesBytes = total;
  return (record - first) / FRAME_RECORD_BYTES;
}
