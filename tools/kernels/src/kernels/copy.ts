/**
 * Copies between areas that do not overlap, for kernels of any package (imported by path: AssemblyScript knows no packages). Never
 * memory.copy or memory.fill: on a page that has gone those end the process, while a plain or SIMD access traps catchably. The last
 * bytes are copied together with some that have been copied already, so no length needs a byte loop and nothing beyond it is touched.
 */

@inline
export function copy(to: u32, from: u32, bytes: u32): void {
  if (bytes >= MIN_COPY_FRAME_BYTES) copyFrame(to, from, bytes);
  else copyShort(to, from, bytes);
}

export const MIN_COPY_FRAME_BYTES: u32 = 48;

/** As `copy`, for MIN_COPY_FRAME_BYTES and more: whole blocks, the last one overlapping. */
@inline
export function copyFrame(to: u32, from: u32, bytes: u32): void {
  if (bytes <= 64) {
    const a = v128.load(from);
    const b = v128.load(from, 16);
    const c = v128.load(from, 32);
    const d = v128.load(from + bytes - 16);
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to + bytes - 16, d);
  } else {
    const last = from + bytes - 64;
    const lastTo = to + bytes - 64;
    do {
      copyBlock(to, from);
      from += 64;
      to += 64;
    } while (from < last);
    copyBlock(lastTo, last);
  }
}

/** 64 bytes. */
@inline
export function copyBlock(to: u32, from: u32): void {
  const a = v128.load(from);
  const b = v128.load(from, 16);
  const c = v128.load(from, 32);
  const d = v128.load(from, 48);
  v128.store(to, a);
  v128.store(to, b, 16);
  v128.store(to, c, 32);
  v128.store(to, d, 48);
}

export const MIN_COPY_INLINE_BYTES: u32 = 16;

/** As `copy`, for MIN_COPY_INLINE_BYTES and more: no call, which a loop would pay for. */
@inline
export function copyInline(to: u32, from: u32, bytes: u32): void {
  if (bytes >= MIN_COPY_FRAME_BYTES) {
    copyFrame(to, from, bytes);
  } else {
    const last = bytes - 16;
    const a = v128.load(from);
    const b = v128.load(from + (last & 16));
    const c = v128.load(from + last);
    v128.store(to, a);
    v128.store(to + (last & 16), b);
    v128.store(to + last, c);
  }
}

/** From here on it pays to store on even addresses: a store that spans two lines takes two turns. */
const ALIGN_FROM_BYTES: u32 = 128;

/** As `copyInline`, part of a frame to where the one before it has ended. */
@inline
export function copyPart(to: u32, from: u32, bytes: u32): void {
  if (bytes >= ALIGN_FROM_BYTES) {
    const skipped = 16 - (to & 15);
    v128.store(to, v128.load(from));
    copyFrame(to + skipped, from + skipped, bytes - skipped);
  } else {
    copyInline(to, from, bytes);
  }
}

function copyShort(to: u32, from: u32, bytes: u32): void {
  if (bytes >= 16) {
    const last = v128.load(from + bytes - 16);
    v128.store(to, v128.load(from));
    if (bytes > 32) v128.store(to, v128.load(from, 16), 16);
    v128.store(to + bytes - 16, last);
  } else if (bytes >= 8) {
    const last = load<u64>(from + bytes - 8);
    store<u64>(to, load<u64>(from));
    store<u64>(to + bytes - 8, last);
  } else if (bytes >= 4) {
    const last = load<u32>(from + bytes - 4);
    store<u32>(to, load<u32>(from));
    store<u32>(to + bytes - 4, last);
  } else {
    for (let at: u32 = 0; at < bytes; ++at) store<u8>(to + at, load<u8>(from + at));
  }
}
