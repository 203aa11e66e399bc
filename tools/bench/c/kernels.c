/*
 * C twins of the back end's kernels (packages/net-iavf-be/src/kernels), for table `kernels` only: the same checks over the same
 * memory image, compiled by gcc -O3 -march=native. The work of rare packets (several descriptors, segments, buffers in pieces, IPv6)
 * is not here; the checks that tell them apart are, and end the program.
 *
 * kernels IMAGE guest-tx|guest-rx BURST BURSTS LAPS DEVICE RECORDS ARENA ARENA_BYTES
 * prints nanoseconds per frame of the lower-quartile lap, and leaves in IMAGE what the last lap left. layout.h is made of layout.ts.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "layout.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static u8 *base;
static inline u8 get8(u32 at) { return base[at]; }
static inline u16 get16(u32 at) { u16 v; memcpy(&v, base + at, 2); return v; }
static inline u32 get32(u32 at) { u32 v; memcpy(&v, base + at, 4); return v; }
static inline u64 get64(u32 at) { u64 v; memcpy(&v, base + at, 8); return v; }
static inline void set16(u32 at, u16 v) { memcpy(base + at, &v, 2); }
static inline void set32(u32 at, u32 v) { memcpy(base + at, &v, 4); }
static inline void set64(u32 at, u64 v) { memcpy(base + at, &v, 8); }
static inline void add64(u32 at, u64 n) { set64(at, get64(at) + n); }
static inline u16 swap16(u16 v) { return __builtin_bswap16(v); }
static inline u32 acquire(u32 at) { return __atomic_load_n((u32 *)(base + at), __ATOMIC_ACQUIRE); }
static inline void publish(u32 at, u64 v) { __atomic_store_n((u64 *)(base + at), v, __ATOMIC_RELEASE); }
static void rare(const char *what) { fprintf(stderr, "not in the twin: %s\n", what); exit(2); }

/* ---- IOTLB ---- */
static u32 table, permission, cached_base, span;
static u64 cached_key;
static void use_iotlb(u32 iotlb, u32 access) { table = get32(iotlb); permission = access; cached_key = 0; }
static u32 __attribute__((noinline)) look_up(u64 iova) {
  u64 key = (iova >> CHUNK_SHIFT) + 1;
  u32 mask = get32(table);
  u32 slot = ((u32)key * get32(table + IOTLB_LOW_MULTIPLIER) + (u32)(key >> 32) * get32(table + IOTLB_HIGH_MULTIPLIER)) >> get32(table + IOTLB_SHIFT);
  for (u32 probes = 0; probes <= mask; ++probes) {
    u32 entry = table + IOTLB_HEADER_BYTES + slot * IOTLB_ENTRY_BYTES;
    u64 found = get64(entry);
    if (found == 0) return 0;
    if (found == key) {
      u32 value = get32(entry + IOTLB_VALUE);
      if (value & IOTLB_TABLE) rare("pages");
      if (!(value & permission)) return 0;
      if (!(get32(entry + IOTLB_USED) & 1)) set32(entry + IOTLB_USED, get32(entry + IOTLB_USED) | 1);
      cached_key = key;
      cached_base = value & IOTLB_OFFSET_MASK;
      span = CHUNK_BYTES - ((u32)iova & (CHUNK_BYTES - 1));
      return cached_base + ((u32)iova & (CHUNK_BYTES - 1));
    }
    slot = (slot + 1) & mask;
  }
  return 0;
}
static inline u32 translate(u64 iova) {
  if (likely((iova >> CHUNK_SHIFT) + 1 == cached_key)) {
    u32 within = (u32)iova & (CHUNK_BYTES - 1);
    span = CHUNK_BYTES - within;
    return cached_base + within;
  }
  return look_up(iova);
}

/* ---- checksums ---- */
static inline u32 fold(u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u32)((sum & 0xffff) + (sum >> 16));
}
typedef u32 block __attribute__((vector_size(64)));
static u64 sum_words(u32 from, u32 bytes) {
  u64 sum = 0;
  if (bytes >= 64) {
    block lanes = {0};
    do {
      block words;
      memcpy(&words, base + from, 64);
      lanes += (words & 0xffff) + (words >> 16);
      from += 64;
      bytes -= 64;
    } while (bytes >= 64);
    for (int n = 0; n < 16; ++n) sum += lanes[n];
  }
  for (; bytes >= 4; from += 4, bytes -= 4) sum += get32(from);
  if (bytes & 2) { sum += get16(from); from += 2; }
  if (bytes & 1) sum += get8(from);
  return sum;
}
static inline u64 sum_ipv4_header(u32 ip) { return (u64)get32(ip) + get32(ip + 4) + get32(ip + 8) + get32(ip + 12) + get32(ip + 16); }

