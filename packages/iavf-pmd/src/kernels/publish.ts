/**
 * The store into a doorbell: whatever was written before it is visible to the device that sees it. WebAssembly knows only
 * sequentially consistent atomics for that, which on x86 is an exchange that waits until every store before it has reached the
 * cache, and the lines of a burst's descriptors are in that of the other processor. x86 shows plain stores in their order anyway (and
 * V8 emits them in theirs), so there a plain store it is; elsewhere the atomic one.
 */
let plain: bool = false;

/** 1 = the processor keeps the order of stores (x86). Once, before the first burst. */
export function setStoreOrder(ordered: u32): void {
  plain = ordered != 0;
}

@inline
export function publish(at: u32, word: u32): void {
  if (plain) store<u32>(at, word);
  else atomic.store<u32>(at, word);
}
