/** Copies exactly `bytes` bytes between areas that do not overlap. Plain and SIMD accesses only (memory.copy would not be caught on a hole). */
@inline
export function copyBytes(to: usize, from: usize, bytes: u32): void {
  if (bytes >= 16) {
    let i: u32 = 0;
    while (i + 64 <= bytes) {
      v128.store(to + i, v128.load(from + i));
      v128.store(to + i, v128.load(from + i, 16), 16);
      v128.store(to + i, v128.load(from + i, 32), 32);
      v128.store(to + i, v128.load(from + i, 48), 48);
      i += 64;
    }
    while (i + 16 <= bytes) {
      v128.store(to + i, v128.load(from + i));
      i += 16;
    }
    // The rest once more from its end: an overlapping store instead of a byte loop, and no byte beyond the frame is touched.
    if (i < bytes) v128.store(to + bytes - 16, v128.load(from + bytes - 16));
  } else {
    for (let i: u32 = 0; i < bytes; i++) store<u8>(to + i, load<u8>(from + i));
  }
}

@inline
export function addCounter(block: u32, counter: u32, amount: u64): void {
  const at: usize = block + counter * 8 + 64;
  store<u64>(at, load<u64>(at) + amount);
}
