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
    let c = i32x4.splat(0);
    let d = i32x4.splat(0);
    do {
      a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(from)));
      b = i32x4.add(b, i32x4.extadd_pairwise_i16x8_u(v128.load(from, 16)));
      c = i32x4.add(c, i32x4.extadd_pairwise_i16x8_u(v128.load(from, 32)));
      d = i32x4.add(d, i32x4.extadd_pairwise_i16x8_u(v128.load(from, 48)));
      from += 64;
      bytes -= 64;
    } while (bytes >= 64);
    a = i32x4.add(i32x4.add(a, b), i32x4.add(c, d));
    sum = <u64><u32>i32x4.extract_lane(a, 0) + <u32>i32x4.extract_lane(a, 1) + <u32>i32x4.extract_lane(a, 2) + <u32>i32x4.extract_lane(a, 3);
  }
  // Fewer than 64 are left: no loop
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
