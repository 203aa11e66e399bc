/**
 * The Internet checksum (RFC 1071) over window memory. Sums are kept unfolded as plain numbers: a frame of 256 KiB adds at most
 * 2^33, far from where a double loses bits.
 */

/** Sum of the big-endian 16-bit words of [offset, offset + length), an odd last byte padded with zero. */
export function sumWords(u8: Uint8Array, offset: number, length: number, sum = 0): number {
  const even = offset + (length & ~1);
  let high = 0;
  let low = 0;
  for (let p = offset; p < even; p += 2) {
    high += u8[p]!;
    low += u8[p + 1]!;
  }
  if ((length & 1) !== 0) high += u8[even]!;
  return sum + high * 256 + low;
}

/**
 * `sumWords` for window memory at an even offset, four bytes a step. Adding little-endian words gives the sum with its two bytes
 * exchanged (RFC 1071, 2.B), so they are exchanged once at the end.
 */
export function sumWindowWords(u32: Uint32Array, u8: Uint8Array, offset: number, length: number, sum = 0): number {
  if ((offset & 1) !== 0 || length < 8) return sumWords(u8, offset, length, sum);
  let swapped = 0;
  let position = offset;
  if ((position & 2) !== 0) {
    swapped = u8[position]! | (u8[position + 1]! << 8);
    position += 2;
  }
  const words = (offset + length - position) >>> 2;
  const first = position >>> 2;
  for (let i = first; i < first + words; i++) {
    const word = u32[i]!;
    swapped += (word & 0xffff) + (word >>> 16);
  }
  position += words * 4;
  const folded = foldSum(swapped);
  return sumWords(u8, position, offset + length - position, sum + ((folded & 0xff) << 8) + (folded >>> 8));
}

/** Folds to 16 bits: end-around carry. */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/** The checksum field for a sum: its complement. */
export function checksumOf(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/** Checksum `checksum` after a 16-bit word of the covered bytes went from `was` to `is` (RFC 1624, equation 3). */
export function updateChecksum(checksum: number, was: number, is: number): number {
  return ~foldSum((~checksum & 0xffff) + (~was & 0xffff) + is) & 0xffff;
}
