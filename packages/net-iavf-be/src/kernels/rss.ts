/** Toeplitz hash by table: entry [i][b] is what value b of input byte i contributes; the control half fills it from the key. */

/** Of the four bytes at `input`. */
@inline
function word(table: u32, input: u32): u32 {
  return load<u32>(table + (<u32>load<u8>(input) << 2))
    ^ load<u32>(table + (<u32>load<u8>(input, 1) << 2), 1024)
    ^ load<u32>(table + (<u32>load<u8>(input, 2) << 2), 2048)
    ^ load<u32>(table + (<u32>load<u8>(input, 3) << 2), 3072);
}

/** IPv4: source, destination at `addresses`; both ports at `ports`, 0 = none. */
@inline
export function toeplitz4(table: u32, addresses: u32, ports: u32): u32 {
  let hash = word(table, addresses) ^ word(table + 4096, addresses + 4);
  if (ports != 0) hash ^= word(table + 8192, ports);
  return hash;
}

/** IPv6. */
export function toeplitz6(table: u32, addresses: u32, ports: u32): u32 {
  let hash: u32 = 0;
  for (let at: u32 = 0; at < 32; at += 4) hash ^= word(table + (at << 10), addresses + at);
  if (ports != 0) hash ^= word(table + (32 << 10), ports);
  return hash;
}
