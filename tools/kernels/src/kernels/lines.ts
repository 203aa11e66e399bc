/** Lines of the cache. */
export const LINE_BYTES: u32 = 64;

/**
 * Has the lines of `count` descriptors of `1 << shift` bytes, from `head` of a ring of `length` on, brought in for writing, all at once, by writing
 * what is there. The far end has read or written them last: after a mere read each would be waited for again when it is written, and with it
 * everything written meanwhile. They have to be the caller's: of what another thread writes meanwhile, something would be lost.
 */
@inline
export function takeLines(ring: u32, length: u32, head: u32, count: u32, shift: u32): void {
  for (let n: u32 = 0; n < count; n += LINE_BYTES >> shift) {
    const descriptor = ring + ((head + n >= length ? head + n - length : head + n) << shift);
    store<u64>(descriptor, load<u64>(descriptor));
  }
}
