/**
 * The Internet checksum (RFC 1071) and CRC32c. Sums are taken over little-endian words: the one's complement sum does not care,
 * as long as what is stored is stored the same way.
 */
import { copyBlock, copyFrame } from '../../../../tools/kernels/src/kernels/copy';

/** One's complement sum of `bytes` bytes, folded to 16 bits. `bytes` < 128 KiB (the u32 lanes cannot overflow). */
@inline
export function sum16(from: u32, bytes: u32): u32 {
  return fold(sumWords(from, bytes));
}

/** Unfolded sum of fewer than 128 KiB: add several, then fold. */
export function sumWords(from: u32, bytes: u32): u64 {
  let sum: u64 = 0;
  if (bytes >= 64) {
    let all = i32x4.splat(0);
    let allOdd = i32x4.splat(0);
    let high = i32x4.splat(0);
    let highOdd = i32x4.splat(0);
    do {
      const a = v128.load(from);
      const b = v128.load(from, 16);
      const c = v128.load(from, 32);
      const d = v128.load(from, 48);
      all = i32x4.add(i32x4.add(all, a), c);
      allOdd = i32x4.add(i32x4.add(allOdd, b), d);
      high = i32x4.add(i32x4.add(high, i32x4.shr_u(a, 16)), i32x4.shr_u(c, 16));
      highOdd = i32x4.add(i32x4.add(highOdd, i32x4.shr_u(b, 16)), i32x4.shr_u(d, 16));
      from += 64;
      bytes -= 64;
    } while (bytes >= 64);
    sum = laneTotal(i32x4.add(all, allOdd), i32x4.add(high, highOdd));
  }
  return sum + sumShort(from, bytes);
}

/**
 * The sum of 16-bit words that were added up four pairs at a time: `all` is that of the pairs as 32-bit words, its carries lost, and
 * `high` that of their upper halves. The lower halves make up the difference, which has lost none. Cheaper than adding halves to
 * halves (`extadd_pairwise`), which no x86 has an instruction for.
 */
@inline
function laneTotal(all: v128, high: v128): u64 {
  const lanes = i32x4.add(i32x4.sub(all, i32x4.shl(high, 16)), high);
  const pairs = i64x2.add(i64x2.shr_u(lanes, 32), v128.and(lanes, i64x2.splat(0xffffffff)));
  return i64x2.extract_lane(pairs, 0) + i64x2.extract_lane(pairs, 1);
}

/** Most bytes that `copySummed` can leave out. */
export const MAX_SKIPPED: u32 = 60;

/** As `copyFrame`, and the unfolded sum of what comes behind the first `skipped` bytes, an even number. */
export function copySummed(to: u32, from: u32, bytes: u32, skipped: u32): u64 {
  if (bytes < 128) {
    copyFrame(to, from, bytes);
    return sumOf(from + skipped, bytes - skipped);
  }
  const sum = sumOf(from + skipped, 64 - skipped);
  copyBlock(to, from);
  const blocks = bytes & ~63;
  const last = bytes - 64;
  const summed = copyBlocksSummed(to + 64, from + 64, blocks - 64) + sumShort(from + blocks, bytes & 63);
  copyBlock(to + last, from + last);
  return sum + summed;
}

/** `bytes` is a multiple of 64. Every byte is read once. */
@inline
export function copyBlocksSummed(to: u32, from: u32, bytes: u32): u64 {
  let all = i32x4.splat(0);
  let allOdd = i32x4.splat(0);
  let high = i32x4.splat(0);
  let highOdd = i32x4.splat(0);
  for (const end = from + bytes; from != end; from += 64, to += 64) {
    const a = v128.load(from);
    const b = v128.load(from, 16);
    const c = v128.load(from, 32);
    const d = v128.load(from, 48);
    all = i32x4.add(i32x4.add(all, a), c);
    allOdd = i32x4.add(i32x4.add(allOdd, b), d);
    high = i32x4.add(i32x4.add(high, i32x4.shr_u(a, 16)), i32x4.shr_u(c, 16));
    highOdd = i32x4.add(i32x4.add(highOdd, i32x4.shr_u(b, 16)), i32x4.shr_u(d, 16));
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
  }
  return laneTotal(i32x4.add(all, allOdd), i32x4.add(high, highOdd));
}

/** As `sumWords`, for what is mostly short. */
@inline
export function sumOf(from: u32, bytes: u32): u64 {
  return bytes < 64 ? sumShort(from, bytes) : sumWords(from, bytes);
}

@inline
function sumShort(from: u32, bytes: u32): u64 {
  let sum: u64 = 0;
  if (bytes & 32) {
    sum += <u64>load<u32>(from) + load<u32>(from, 4) + load<u32>(from, 8) + load<u32>(from, 12);
    sum += <u64>load<u32>(from, 16) + load<u32>(from, 20) + load<u32>(from, 24) + load<u32>(from, 28);
    from += 32;
  }
  if (bytes & 16) {
    sum += <u64>load<u32>(from) + load<u32>(from, 4) + load<u32>(from, 8) + load<u32>(from, 12);
    from += 16;
  }
  if (bytes & 8) {
    sum += <u64>load<u32>(from) + load<u32>(from, 4);
    from += 8;
  }
  if (bytes & 4) {
    sum += load<u32>(from);
    from += 4;
  }
  if (bytes & 2) {
    sum += load<u16>(from);
    from += 2;
  }
  if (bytes & 1) sum += load<u8>(from);
  return sum;
}

/** Unfolded sum of an IPv4 header, mostly without options. */
@inline
export function sumIpv4Header(ip: u32, headerBytes: u32): u64 {
  if (headerBytes != 20) return sumWords(ip, headerBytes);
  return <u64>load<u32>(ip) + load<u32>(ip, 4) + load<u32>(ip, 8) + load<u32>(ip, 12) + load<u32>(ip, 16);
}

@inline
export function fold(sum: u64): u32 {
  // Halves are added to each other in both halves: the carry out of the lower one is the end-around carry of the upper one
  const word = <u32>((sum + rotl<u64>(sum, 32)) >> 32);
  return (word + rotl<u32>(word, 16)) >> 16;
}

/** Puts the checksum of TCP or UDP into its header; UDP's zero means that there is none. */
@inline
export function insertL4(at: u32, sum: u32, isTcp: bool): void {
  if (isTcp) store<u16>(at, sum, 16);
  else store<u16>(at, sum == 0 ? 0xffff : sum, 6);
}

@inline
export function swap16(value: u32): u32 {
  return ((value & 0xff) << 8) | ((value >> 8) & 0xff);
}

@inline
export function swap32(value: u32): u32 {
  return bswap<u32>(value);
}

/** CRC32c (RFC 9260 appendix A) with a 1 KiB table at `table`, which is filled when it is still all zero. */
export function crc32c(table: u32, from: u32, bytes: u32): u32 {
  if (load<u32>(table, 4) == 0) fillCrcTable(table);
  let crc: u32 = 0xffffffff;
  for (let end = from + bytes; from < end; ++from) crc = load<u32>(table + (((crc ^ load<u8>(from)) & 0xff) << 2)) ^ (crc >> 8);
  return ~crc;
}

function fillCrcTable(table: u32): void {
  for (let value: u32 = 0; value < 256; ++value) {
    let crc = value;
    for (let bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78 & (0 - (crc & 1)));
    store<u32>(table + (value << 2), crc);
  }
}
