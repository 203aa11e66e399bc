/** Toeplitz hash by table: entry [i][b] is what value b of input byte i contributes; the control half fills it from the key. */

@inline
function word(table: u32, input: u32): u32 {
  return load<u32>(table + ((input & 0xff) << 2))
    ^ load<u32>(table + ((input >> 6) & 0x3fc), 1024)
    ^ load<u32>(table + ((input >> 14) & 0x3fc), 2048)
    ^ load<u32>(table + ((input >> 22) & 0x3fc), 3072);
}

/** IPv4: source, destination at `addresses`; both ports at `ports`, 0 = none. */
@inline
export function toeplitz4(table: u32, addresses: u32, ports: u32): u32 {
  let hash = word(table, load<u32>(addresses)) ^ word(table + 4096, load<u32>(addresses, 4));
  if (ports != 0) hash ^= word(table + 8192, load<u32>(ports));
  return hash;
}

/** IPv6. */
export function toeplitz6(table: u32, addresses: u32, ports: u32): u32 {
  let hash: u32 = 0;
  for (let at: u32 = 0; at < 32; at += 4) hash ^= word(table + (at << 10), load<u32>(addresses + at));
  if (ports != 0) hash ^= word(table + (32 << 10), load<u32>(ports));
  return hash;
}