/* ---- guest Tx ---- */
enum { EOP = 1 << 4, RS = 1 << 5 };
static inline u32 l2_of(u64 q) { return ((u32)(q >> 16) & 0x7f) << 1; }
static inline u32 l3_of(u64 q) { return ((u32)(q >> 23) & 0x7f) << 2; }
static inline u32 l4_of(u64 q) { return ((u32)(q >> 30) & 0xf) << 2; }
static int headers_fit(u32 cmd, u32 l2, u32 l3, u32 l4, u32 bytes) {
  u32 l4t = cmd & 0x300;
  if (l4t == 0 && (cmd & 0x60) != 0x60) return 1;
  if (l2 < 14 || l3 < 20 || l2 + l3 + l4 > bytes) return 0;
  if (l4t == 0x100) return l2 + l3 + 18 <= bytes;
  if (l4t == 0x300) return l2 + l3 + 8 <= bytes;
  if (l4t == 0x200) return l2 + l3 + 12 <= bytes;
  return 1;
}
static u32 finish_checksums(u32 frame, u32 cmd, u32 l2, u32 l3, u32 bytes, u32 caps) {
  if ((cmd & 0x60) == 0x60) {
    if (l3 != 20) rare("IPv4 options");
    set16(frame + l2 + 10, fold(sum_ipv4_header(frame + l2) + (get16(frame + l2 + 10) ^ 0xffff)) ^ 0xffff);
  }
  u32 l4t = cmd & 0x300;
  if (l4t == 0) return 0;
  if (l4t == 0x200) rare("SCTP");
  if (caps & FRAME_TX_L4_CSUM) rare("checksum left to the peer");
  u32 at = frame + l2 + l3, sum = fold(sum_words(at, bytes - l2 - l3)) ^ 0xffff;
  if (l4t == 0x100) set16(at + 16, sum);
  else set16(at + 6, sum == 0 ? 0xffff : sum);
  return 0;
}
static u32 rx_burst(u32 device, u32 queue, u32 records, u32 max, u32 arena, u32 arena_bytes) {
  if (acquire(device + DEV_PAUSED) != 0 || queue >= get32(device + DEV_QUEUE_PAIRS)) return 0;
  u32 block = get32(device + DEV_TX_BLOCKS) + queue * Q_BYTES, ring = get32(block + Q_RING);
  if (get32(block + Q_ENABLED) == 0 || get32(block + Q_FAULT) != 0 || ring == 0) return 0;
  u32 length = get32(block + Q_LENGTH), tail = acquire(get32(block + Q_DOORBELL));
  if (tail >= length) rare("tail fault");
  u32 stats = block + Q_STATS, caps = get32(device + DEV_PEER_TX_CAPS), max_frame = get32(device + DEV_MAX_FRAME), end = arena + arena_bytes;
  use_iotlb(get32(device + DEV_IOTLB), IOTLB_READ);
  if (get32(block + Q_TSO_TOTAL) != 0) rare("TSO");
  u32 cursor = arena, produced = 0, raise = 0, unicast = 0, head = get32(block + Q_HEAD);
  u64 total = 0;
  while (head != tail && produced < max) {
    u64 qw1 = get64(ring + (head << 4) + 8);
    u32 cmd = (u32)(qw1 >> 4) & 0xfff;
    if (unlikely(((u32)qw1 & 0x1f) != EOP || (cmd & 0x18) != 0)) rare("no plain packet");
    u32 bytes = (u32)(qw1 >> 34) & 0x3fff, works = cmd & 0x360;
    if (unlikely(bytes < PADDED_FRAME_BYTES || bytes > max_frame || end - cursor < bytes)) rare("length");
    if (works && !headers_fit(cmd, l2_of(qw1), l3_of(qw1), l4_of(qw1), bytes)) rare("headers");
    u32 from = translate(get64(ring + (head << 4)));
    if (unlikely(from == 0 || span < bytes)) rare("pieces");
    memcpy(base + cursor, base + from, bytes);
    u32 flags = works ? finish_checksums(cursor, cmd, l2_of(qw1), l3_of(qw1), bytes, caps) : 0;
    u32 record = records + produced * FRAME_RECORD_BYTES;
    set64(record, cursor | (u64)bytes << 32);
    set64(record + 8, flags);
    set64(record + 16, 0);
    set64(record + 24, (u64)queue << 32);
    u64 to = get64(cursor) & 0xffffffffffff;
    if (likely((to & 1) == 0)) ++unicast;
    else add64(stats + ((QS_UNICAST + (to == 0xffffffffffff ? 2 : 1)) << 3), 1);
    total += bytes;
    ++produced;
    cursor = (cursor + bytes + 63) & ~63u;
    if (cursor > end) cursor = end;
    if (qw1 & RS) { publish(ring + (head << 4) + 8, qw1 | 0xf); raise = 1 << 16; }
    if (++head == length) head = 0;
  }
  set32(block + Q_HEAD, head);
  add64(stats + (QS_PACKETS << 3), produced);
  add64(stats + (QS_BYTES << 3), total);
  add64(stats + (QS_UNICAST << 3), unicast);
  return produced | raise;
}

