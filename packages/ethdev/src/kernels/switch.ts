/**
 * The learning switch: where each frame of a burst goes, by its destination address, and where its source address is, for later.
 * TypeScript twins: src/switch-twin.ts. Any number of lcores use a table at once: a word is read whole and changed by
 * compare-and-exchange; whoever loses a race leaves it to the next frame of that address.
 */
import {
  FRAME_DATA, FRAME_LENGTH, FRAME_RECORD_BYTES, SIDE_COUNTS, SIDE_DESTINATIONS, SIDE_RECORDS, SIDE_SET, SWC_ALONE, SWC_BAD_SOURCE,
  SWC_FILTERED, SWC_FLOODED, SWC_LEARNED, SWC_MOVED, SWC_RESERVED, SWC_SHORT, SWC_UNLEARNED, SWITCH_AGE_TICKS, SWITCH_BUCKET_BYTES,
  SWITCH_COUNTED, SWITCH_MIXED, SW_HELD, SW_MASK, SW_QUOTA, SW_SEED, SW_TABLE, SW_TICK, SW_UP, TICK_MASK, TO_FLOOD, TO_NOWHERE,
} from './switch-layout';

const ETHERNET_HEADER_BYTES: u32 = 14;
const MAC_MASK: u64 = 0xffff_ffff_ffff;
/** 01:80:C2:00:00:00 to 01:80:C2:00:00:0F (IEEE 802.1D, 7.12.6), first byte lowest. */
const RESERVED: u64 = 0x00_00_00_c2_80_01;
const RESERVED_MASK: u64 = 0xf0_ff_ff_ff_ff_ff;

@inline
function portOf(word: u64): u32 {
  return <u32>(word >> 48) & 63;
}

@inline
function isExpired(word: u64, tick: u32): bool {
  return ((tick - <u32>(word >> 54)) & TICK_MASK) > SWITCH_AGE_TICKS;
}

@inline
function count(side: u32, cell: u32): void {
  store<u32>(side + (cell << 2), load<u32>(side + (cell << 2), SIDE_COUNTS) + 1, SIDE_COUNTS);
}

/** A mix of the whole address and the seed, which `firstBucket` and `otherBucket` are taken from. */
@inline
function hashOf(seed: u64, mac: u64): u32 {
  let hash = <u32>(mac ^ seed);
  hash = (hash ^ (hash >> 16)) * 0x85ebca6b;
  hash = (hash ^ (hash >> 13)) + <u32>((mac ^ seed) >> 32);
  hash *= 0xc2b2ae35;
  return hash ^ (hash >> 16);
}

@inline
function firstBucket(table: u32, mask: u32, hash: u32): u32 {
  return table + (hash & mask) * SWITCH_BUCKET_BYTES;
}

/** Never the first one: so no place is met twice. */
@inline
function otherBucket(table: u32, mask: u32, hash: u32): u32 {
  return table + ((hash & mask) ^ (((hash * 0x9e3779b1) >> 15) & mask | 1)) * SWITCH_BUCKET_BYTES;
}

/**
 * Where `mac` (not 0) seems to be; 0: nowhere. Searches by plain loads, which need not see a whole word while another lcore changes it
 * (an atomic one costs an alignment check): whoever uses the place reads its word once more, atomically.
 */
@inline
function find(table: u32, buckets: u32, hash: u32, mac: u64): u32 {
  let at = firstBucket(table, buckets, hash);
  if (((load<u64>(at) ^ mac) << 16) == 0) return at;
  if (((load<u64>(at, 8) ^ mac) << 16) == 0) return at + 8;
  if (((load<u64>(at, 16) ^ mac) << 16) == 0) return at + 16;
  if (((load<u64>(at, 24) ^ mac) << 16) == 0) return at + 24;
  at = otherBucket(table, buckets, hash);
  if (((load<u64>(at) ^ mac) << 16) == 0) return at;
  if (((load<u64>(at, 8) ^ mac) << 16) == 0) return at + 8;
  if (((load<u64>(at, 16) ^ mac) << 16) == 0) return at + 16;
  if (((load<u64>(at, 24) ^ mac) << 16) == 0) return at + 24;
  return 0;
}

