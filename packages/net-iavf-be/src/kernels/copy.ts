/**
 * Copies. Never memory.copy or memory.fill: on a page that has gone those end the process, while a plain or SIMD access traps
 * catchably. The last 16 (8, 4) bytes overlap what was copied before, so no length needs a byte loop.
 */

@inline
export function copy(to: u32, from: u32, bytes: u32): void {
  if (bytes >= 16) copyLong(to, from, bytes);
  else copyShort(to, from, bytes);
}

@inline
function copyLong(to: u32, from: u32, bytes: u32): void {
  while (bytes >= 64) {
    const a = v128.load(from);
    const b = v128.load(from, 16);
    const c = v128.load(from, 32);
    const d = v128.load(from, 48);
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
    from += 64;
    to += 64;
    bytes -= 64;
  }
  while (bytes > 16) {
    v128.store(to, v128.load(from));
    from += 16;
    to += 16;
    bytes -= 16;
  }
  if (bytes != 0) v128.store(to + bytes - 16, v128.load(from + bytes - 16));
}

function copyShort(to: u32, from: u32, bytes: u32): void {
  if (bytes >= 8) {
    const tail = load<u64>(from + bytes - 8);
    store<u64>(to, load<u64>(from));
    store<u64>(to + bytes - 8, tail);
  } else if (bytes >= 4) {
    const tail = load<u32>(from + bytes - 4);
    store<u32>(to, load<u32>(from));
    store<u32>(to + bytes - 4, tail);
  } else {
    for (let at: u32 = 0; at < bytes; ++at) store<u8>(to + at, load<u8>(from + at));
  }
}

export const MIN_COPY_FRAME_BYTES: u32 = 60;

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

export function zero(to: u32, bytes: u32): void {
  while (bytes >= 8) {
    store<u64>(to, 0);
    to += 8;
    bytes -= 8;
  }
  while (bytes != 0) {
    store<u8>(to++, 0);
    --bytes;
  }
}
