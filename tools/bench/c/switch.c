/*
 * The learning switch's kernels (packages/ethdev/src/kernels/switch.ts) in C, for the table switch-kernel: the same table, the same checks,
 * the same records. `switch-c MILLISECONDS`: classifies and gathers the bursts of src/switch-bursts.ts and prints a line of JSON.
 */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

enum { WAYS = 4, AGE_TICKS = 256, TICK_MASK = 1023, RECORD = 32, TO_FLOOD = 64, TO_NOWHERE = 65, MIXED = 64, COUNTED = 256, MAX_BURST = 1024 };
enum { FLOODED, FILTERED, RESERVED, ALONE, BAD_SOURCE, SHORT, LEARNED, MOVED, UNLEARNED };
#define MAC_MASK 0xffffffffffffull

struct table { u64 *words; u32 mask; u32 seed[2]; u32 tick; u32 quota; u64 up; u32 held[64]; };
struct side { u64 set; u32 counts[12]; u8 destinations[MAX_BURST] __attribute__((aligned(64))); u8 records[MAX_BURST * RECORD]; };
struct places { u64 *bucket, *other; };
struct record { u32 data, length, rest[6]; };

static u8 *memory;

static inline u64 load(const u64 *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
static inline u64 load48(const u8 *at) { u64 word; memcpy(&word, at, 8); return word & MAC_MASK; }
static inline u32 port_of(u64 word) { return (u32)(word >> 48) & 63; }
static inline bool is_expired(u64 word, u32 tick) { return ((tick - (u32)(word >> 54)) & TICK_MASK) > AGE_TICKS; }
static inline bool exchange(u64 *at, u64 before, u64 after) { return __atomic_compare_exchange_n(at, &before, after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
static inline void give(struct table *sw, u32 port) { __atomic_fetch_sub(&sw->held[port], 1, __ATOMIC_SEQ_CST); }
static inline bool take(struct table *sw, u32 port) {
  if (__atomic_fetch_add(&sw->held[port], 1, __ATOMIC_SEQ_CST) < sw->quota) return true;
  give(sw, port);
  return false;
}

static inline struct places locate(const struct table *sw, u64 mac) {
  u32 hash = (u32)mac ^ sw->seed[0];
  hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
  hash = (hash ^ (hash >> 13)) + ((u32)(mac >> 32) ^ sw->seed[1]);
  hash *= 0xc2b2ae35u;
  hash ^= hash >> 16;
  u32 second = hash * 0x9e3779b1u, first = hash & sw->mask;
  return (struct places){ sw->words + (size_t)first * WAYS, sw->words + (size_t)(first ^ (((second >> 15) & sw->mask) | 1)) * WAYS };
}

static inline u64 *find_in(u64 *bucket, u64 mac, u64 *found) {
  for (int way = 0; way < WAYS; way++) {
    u64 word = load(bucket + way);
    if (((word ^ mac) & MAC_MASK) == 0) { *found = word; return bucket + way; }
  }
  return NULL;
}

static inline u64 *find(struct places places, u64 mac, u64 *found) {
  u64 *at = find_in(places.bucket, mac, found);
  return at != NULL ? at : find_in(places.other, mac, found);
}

static __attribute__((noinline)) bool insert(struct table *sw, struct side *side, struct places places, u32 source, u64 mac, u64 word) {
  if (!take(sw, source)) { side->counts[UNLEARNED]++; return false; }
  u64 *best = NULL;
  u32 best_places = 0;
  for (int n = 0; n < 2; n++) {
    u64 *from = n == 0 ? places.bucket : places.other, *place = NULL;
    u32 free = 0;
    for (int way = WAYS; way-- != 0;) {
      u64 there = load(from + way);
      if (there == 0 || is_expired(there, sw->tick)) { place = from + way; free++; }
    }
    if (free > best_places) { best = place; best_places = free; }
  }
  if (best == NULL) { give(sw, source); side->counts[UNLEARNED]++; return false; }
  u64 before = load(best);
  if ((before != 0 && !is_expired(before, sw->tick)) || !exchange(best, before, word)) { give(sw, source); return false; }
  if (before != 0) give(sw, port_of(before));
  side->counts[LEARNED]++;
  bool seen = false;
  for (int n = 0; n < 2; n++) {
    u64 *from = n == 0 ? places.bucket : places.other;
    for (int way = 0; way < WAYS; way++) {
      u64 twin = load(from + way);
      if (((twin ^ mac) & MAC_MASK) != 0) continue;
      if (seen && exchange(from + way, twin, 0)) give(sw, port_of(twin));
      seen = true;
    }
  }
  return true;
}

static __attribute__((noinline)) bool learn_news(struct table *sw, struct side *side, struct places places, u32 source, u64 mac, u64 word) {
  u64 before;
  u64 *at = find(places, mac, &before);
  if (at == NULL) return insert(sw, side, places, source, mac, word);
  bool expired = is_expired(before, sw->tick);
  u32 port = port_of(before);
  if (port == source) {
    if (!exchange(at, before, word) || !expired) return false;
    side->counts[LEARNED]++;
    return true;
  }
  if (!take(sw, source)) {
    if (exchange(at, before, 0)) give(sw, port);
    side->counts[UNLEARNED]++;
    return true;
  }
  if (!exchange(at, before, word)) { give(sw, source); return true; }
  give(sw, port);
  side->counts[expired ? LEARNED : MOVED]++;
  return true;
}

static inline bool is_known(const u64 *bucket, u64 word) { return bucket[0] == word || bucket[1] == word || bucket[2] == word || bucket[3] == word; }

static inline bool learn(struct table *sw, struct side *side, u32 source, u64 mac, u64 seen) {
  u64 word = mac | seen;
  struct places places = locate(sw, mac);
  if (is_known(places.bucket, word) || is_known(places.other, word)) return false;
  return learn_news(sw, side, places, source, mac, word);
}

static inline u32 destination_of(struct table *sw, u32 source, u64 mac, u32 tick, u64 up) {
  if (mac & 1) {
    if ((mac & 0xf0ffffffffffull) == 0xc28001ull) return TO_NOWHERE + RESERVED;
  } else if (mac != 0) {
    u64 found;
    if (find(locate(sw, mac), mac, &found) != NULL && !is_expired(found, tick)) {
      u32 port = port_of(found);
      if (port == source) return TO_NOWHERE + FILTERED;
      if ((up >> port) & 1) return port;
    }
  }
  return (up & ~(1ull << source)) != 0 ? TO_FLOOD : TO_NOWHERE + ALONE;
}

static __attribute__((noinline)) u32 classify(struct table *sw, struct side *side, u32 source, const struct record *records, u32 frames) {
  memset(side->counts, 0, sizeof side->counts);
  u32 tick = sw->tick, sent = 0, to = 0;
  u64 up = sw->up, flood = up & ~(1ull << source), set = 0, last_source = -1, last_destination = -1, seen = (u64)source << 48 | (u64)tick << 54;
  for (u32 n = 0; n < frames; n++) {
    if (records[n].length < 14) { side->counts[SHORT]++; side->destinations[n] = TO_NOWHERE; continue; }
    const u8 *data = memory + records[n].data;
    u64 destination = load48(data), address = load48(data + 6);
    if (address != last_source) {
      if (address == 0 || (address & 1)) { side->counts[BAD_SOURCE]++; side->destinations[n] = TO_NOWHERE; continue; }
      if (learn(sw, side, source, address, seen)) last_destination = -1;
      last_source = address;
    }
    if (destination != last_destination) {
      to = destination_of(sw, source, destination, tick, up);
      last_destination = destination;
    }
    if (to < TO_FLOOD) {
      set |= 1ull << to;
      sent++;
      side->destinations[n] = (u8)to;
    } else if (to == TO_FLOOD) {
      set |= flood;
      sent++;
      side->counts[FLOODED]++;
      side->destinations[n] = TO_FLOOD;
    } else {
      side->counts[to - TO_NOWHERE]++;
      side->destinations[n] = TO_NOWHERE;
    }
  }
  side->set = set;
  u32 counted = 0;
  for (int cell = 0; cell < 12; cell++) counted |= side->counts[cell];
  counted = counted != 0 ? COUNTED : 0;
  if (sent == frames && __builtin_popcountll(set) == 1) return (u32)__builtin_ctzll(set) | counted;
  return MIXED | counted;
}

static __attribute__((noinline)) u32 gather(struct side *side, u32 source, const struct record *records, u32 frames, u32 port) {
  __m128i unicast = _mm_set1_epi8((char)port), flooded = _mm_set1_epi8((char)(port == source ? port : TO_FLOOD));
  u8 *to = side->records;
  for (u32 n = 0; n < frames; n += 16) {
    __m128i destinations = _mm_load_si128((const __m128i *)(side->destinations + n));
    u32 hits = (u32)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(destinations, unicast), _mm_cmpeq_epi8(destinations, flooded)));
    if (frames - n < 16) hits &= (1u << (frames - n)) - 1;
    for (; hits != 0; hits &= hits - 1, to += RECORD) memcpy(to, records + n + __builtin_ctz(hits), RECORD);
  }
  return (u32)(to - side->records) / RECORD;
}

/* ---- the bursts of src/switch-bursts.ts ------------------------------------------------------------------------------------------- */
enum { PORTS = 4, STATIONS = 64, BURSTS = 256, FRAMES = 64 };
static u32 state = 1;
static u32 random_below(u32 n) { state = state * 1664525u + 1013904223u; return (u32)(((u64)state * n) >> 32); }
static void put_address(u8 *at, u32 port, u32 station) { const u8 mac[6] = { 2, 0, 0, 0, (u8)port, (u8)station }; memcpy(at, mac, 6); }

/* Processor time: whoever else wants the processor meanwhile does not count. */
static double now(void) { struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6; }

int main(int argc, char **argv) {
  double window = argc > 1 ? atof(argv[1]) : 1000;
  static struct side side;
  struct table sw = { .mask = 2047, .seed = { 0x12345678, 0x9abcdef0 }, .quota = 1024, .up = (1u << PORTS) - 1 };
  sw.words = aligned_alloc(64, (size_t)(sw.mask + 1) * WAYS * 8);
  memset(sw.words, 0, (size_t)(sw.mask + 1) * WAYS * 8);
  memory = aligned_alloc(64, BURSTS * FRAMES * 64);
  struct record *records = aligned_alloc(64, BURSTS * FRAMES * sizeof *records);
  memset(records, 0, BURSTS * FRAMES * sizeof *records);
  for (u32 burst = 0; burst < BURSTS; burst++) {
    for (u32 frame = 0; frame < FRAMES; frame++) {
      u32 n = burst * FRAMES + frame, port = burst % PORTS;
      u32 other_port = (port + 1 + random_below(PORTS - 1)) % PORTS;
      put_address(memory + n * 64, other_port, random_below(STATIONS));
      put_address(memory + n * 64 + 6, port, random_below(STATIONS));
      records[n].data = n * 64;
      records[n].length = 60;
    }
  }
  u64 frames = 0, sum = 0, rounds = 0;
  double began = 0, ended;
  do {
    for (u32 burst = 0; burst < BURSTS; burst++) {
      const struct record *first = records + burst * FRAMES;
      u32 source = burst % PORTS, result = classify(&sw, &side, source, first, FRAMES) & ~COUNTED;
      if (result != MIXED) continue;
      for (u64 set = side.set; set != 0; set &= set - 1) {
        u32 port = (u32)__builtin_ctzll(set);
        u32 count = gather(&side, source, first, FRAMES, port);
        if (rounds == 1) sum = (sum * 31 + count * 64 + port) & 0xffffffff;
      }
    }
    /* Two rounds to learn and to warm up. */
    if (rounds++ == 1) began = now();
    else if (rounds > 2) frames += BURSTS * FRAMES;
    ended = now();
  } while (rounds < 3 || ended - began < window);
  printf("{\"framesPerSecond\":%.0f,\"sum\":%llu}\n", (double)frames * 1000 / (ended - began), (unsigned long long)sum);
  return 0;
}
