/** Moving and summing bytes of the window. TypeScript twins: src/window-bytes.ts. */

/** memmove. V8 copies between unlike alignments of a shared buffer byte by byte; this does not. */
export function copy(to: u32, from: u32, bytes: u32): void {
  memory.copy(to, from, bytes);
}

/**
 * Sum of the big-endian 16-bit words (RFC 1071), folded to 16 bits; an odd last byte is padded with zero. Words are added as they
 * lie in memory, little-endian, and the two bytes of the sum exchanged at the end (RFC 1071, 2.B). The u32 lanes hold 128 KiB.
 */
export function sum(from: u32, bytes: u32): u32 {
  let total: u64 = 0;
  while (bytes >= 65536) {
    total += lanes(from, 65536);
    from += 65536;
    bytes -= 65536;
  }
  const whole = bytes & ~15;
  if (whole != 0) {
    total += lanes(from, whole);
    from += whole;
    bytes -= whole;
  }
  while (bytes >= 2) {
    total += load<u16>(from);
    from += 2;
    bytes -= 2;
  }
  if (bytes != 0) total += load<u8>(from);
  total = (total & 0xffffffff) + (total >> 32);
  total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
  total = (total & 0xffff) + (total >> 16);
  total = (total & 0xffff) + (total >> 16);
  return <u32>(((total & 0xff) << 8) | (total >> 8));
}

/** `bytes`: a multiple of 16, at most 64 KiB. */
@inline
function lanes(from: u32, bytes: u32): u64 {
  let a = i32x4.splat(0);
  const end = from + bytes;
  for (; from < end; from += 16) a = i32x4.add(a, i32x4.extadd_pairwise_i16x8_u(v128.load(from)));
  return <u64>(<u32>i32x4.extract_lane(a, 0)) + <u32>i32x4.extract_lane(a, 1) + <u32>i32x4.extract_lane(a, 2) + <u32>i32x4.extract_lane(a, 3);
}

export { switchClassify, switchForget, switchGather } from './switch';