@inline
function isFor(word: u64, mac: u64): bool {
  return ((word ^ mac) & MAC_MASK) == 0;
}

/** One address more for `port`; false: it holds its quota already. */
@inline
function take(sw: u32, port: u32): bool {
  if (atomic.add<u32>(sw + SW_HELD + (port << 2), 1) < load<u32>(sw, SW_QUOTA)) return true;
  give(sw, port);
  return false;
}

@inline
function give(sw: u32, port: u32): void {
  atomic.sub<u32>(sw + SW_HELD + (port << 2), 1);
}

@inline
function exchange(at: u32, before: u64, after: u64): bool {
  return atomic.cmpxchg<u64>(at, before, after) == before;
}

/** Is this very word in the bucket? A word half seen is none of anybody's, so a yes is true, and a no only costs time. */
@inline
function isKnown(at: u32, word: u64): bool {
  return load<u64>(at) == word || load<u64>(at, 8) == word || load<u64>(at, 16) == word || load<u64>(at, 24) == word;
}

/** `seen`: port and tick of the word. true: the table says something else than before. */
@inline
function learn(sw: u32, table: u32, buckets: u32, seed: u64, side: u32, source: u32, mac: u64, seen: u64, tick: u32): bool {
  const hash = hashOf(seed, mac);
  const word = mac | seen;
  // Nothing new, nearly always
  if (isKnown(firstBucket(table, buckets, hash), word) || isKnown(otherBucket(table, buckets, hash), word)) return false;
  return learnNews(sw, side, source, mac, tick, hash, find(table, buckets, hash, mac));
}

@inline
function wordOf(mac: u64, port: u32, tick: u32): u64 {
  return mac | (<u64>port << 48) | (<u64>tick << 54);
}

function learnNews(sw: u32, side: u32, source: u32, mac: u64, tick: u32, hash: u32, at: u32): bool {
  const word = wordOf(mac, source, tick);
  if (at == 0) return insert(sw, side, source, mac, word, tick, hash);
  const before = atomic.load<u64>(at);
  // Gone meanwhile, or come: another lcore is at it
  if (before == word || !isFor(before, mac)) return true;
  const expired = isExpired(before, tick);
  const port = portOf(before);
  if (port == source) {
    if (!exchange(at, before, word) || !expired) return false;
    count(side, SWC_LEARNED);
    return true;
  }
  if (!take(sw, source)) {
    // It is not where it was, and cannot be where it is: from now on nobody knows
    if (exchange(at, before, 0)) give(sw, port);
    count(side, SWC_UNLEARNED);
    return true;
  }
  if (!exchange(at, before, word)) {
    give(sw, source);
    return true;
  }
  give(sw, port);
  count(side, expired ? SWC_LEARNED : SWC_MOVED);
  return true;
}

/** An address that is in neither bucket goes to the emptier one. What another port holds is never pushed out while it is young. */
function insert(sw: u32, side: u32, source: u32, mac: u64, word: u64, tick: u32, hash: u32): bool {
  if (!take(sw, source)) {
    count(side, SWC_UNLEARNED);
    return false;
  }
  let place: u32 = 0;
  let places: u32 = 0;
  let best: u32 = 0;
  let bestPlaces: u32 = 0;
  for (let n: u32 = 0; n < 2; ++n) {
    const from = n == 0 ? firstBucket(load<u32>(sw, SW_TABLE), load<u32>(sw, SW_MASK), hash) : otherBucket(load<u32>(sw, SW_TABLE), load<u32>(sw, SW_MASK), hash);
    places = 0;
    for (let at = from + SWITCH_BUCKET_BYTES; at > from;) {
      at -= 8;
      const there = atomic.load<u64>(at);
      if (there == 0 || isExpired(there, tick)) {
        place = at;
        ++places;
      }
    }
    if (places > bestPlaces) {
      best = place;
      bestPlaces = places;
    }
  }
  if (best == 0) {
    give(sw, source);
    count(side, SWC_UNLEARNED);
    return false;
  }
  const before = atomic.load<u64>(best);
  if ((before != 0 && !isExpired(before, tick)) || !exchange(best, before, word)) {
    // Another lcore was faster
    give(sw, source);
    return false;
  }
  if (before != 0) give(sw, portOf(before));
  count(side, SWC_LEARNED);
  dropTwins(sw, mac, hash);
  return true;
}

