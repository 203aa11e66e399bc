/** The Internet checksum (RFC 1071) and CRC32c (RFC 9260), by their definitions. */
import type { TwinMemory } from './memory.ts';

/** Sum of big-endian words, not folded; an odd last byte is padded with zero. */
export function sumBytes(memory: TwinMemory, from: number, bytes: number): number {
  let sum = 0;
  for (let n = 0; n + 1 < bytes; n += 2) sum += memory.be16(from + n);
  return bytes % 2 ? sum + (memory.u8(from + bytes - 1) << 8) : sum;
}

export function foldSum(sum: number): number {
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

export function setIpv4Checksum(memory: TwinMemory, ip: number, headerBytes: number): void {
  memory.setBe16(ip + 10, 0);
  memory.setBe16(ip + 10, foldSum(sumBytes(memory, ip, headerBytes)) ^ 0xffff);
}

/** The table at `table` is shared with the kernels and filled by whoever comes first. */
export function crc32c(memory: TwinMemory, table: number, from: number, bytes: number): number {
  if (memory.u32(table + 4) === 0) {
    for (let value = 0; value < 256; value++) {
      let crc = value;
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
      memory.setU32(table + 4 * value, crc);
    }
  }
  let crc = 0xffffffff;
  for (let n = 0; n < bytes; n++) crc = memory.u32(table + 4 * ((crc ^ memory.u8(from + n)) & 0xff)) ^ (crc >>> 8);
  return ~crc >>> 0;
}