/* ---- guest Rx ---- */
static int is_listed(u32 macs, u64 address) {
  u64 key = address | (u64)1 << 63;
  u32 slot = (((u32)key ^ (u32)(key >> 32)) * 0x9e3779b1u) >> 20 & (MAC_SLOTS - 1);
  for (u32 probes = 0; probes < MAC_SLOTS; ++probes) {
    u64 found = get64(macs + (slot << 3));
    if (found == key) return 1;
    if (found == 0) return 0;
    slot = (slot + 1) & (MAC_SLOTS - 1);
  }
  return 0;
}
static inline u32 toeplitz_word(u32 t, u32 w) {
  return get32(t + ((w & 0xff) << 2)) ^ get32(t + 1024 + ((w >> 6) & 0x3fc)) ^ get32(t + 2048 + ((w >> 14) & 0x3fc)) ^ get32(t + 3072 + ((w >> 22) & 0x3fc));
}
static u32 verdict(u32 ip, u32 at, u32 l4_bytes, int tcp, u32 flags) {
  u32 bits = 1 << 3;
  if (flags & FRAME_RX_IP_BAD) bits |= 1 << 22;
  else if (!(flags & FRAME_RX_IP_GOOD) && fold(sum_ipv4_header(ip)) != 0xffff) bits |= 1 << 22;
  if (flags & FRAME_RX_L4_BAD) return bits | 1 << 23;
  if (flags & FRAME_RX_L4_GOOD) return bits;
  if (!tcp) {
    if (swap16(get16(at + 4)) != l4_bytes) return 0;
    if (get16(at + 6) == 0) return bits;
  }
  u64 sum = (u64)get32(ip + 12) + get32(ip + 16) + sum_words(at, l4_bytes) + ((tcp ? 6 : 17) << 8) + swap16(l4_bytes);
  return fold(sum) == 0xffff ? bits : bits | 1 << 23;
}
static u32 tx_burst(u32 device, u32 records, u32 count) {
  if (acquire(device + DEV_PAUSED) != 0) count = 0;
  use_iotlb(get32(device + DEV_IOTLB), IOTLB_WRITE);
  u32 max_frame = get32(device + DEV_MAX_FRAME), flags = get32(device + DEV_FLAGS), pairs = get32(device + DEV_QUEUE_PAIRS), kick = 0;
  u32 rss = get32(device + DEV_RSS_TABLE), macs = get32(device + DEV_MAC_TABLE), blocks = get32(device + DEV_RX_BLOCKS);
  u64 hena = get64(device + DEV_HENA), accepted = ~(u64)0;
  for (u32 n = 0; n < count; ++n) {
    u32 record = records + n * FRAME_RECORD_BYTES, data = get32(record), length = get32(record + 4);
    if (unlikely(length < PADDED_FRAME_BYTES || length > max_frame)) rare("length");
    u64 address = get64(data) & 0xffffffffffff;
    if (address & 1) rare("group address");
    if (address != accepted) {
      if (!(flags & DEVF_UNICAST_PROMISC) && !is_listed(macs, address)) rare("filtered");
      accepted = address;
    }
    u16 type = get16(data + 12);
    u32 ip = data + 14, hash = 0;
    u64 status = 3;
    if (type == 0x0008) {
      u32 start = get32(ip), ip_bytes = swap16(start >> 16);
      u8 next = get8(ip + 9);
      if ((start & 0xff) != 0x45 || ip_bytes > length - 14 || (get16(ip + 6) & 0xff3f) != 0) rare("IPv4");
      int tcp = next == 6;
      if (tcp ? ip_bytes < 40 : next != 17 || ip_bytes < 28) rare("protocol");
      u64 types = tcp ? (get8(ip + 33) & 0x12) == 2 ? (u64)3 << 32 : (u64)1 << 33 : (u64)5 << 29;
      if (types & hena) {
        hash = toeplitz_word(rss, get32(ip + 12)) ^ toeplitz_word(rss + 4096, get32(ip + 16)) ^ toeplitz_word(rss + 8192, get32(ip + 20));
        status |= 3 << 12;
      }
      status |= (u64)(tcp ? 26 : 24) << 30 | verdict(ip, ip + 20, ip_bytes - 20, tcp, get32(record + FRAME_FLAGS));
    } else if (type == 0x0081 || type == 0xdd86 || type == 0x0608 || type == 0xcc88 || type == 0xf788) {
      rare("ethertype");
    } else {
      status |= (u64)1 << 30;
    }
    u32 queue = get8(device + DEV_LUT + (hash & (RSS_LUT_ENTRIES - 1)));
    if (queue >= pairs) rare("queue");
    u32 block = blocks + queue * Q_BYTES, ring = get32(block + Q_RING);
    if (get32(block + Q_ENABLED) == 0 || get32(block + Q_FAULT) != 0 || ring == 0) rare("queue state");
    if (length + 4 > get32(block + Q_MAX_PACKET) || length > get32(block + Q_BUFFER)) rare("buffer size");
    u32 ring_length = get32(block + Q_LENGTH), tail = acquire(get32(block + Q_DOORBELL)), head = get32(block + Q_HEAD);
    if (tail >= ring_length || head == tail) rare("no buffer");
    u32 descriptor = ring + (head << 5), to = translate(get64(descriptor));
    if (unlikely(to == 0 || span < length)) rare("pieces");
    memcpy(base + to, base + data, length);
    set64(descriptor, (u64)hash << 32);
    set64(descriptor + 16, 0);
    set64(descriptor + 24, 0);
    publish(descriptor + 8, status | (u64)length << 38);
    set32(block + Q_HEAD, head + 1 == ring_length ? 0 : head + 1);
    set32(block + Q_BAD_BUFFERS, 0);
    add64(block + Q_STATS + (QS_PACKETS << 3), 1);
    add64(block + Q_STATS + (QS_BYTES << 3), length);
    add64(block + Q_STATS + (QS_UNICAST << 3), 1);
    kick |= 1u << queue;
  }
  set32(device + DEV_RX_KICK, kick);
  return count;
}

