/** Lent frames (FRAME_LENT) on their way to whoever takes them. */
import {
  FRAME_FLAGS, FRAME_L2_LENGTH, FRAME_L3_LENGTH, FRAME_L4_TCP, FRAME_LENGTH, FRAME_LENT, FRAME_LOAN, FRAME_TX_L4_CSUM, LENT_HEAD_BYTES, SCRATCH_LENT,
  SCRATCH_SUM_FROM,
} from './layout';
import { copyBlocksSummed, fold, insertL4, sumOf } from './checksum';
import { copyBlock, copyFrame } from '../../../../tools/kernels/src/kernels/copy';

/** With its checksum. Nothing where it is whole already. */
export function makeWhole(record: u32): void {
  if ((load<u32>(record, FRAME_FLAGS) & FRAME_LENT) == 0) return;
  copyLent(load<u32>(record), record, load<u32>(record, FRAME_LENGTH));
  store<u64>(record, 0, FRAME_FLAGS);
  store<u64>(record, 0, FRAME_L2_LENGTH);
  store<u32>(record, 0, FRAME_LOAN);
}

/** Copies a lent frame to where it is delivered, and inserts the checksum that has been left to us. */
export function copyLent(to: u32, record: u32, bytes: u32): void {
  const flags = load<u32>(record, FRAME_FLAGS);
  if ((flags & FRAME_TX_L4_CSUM) != 0) {
    const from = <u32>load<u16>(record, FRAME_L2_LENGTH) + load<u16>(record, FRAME_L3_LENGTH);
    // The driver has left the pseudo-header sum in the field, so the sum over everything is the sum to invert
    insertL4(to + from, fold(copyLentSummed(to, record, bytes, from)) ^ 0xffff, (flags & FRAME_L4_TCP) != 0);
    return;
  }
  copyBlock(to, load<u32>(record));
  copyFrame(to + LENT_HEAD_BYTES, load<u32>(record, FRAME_LOAN), bytes - LENT_HEAD_BYTES);
}

/**
 * As `copyLent`, and the unfolded sum of its bytes from `from` on, which is in its head and even. GUEST: every byte of the loan is read
 * once, so the sum is that of what is delivered.
 */
export function copyLentSummed(to: u32, record: u32, bytes: u32, from: u32): u64 {
  const data = load<u32>(record);
  copyBlock(to, data);
  const head = sumOf(data + from, LENT_HEAD_BYTES - from);
  const loan = load<u32>(record, FRAME_LOAN);
  to += LENT_HEAD_BYTES;
  bytes -= LENT_HEAD_BYTES;
  const blocks = bytes & ~63;
  return head + copyBlocksSummed(to, loan, blocks) + copyRestSummed(to + blocks, loan + blocks, bytes & 63);
}

/** Fewer than 64 bytes. */
@inline
function copyRestSummed(to: u32, from: u32, bytes: u32): u64 {
  let sum: u64 = 0;
  for (; bytes >= 8; bytes -= 8, from += 8, to += 8) {
    const word = load<u64>(from);
    store<u64>(to, word);
    sum += (word & 0xffffffff) + (word >> 32);
  }
  if (bytes & 4) {
    const word = load<u32>(from);
    store<u32>(to, word);
    sum += word;
    from += 4;
    to += 4;
  }
  if (bytes & 2) {
    const word = load<u16>(from);
    store<u16>(to, word);
    sum += word;
    from += 2;
    to += 2;
  }
  if (bytes & 1) {
    const byte = load<u8>(from);
    store<u8>(to, byte);
    sum += byte;
  }
  return sum;
}

/** A frame that cannot go straight to its buffer is made whole, and its scratch entry one of a whole frame. */
@inline
export function makeEntryWhole(entry: u32, record: u32): void {
  const sumFrom = load<u32>(entry, SCRATCH_SUM_FROM);
  if ((sumFrom & SCRATCH_LENT) == 0) return;
  makeWhole(record);
  store<u32>(entry, sumFrom & ~SCRATCH_LENT, SCRATCH_SUM_FROM);
}
