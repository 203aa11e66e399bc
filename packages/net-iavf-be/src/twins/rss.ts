/** Toeplitz hash with the device's table: the shares of all input bytes, added without carry. */
import type { TwinMemory } from './memory.ts';

export function toeplitz(memory: TwinMemory, table: number, addresses: number, addressBytes: number, ports: number): number {
  let hash = 0;
  for (let n = 0; n < addressBytes; n++) hash ^= memory.u32(table + (n * 256 + memory.u8(addresses + n)) * 4);
  if (ports !== 0) {
    for (let n = 0; n < 4; n++) hash ^= memory.u32(table + ((addressBytes + n) * 256 + memory.u8(ports + n)) * 4);
  }
  return hash >>> 0;
}