/** Two lcores may have put one address into two places: every one that has written looks afterwards, and the first place stays. */
function dropTwins(sw: u32, mac: u64, hash: u32): void {
  let seen = false;
  for (let n: u32 = 0; n < 2; ++n) {
    const from = n == 0 ? firstBucket(load<u32>(sw, SW_TABLE), load<u32>(sw, SW_MASK), hash) : otherBucket(load<u32>(sw, SW_TABLE), load<u32>(sw, SW_MASK), hash);
    for (let at = from; at < from + SWITCH_BUCKET_BYTES; at += 8) {
      const word = atomic.load<u64>(at);
      if (!isFor(word, mac)) continue;
      if (seen && exchange(at, word, 0)) give(sw, portOf(word));
      seen = true;
    }
  }
}

/** A port, TO_FLOOD, or TO_NOWHERE + SWC_*: why not. */
@inline
function destinationOf(table: u32, buckets: u32, seed: u64, source: u32, mac: u64, tick: u32, up: u64): u32 {
  if ((mac & 1) != 0) {
    if ((mac & RESERVED_MASK) == RESERVED) return TO_NOWHERE + SWC_RESERVED;
  } else if (mac != 0) {
    const at = find(table, buckets, hashOf(seed, mac), mac);
    if (at != 0) {
      const word = load<u64>(at);
      if (isFor(word, mac) && !isExpired(word, tick)) {
        const port = portOf(word);
        if (port == source) return TO_NOWHERE + SWC_FILTERED;
        if (((up >> port) & 1) != 0) return port;
      }
    }
  }
  return (up & ~(<u64>1 << source)) != 0 ? TO_FLOOD : TO_NOWHERE + SWC_ALONE;
}

/**
 * Learns from `frames` records that came from port `source`, and finds where each goes. Result: SWITCH_MIXED with SIDE_SET and
 * SIDE_DESTINATIONS, or the one port that all of them go to; plus SWITCH_COUNTED.
 */