static int ascending(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }

int main(int argc, char **argv) {
  if (argc != 10) return 1;
  int fd = open(argv[1], O_RDWR);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) { perror(argv[1]); return 1; }
  base = mmap(0, info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (base == MAP_FAILED) { perror("mmap"); return 1; }
  int tx = strcmp(argv[2], "guest-tx") == 0;
  u32 burst = atoi(argv[3]), bursts = atoi(argv[4]), laps = atoi(argv[5]), device = atoi(argv[6]), records = atoi(argv[7]), arena = atoi(argv[8]), arena_bytes = atoi(argv[9]);
  u32 block = get32(device + (tx ? DEV_TX_BLOCKS : DEV_RX_BLOCKS)), ring = get32(block + Q_RING), length = get32(block + Q_LENGTH);
  u32 ring_bytes = length * (tx ? 16 : 32);
  u8 *posted = malloc(ring_bytes);
  double *times = malloc(laps * sizeof *times);
  memcpy(posted, base + ring, ring_bytes);
  for (u32 lap = 0; lap < laps; ++lap) {
    memcpy(base + ring, posted, ring_bytes);
    set32(get32(block + Q_DOORBELL), (get32(block + Q_HEAD) + burst * bursts) % length);
    double start = now();
    for (u32 n = 0; n < bursts; ++n) {
      u32 done = tx ? rx_burst(device, 0, records, burst, arena, arena_bytes) & 0xffff : tx_burst(device, records, burst);
      if (done != burst) rare("a lost frame");
    }
    times[lap] = now() - start;
  }
  qsort(times, laps, sizeof *times, ascending);
  printf("%.3f\n", times[laps / 4] / (burst * bursts));
  return 0;
}
