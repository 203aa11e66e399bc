/** 64-bit counters of a queue. */
@inline
export function addCounter(block: u32, counter: u32, amount: u64): void {
  const at: usize = block + counter * 8 + 64;
  store<u64>(at, load<u64>(at) + amount);
}