export function switchClassify(sw: u32, side: u32, source: u32, records: u32, frames: u32): u32 {
  v128.store(side, i64x2.splat(0), SIDE_COUNTS);
  v128.store(side, i64x2.splat(0), SIDE_COUNTS + 16);
  v128.store(side, i64x2.splat(0), SIDE_COUNTS + 32);
  const tick = atomic.load<u32>(sw + SW_TICK);
  const up = atomic.load<u64>(sw + SW_UP);
  const table = load<u32>(sw, SW_TABLE);
  const buckets = load<u32>(sw, SW_MASK);
  const seed = load<u64>(sw, SW_SEED);
  const seen = wordOf(0, source, tick);
  const flood = up & ~(<u64>1 << source);
  let set: u64 = 0;
  let sent = frames;
  // Frames come in trains: the same two addresses need no second look, unless the table has changed meanwhile
  let lastSource: u64 = -1;
  let lastDestination: u64 = -1;
  let to: u32 = 0;
  for (let n: u32 = 0; n < frames; ++n) {
    const record = records + n * FRAME_RECORD_BYTES;
    const data = load<u32>(record, FRAME_DATA);
    const place = side + n;
    if (load<u32>(record, FRAME_LENGTH) < ETHERNET_HEADER_BYTES) {
      --sent;
      count(side, SWC_SHORT);
      store<u8>(place, TO_NOWHERE, SIDE_DESTINATIONS);
      continue;
    }
    // GUEST: fetched once
    const destination = load<u64>(data) & MAC_MASK;
    const address = load<u64>(data, 6) & MAC_MASK;
    if (address != lastSource) {
      if (address == 0 || (address & 1) != 0) {
        --sent;
        count(side, SWC_BAD_SOURCE);
        store<u8>(place, TO_NOWHERE, SIDE_DESTINATIONS);
        continue;
      }
      if (learn(sw, table, buckets, seed, side, source, address, seen, tick)) lastDestination = -1;
      lastSource = address;
    }
    if (destination != lastDestination) {
      to = destinationOf(table, buckets, seed, source, destination, tick, up);
      lastDestination = destination;
    }
    if (to < TO_FLOOD) {
      set |= <u64>1 << to;
      store<u8>(place, to, SIDE_DESTINATIONS);
    } else if (to == TO_FLOOD) {
      set |= flood;
      count(side, SWC_FLOODED);
      store<u8>(place, TO_FLOOD, SIDE_DESTINATIONS);
    } else {
      --sent;
      count(side, to - TO_NOWHERE);
      store<u8>(place, TO_NOWHERE, SIDE_DESTINATIONS);
    }
  }
  store<u64>(side, set, SIDE_SET);
  const counts = v128.or(v128.or(v128.load(side, SIDE_COUNTS), v128.load(side, SIDE_COUNTS + 16)), v128.load(side, SIDE_COUNTS + 32));
  const counted: u32 = v128.any_true(counts) ? SWITCH_COUNTED : 0;
  if (sent == frames && popcnt<u64>(set) == 1) return <u32>ctz<u64>(set) | counted;
  return SWITCH_MIXED | counted;
}

/** After `switchClassify`: copies the records of the frames that go to `port`, in order, to SIDE_RECORDS; returns how many. */
export function switchGather(side: u32, source: u32, records: u32, frames: u32, port: u32): u32 {
  const unicast = i8x16.splat(<i8>port);
  const flooded = i8x16.splat(<i8>(port == source ? port : TO_FLOOD));
  let to = side + SIDE_RECORDS;
  for (let n: u32 = 0; n < frames; n += 16) {
    const destinations = v128.load(side + n, SIDE_DESTINATIONS);
    let hits: u32 = i8x16.bitmask(v128.or(i8x16.eq(destinations, unicast), i8x16.eq(destinations, flooded)));
    if (frames - n < 16) hits &= (1 << (frames - n)) - 1;
    const chunk = records + n * FRAME_RECORD_BYTES;
    for (; hits != 0; hits &= hits - 1) {
      const from = chunk + (ctz<u32>(hits) << 5);
      const low = v128.load(from);
      const high = v128.load(from, 16);
      v128.store(to, low);
      v128.store(to, high, 16);
      to += FRAME_RECORD_BYTES;
    }
  }
  return (to - side - SIDE_RECORDS) / FRAME_RECORD_BYTES;
}

/** Forgets the addresses that have grown old at `tick`, and all of the ports whose bit is set; returns how many. */
export function switchForget(sw: u32, tick: u32, portsLow: u32, portsHigh: u32): u32 {
  const ports = <u64>portsLow | (<u64>portsHigh << 32);
  const table = load<u32>(sw, SW_TABLE);
  const end = table + (load<u32>(sw, SW_MASK) + 1) * SWITCH_BUCKET_BYTES;
  let forgotten: u32 = 0;
  for (let at = table; at < end; at += 8) {
    const word = atomic.load<u64>(at);
    if (word == 0 || (((ports >> portOf(word)) & 1) == 0 && !isExpired(word, tick))) continue;
    if (!exchange(at, word, 0)) continue;
    give(sw, portOf(word));
    ++forgotten;
  }
  return forgotten;
}
