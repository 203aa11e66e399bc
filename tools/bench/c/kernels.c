/*
 * C twins of the back end's kernels (packages/net-iavf-be/src/kernels), for table `kernels` only: the same checks over the same
 * memory image, compiled by gcc -O3 -march=native. What is rarer (buffers in pieces, IPv6) is not here; the checks that tell it apart
 * are, and end the program. layout.h is made of layout.ts.
 *
 * KERNEL: guest-tx, guest-tx-large (several descriptors, segments), guest-tx-lent, guest-rx, guest-rx-large (several buffers), guest-rx-lent.
 * ARGUMENTS: DEVICE RECORDS FRAMES ARENA ARENA_BYTES.
 */
#include "memory.h"
#include "layout.h"
#include "iotlb.h"
#include "checksum.h"

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
    copy(cursor, from, bytes);
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
/* A frame over several buffers: all of them are looked at before the first is written. */
/* Of a descriptor of 32 bytes */
static inline void clear_rest(u32 descriptor, u32 shift) {
  if (shift != 5) return;
  set64(descriptor + 16, 0);
  set64(descriptor + 24, 0);
}
static void place(u32 block, u32 ring, u32 ring_length, u32 head, u32 tail, u32 data, u32 length, u32 hash, u64 status) {
  u32 buffer = get32(block + Q_BUFFER), needed = (length + buffer - 1) / buffer, available = tail >= head ? tail - head : tail + ring_length - head;
  if (needed > MAX_RX_BUFFERS || needed > available) rare("no buffers");
  u32 shift = 5 - get32(block + Q_SHORT), to[MAX_RX_BUFFERS], at[MAX_RX_BUFFERS];
  for (u32 n = 0; n < needed; ++n) {
    at[n] = ring + ((head + n >= ring_length ? head + n - ring_length : head + n) << shift);
    to[n] = translate(get64(at[n]));
    if (to[n] == 0 || span < (n + 1 == needed ? length - n * buffer : buffer)) rare("pieces");
  }
  for (u32 n = 0; n < needed; ++n) copy(to[n], data + n * buffer, n + 1 == needed ? length - n * buffer : buffer);
  for (u32 n = 0; n < needed; ++n) {
    int last = n + 1 == needed;
    set64(at[n], last ? (u64)hash << 32 : 0);
    clear_rest(at[n], shift);
    publish(at[n] + 8, last ? status | (u64)(length - n * buffer) << 38 : 1 | (status & (u64)0xff << 30) | (u64)buffer << 38);
  }
  u32 next = head + needed;
  set32(block + Q_HEAD, next >= ring_length ? next - ring_length : next);
  set32(block + Q_BAD_BUFFERS, 0);
}
#include "lent.h"
#define LARGE 0
#define IS_LENT 0
#define DELIVER tx_burst
#include "deliver.h"
#undef IS_LENT
#undef DELIVER
#define IS_LENT 1
#define DELIVER tx_burst_lent
#include "deliver.h"
#undef LARGE
#undef IS_LENT
#undef DELIVER
#define LARGE 1
#define IS_LENT 0
#define DELIVER tx_burst_large
#include "deliver.h"
#include "large.h"

static u32 burst(const char *kernel, u32 call, const u32 *arguments) {
  u32 device = arguments[0], records = arguments[1], frames = arguments[2], arena = arguments[3], arena_bytes = arguments[4];
  if (strcmp(kernel, "guest-tx") == 0) return rx_burst(device, 0, records, frames, arena, arena_bytes) & 0xffff;
  if (strcmp(kernel, "guest-tx-large") == 0) return rx_burst_large(device, 0, records, frames, arena, arena_bytes) & 0xffff;
  if (strcmp(kernel, "guest-tx-lent") == 0) {
    frames = rx_burst_lent(device, 0, records, frames, arena, arena_bytes);
    take_back(device, 0);
    return frames;
  }
  if (strcmp(kernel, "guest-rx-lent") == 0) return tx_burst_lent(device, records, frames);
  if (strcmp(kernel, "guest-rx-large") == 0) return tx_burst_large(device, records, frames);
  return tx_burst(device, records, frames);
}

int main(int argc, char **argv) { return run_laps(argc, argv, burst); }
