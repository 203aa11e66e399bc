/**
 * The Internet checksum (RFC 1071) and CRC32c. Sums are taken over little-endian words: the one's complement sum does not care,
 * as long as what is stored is stored the same way. Only on memory of ours, never on guest memory.
 */

/** One's complement sum of `bytes` bytes, folded to 16 bits. `bytes` < 128 KiB (the u32 lanes cannot overflow). */
@inline
export function sum16(from: u32, bytes: u32): u32 {
  return fold(sumWords(from, bytes));
}

/** Unfolded sum: add several, then fold. */
export function sumWords(from: u32, bytes: u32): u64 {
  let sum: u64 = 0;
  if (bytes >= 64) {
    let a = i32x4.splat(0);
    let b = i32x4.splat(0);
    while (bytes >= 32) {
      a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(from)));
      b = i32x4.add(b, i32x4.extadd_pairwise_i16x8_u(v128.load(from, 16)));
      from += 32;
      bytes -= 32;
    }
    a = i32x4.add(a, b);
    sum = <u64><u32>i32x4.extract_lane(a, 0) + <u32>i32x4.extract_lane(a, 1) + <u32>i32x4.extract_lane(a, 2) + <u32>i32x4.extract_lane(a, 3);
  }
  while (bytes >= 8) {
    sum += <u64>load<u32>(from) + load<u32>(from, 4);
    from += 8;
    bytes -= 8;
  }
  if (bytes >= 4) {
    sum += load<u32>(from);
    from += 4;
    bytes -= 4;
  }
  if (bytes >= 2) {
    sum += load<u16>(from);
    from += 2;
    bytes -= 2;
  }
  if (bytes != 0) sum += load<u8>(from);
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
  let folded = <u32>sum + <u32>(sum >> 32);
  folded += <u32>(folded < <u32>sum); // end-around carry of the 32-bit addition
  folded = (folded & 0xffff) + (folded >> 16);
  return (folded & 0xffff) + (folded >> 16);
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
