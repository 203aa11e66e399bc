/* Lent frames: Tx packets of which only the head is copied (tx-run.ts: lends, tx-lent.ts), and their payload on its way to a buffer (lent.ts). */
static u32 rx_burst_lent(u32 device, u32 queue, u32 records, u32 max, u32 arena, u32 arena_bytes) {
  if (acquire(device + DEV_PAUSED) != 0 || queue >= get32(device + DEV_QUEUE_PAIRS)) return 0;
  u32 block = get32(device + DEV_TX_BLOCKS) + queue * Q_BYTES, ring = get32(block + Q_RING);
  if (get32(block + Q_ENABLED) == 0 || get32(block + Q_FAULT) != 0 || ring == 0) return 0;
  u32 length = get32(block + Q_LENGTH), tail = acquire(get32(block + Q_DOORBELL));
  if (tail >= length) rare("tail fault");
  u32 stats = block + Q_STATS, caps = get32(device + DEV_PEER_TX_CAPS), max_frame = get32(device + DEV_MAX_FRAME), end = arena + arena_bytes;
  use_iotlb(get32(device + DEV_IOTLB), IOTLB_READ);
  if (get32(block + Q_TSO_TOTAL) != 0) rare("TSO");
  if (get32(device + DEV_LENDS) == 0 || get32(block + Q_BOUNCED) != 0) rare("nobody borrows");
  u32 cursor = arena, produced = 0, unicast = 0, head = get32(block + Q_HEAD);
  u64 total = 0;
  while (head != tail && produced < max) {
    u64 qw1 = get64(ring + (head << 4) + 8);
    u32 cmd = (u32)(qw1 >> 4) & 0xfff;
    if (unlikely(((u32)qw1 & 0x1f) != EOP || (cmd & 0x18) != 0)) rare("no plain packet");
    u32 bytes = (u32)(qw1 >> 34) & 0x3fff, works = cmd & 0x360, l2 = l2_of(qw1), l3 = l3_of(qw1), l4 = l4_of(qw1);
    if (unlikely(bytes < PADDED_FRAME_BYTES || bytes > max_frame || end - cursor < bytes)) rare("length");
    if (works && !headers_fit(cmd, l2, l3, l4, bytes)) rare("headers");
    u32 from = translate(get64(ring + (head << 4)));
    if (unlikely(from == 0 || span < bytes)) rare("pieces");
    if (bytes <= LEND_ABOVE_BYTES) rare("short");
    copy(cursor, from, LENT_HEAD_BYTES);
    u64 flags = FRAME_LENT, lengths = 0;
    if (works) {
      if ((cmd & 0x100) == 0 || l2 + l3 + 18 > LENT_HEAD_BYTES || (caps & FRAME_TX_L4_CSUM) != 0) rare("checksum elsewhere");
      if ((cmd & 0x60) == 0x60) {
        if (l3 != 20) rare("IPv4 options");
        set16(cursor + l2 + 10, fold(sum_ipv4_header(cursor + l2) + (get16(cursor + l2 + 10) ^ 0xffff)) ^ 0xffff);
      }
      flags |= FRAME_TX_L4_CSUM | ((cmd & 0x300) == 0x100 ? FRAME_L4_TCP : FRAME_L4_UDP);
      lengths = l2 | l3 << 16 | (u64)l4 << 32;
    }
    u32 record = records + produced * FRAME_RECORD_BYTES;
    set64(record, cursor | (u64)bytes << 32);
    set64(record + 8, flags);
    set64(record + 16, lengths);
    set64(record + 24, (from + LENT_HEAD_BYTES) | (u64)queue << 32);
    u64 to = get64(cursor) & 0xffffffffffff;
    if (likely((to & 1) == 0)) ++unicast;
    else add64(stats + ((QS_UNICAST + (to == 0xffffffffffff ? 2 : 1)) << 3), 1);
    total += bytes;
    ++produced;
    cursor += ((bytes + 63) | 64) & ~63u;
    if (cursor > end) cursor = end;
    if (++head == length) head = 0;
  }
  set32(block + Q_HEAD, head);
  set32(block + Q_LENT, produced);
  add64(stats + (QS_PACKETS << 3), produced);
  add64(stats + (QS_BYTES << 3), total);
  add64(stats + (QS_UNICAST << 3), unicast);
  return produced;
}
static u32 take_back(u32 device, u32 queue) {
  u32 block = get32(device + DEV_TX_BLOCKS) + queue * Q_BYTES, ring = get32(block + Q_RING), length = get32(block + Q_LENGTH);
  u32 left = get32(block + Q_LENT), head = get32(block + Q_HEAD), raise = 0;
  set32(block + Q_LENT, 0);
  head = head >= left ? head - left : head + length - left;
  for (; left != 0; --left) {
    u32 at = ring + (head << 4) + 8;
    u64 qw1 = get64(at);
    u32 type = qw1 & 0xf;
    if ((qw1 & RS) && type != 1 && type != 0xf) { publish(at, qw1 | 0xf); raise = 1; }
    if (++head == length) head = 0;
  }
  return raise;
}
/* Copies it, and inserts its checksum if that has been left to us; returns what is to be said about it. */
static u64 deliver_lent(u32 to, u32 record, u32 length, u32 ip_bytes, int tcp) {
  u32 data = get32(record), flags = get32(record + FRAME_FLAGS), ip = data + 14, l4_bytes = ip_bytes - 20, at = to + 34;
  if (ip_bytes + 14 != length) rare("padding");
  u64 bits = 1 << 3, seed = (u64)get32(ip + 12) + get32(ip + 16) + ((tcp ? 6 : 17) << 8) + swap16(l4_bytes);
  if (fold(sum_ipv4_header(ip)) != 0xffff) bits |= 1 << 22;
  if (!tcp && swap16(get16(data + 38)) != l4_bytes) rare("UDP length");
  copy(to, data, LENT_HEAD_BYTES);
  copy(to + LENT_HEAD_BYTES, get32(record + FRAME_LOAN), length - LENT_HEAD_BYTES);
  u64 sum = sum_words(at, l4_bytes);
  if ((flags & FRAME_TX_L4_CSUM) == 0) {
    if (!tcp && get16(data + 40) == 0) return bits;
    return fold(seed + sum) == 0xffff ? bits : bits | 1 << 23;
  }
  if (get32(record + FRAME_L2_LENGTH) != (14 | 20 << 16) || ((flags & FRAME_L4_TCP) != 0) != tcp) rare("another checksum");
  u32 field = tcp ? 16 : 6, checksum = fold(sum) ^ 0xffff;
  if (fold(seed + (get16(at + field) ^ 0xffff)) != 0xffff) bits |= 1 << 23;
  set16(at + field, !tcp && checksum == 0 ? 0xffff : checksum);
  return bits;
}
