/** Lent frames (FRAME_LENT) on their way to whoever takes them. */
import { FRAME_FLAGS, FRAME_LENGTH, FRAME_LENT, FRAME_LOAN, LENT_HEAD_BYTES, SCRATCH_LENT, SCRATCH_SUM_FROM } from './layout';
import { copyBlocksSummed, sumOf } from './checksum';
import { copyBlock, copyFrame } from '../../../../tools/kernels/src/kernels/copy';

/** Nothing where it is whole already. */
export function makeWhole(record: u32): void {
  const flags = load<u32>(record, FRAME_FLAGS);
  if ((flags & FRAME_LENT) == 0) return;
  copyFrame(load<u32>(record) + LENT_HEAD_BYTES, load<u32>(record, FRAME_LOAN), load<u32>(record, FRAME_LENGTH) - LENT_HEAD_BYTES);
  store<u32>(record, flags & ~FRAME_LENT, FRAME_FLAGS);
  store<u32>(record, 0, FRAME_LOAN);
}

/** Copies a lent frame to where it is delivered. */
export function copyLent(to: u32, record: u32, bytes: u32): void {
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
