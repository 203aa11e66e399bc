/** CRC32c (RFC 9260, appendix A), which SCTP uses in place of the Internet checksum and virtio has no word for. */
const TABLE: Uint32Array = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let crc = i;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  TABLE[i] = crc >>> 0;
}

export function crc32c(u8: Uint8Array, offset: number, length: number): number {
  let crc = 0xffffffff;
  for (let i = offset; i < offset + length; i++) crc = (crc >>> 8) ^ TABLE[(crc ^ u8[i]!) & 255]!;
  return ~crc >>> 0;
}
