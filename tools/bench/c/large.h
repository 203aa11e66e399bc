/* Guest Tx: packets of several descriptors, and segmentation (tx-ring.ts: assemble, tso.ts). IPv4 and TCP. */
static u32 packet_descriptors, packet_bytes;
static u64 packet_first, packet_context;
static void collect(u32 ring, u32 length, u32 head, u32 available, u64 qw1, u32 to) {
  u64 context = 0, first = 0;
  u32 bytes = 0, count = 0;
  int started = 0;
  for (;;) {
    set64(to, get64(ring + (head << 4)));
    set64(to + 8, qw1);
    ++count;
    u32 type = qw1 & 0xf;
    if (type == 0) {
      if (!started) first = qw1;
      started = 1;
      bytes += (u32)(qw1 >> 34) & 0x3fff;
      if (qw1 & EOP) break;
    } else if (type == 1 && !started) {
      context = qw1;
    } else {
      rare("malformed");
    }
    if (count == available) rare("unfinished");
    to += 16;
    if (++head == length) head = 0;
    qw1 = get64(ring + (head << 4) + 8);
  }
  packet_descriptors = count;
  packet_bytes = bytes;
  packet_first = first;
  packet_context = context;
}
static void gather(u32 to, u32 descriptors) {
  for (u32 n = 0; n < packet_descriptors; ++n) {
    u64 qw1 = get64(descriptors + (n << 4) + 8);
    if ((qw1 & 0xf) != 0) continue;
    u32 size = (u32)(qw1 >> 34) & 0x3fff, from = translate(get64(descriptors + (n << 4)));
    if (from == 0 || span < size) rare("pieces");
    copy(to, from, size);
    to += size;
  }
}
static u32 complete(u32 ring, u32 length, u32 head, u32 descriptors) {
  u32 raise = 0;
  for (u32 n = 0; n < packet_descriptors; ++n) {
    u64 qw1 = get64(descriptors + (n << 4) + 8);
    if ((qw1 & RS) && (qw1 & 0xf) == 0) { publish(ring + (head << 4) + 8, qw1 | 0xf); raise = 1 << 16; }
    if (++head == length) head = 0;
  }
  return raise;
}
static void count_frame(u32 stats, u32 frame, u32 bytes) {
  u64 to = get64(frame) & 0xffffffffffff;
  add64(stats + (QS_PACKETS << 3), 1);
  add64(stats + (QS_BYTES << 3), bytes);
  add64(stats + ((QS_UNICAST + ((to & 1) == 0 ? 0 : to == 0xffffffffffff ? 2 : 1)) << 3), 1);
}
static void write_record(u32 record, u32 frame, u32 bytes, u32 queue) {
  set64(record, frame | (u64)bytes << 32);
  set64(record + 8, 0);
  set64(record + 16, 0);
  set64(record + 24, (u64)queue << 32);
}
static u32 segments_end;
static u32 emit(u32 block, u32 queue, u32 records, u32 produced, u32 max, u32 cursor, u32 end) {
  u32 state = block + Q_TSO_STATE, stage = get32(block + Q_STAGE);
  if (get8(state + TSOS_FLAGS) != 0) rare("kind of segments");
  u32 l2 = get8(state + TSOS_L2_WORDS) << 1, l3 = get8(state + TSOS_L3_WORDS) << 2, l4 = get8(state + TSOS_L4_WORDS) << 2;
  u32 mss = get16(state + TSOS_MSS), header = l2 + l3 + l4, total = get32(block + Q_TSO_TOTAL), offset = get32(block + Q_TSO_OFFSET);
  while (offset < total && produced < max) {
    u32 payload = total - offset < mss ? total - offset : mss, bytes = header + payload;
    if (bytes < PADDED_FRAME_BYTES || end - cursor < bytes) rare("room");
    memcpy(base + cursor, base + stage, header);
    copy(cursor + header, stage + header + offset, payload);
    u32 ip = cursor + l2, at = ip + l3;
    set16(ip + 2, swap16(l3 + l4 + payload));
    set16(ip + 4, swap16(swap16(get16(ip + 4)) + offset / mss));
    set16(ip + 10, fold(sum_ipv4_header(ip) + (get16(ip + 10) ^ 0xffff)) ^ 0xffff);
    set32(at + 4, __builtin_bswap32(__builtin_bswap32(get32(at + 4)) + offset));
    u8 bits = get8(at + 13);
    if (offset + payload != total) bits &= ~0x09;
    if (offset != 0) bits &= ~0x80;
    base[at + 13] = bits;
    set16(at + 16, fold(sum_words(at, l4 + payload) + swap16(l4 + payload)) ^ 0xffff);
    write_record(records + produced * FRAME_RECORD_BYTES, cursor, bytes, queue);
    count_frame(block + Q_STATS, cursor, bytes);
    offset += payload;
    ++produced;
    cursor = (cursor + bytes + 63) & ~63u;
    if (cursor > end) cursor = end;
  }
  set32(block + Q_TSO_OFFSET, offset);
  if (offset >= total) set32(block + Q_TSO_TOTAL, 0);
  segments_end = cursor;
  return produced;
}
static u32 rx_burst_large(u32 device, u32 queue, u32 records, u32 max, u32 arena, u32 arena_bytes) {
  if (acquire(device + DEV_PAUSED) != 0 || queue >= get32(device + DEV_QUEUE_PAIRS)) return 0;
  u32 block = get32(device + DEV_TX_BLOCKS) + queue * Q_BYTES, ring = get32(block + Q_RING);
  if (get32(block + Q_ENABLED) == 0 || get32(block + Q_FAULT) != 0 || ring == 0) return 0;
  u32 length = get32(block + Q_LENGTH), tail = acquire(get32(block + Q_DOORBELL));
  if (tail >= length) rare("tail fault");
  u32 caps = get32(device + DEV_PEER_TX_CAPS), max_frame = get32(device + DEV_MAX_FRAME), end = arena + arena_bytes;
  use_iotlb(get32(device + DEV_IOTLB), IOTLB_READ);
  if (get32(block + Q_TSO_TOTAL) != 0) rare("segments left");
  u32 cursor = arena, produced = 0, raise = 0, head = get32(block + Q_HEAD), descriptors = get32(block + Q_STAGE) + STAGE_DESCRIPTORS;
  while (head != tail && produced < max) {
    collect(ring, length, head, tail > head ? tail - head : tail + length - head, get64(ring + (head << 4) + 8), descriptors);
    u32 cmd = (u32)(packet_first >> 4) & 0xfff, l2 = l2_of(packet_first), l3 = l3_of(packet_first), l4 = l4_of(packet_first), mss = (u32)(packet_context >> 50);
    if ((cmd & 0x18) != 0 || (packet_context & (u64)4 << 4) != 0) rare("tags");
    int segmented = (packet_context & (u64)1 << 4) != 0;
    if (segmented) {
      if (mss < TSO_MIN_MSS || mss > TSO_MAX_MSS || ((u32)(packet_context >> 30) & 0x3ffff) == 0 || l2 < 14 || (cmd & 0x60) != 0x60 || l3 != 20 || (cmd & 0x300) != 0x100 || l4 < 20) rare("segments");
      if (packet_bytes <= l2 + l3 + l4 || packet_bytes > STAGE_FRAME_BYTES || l2 + l3 + l4 + mss > max_frame || (caps & FRAME_TX_TSO) != 0) rare("segments");
      u32 state = block + Q_TSO_STATE;
      gather(get32(block + Q_STAGE), descriptors);
      base[state + TSOS_L2_WORDS] = l2 >> 1;
      base[state + TSOS_L3_WORDS] = l3 >> 2;
      base[state + TSOS_L4_WORDS] = l4 >> 2;
      base[state + TSOS_FLAGS] = 0;
      set16(state + TSOS_MSS, mss);
      set16(state + TSOS_VLAN_TCI, (u16)(packet_first >> 48));
      set32(block + Q_TSO_OFFSET, 0);
      set32(block + Q_TSO_TOTAL, packet_bytes - l2 - l3 - l4);
    } else {
      if (packet_bytes < PADDED_FRAME_BYTES || packet_bytes > max_frame || end - cursor < packet_bytes || (cmd & 0x360) != 0) rare("length or work");
      gather(cursor, descriptors);
      write_record(records + produced * FRAME_RECORD_BYTES, cursor, packet_bytes, queue);
      count_frame(block + Q_STATS, cursor, packet_bytes);
      ++produced;
      cursor = (cursor + packet_bytes + 63) & ~63u;
      if (cursor > end) cursor = end;
    }
    raise |= complete(ring, length, head, descriptors);
    head += packet_descriptors;
    if (head >= length) head -= length;
    if (segmented) {
      produced = emit(block, queue, records, produced, max, cursor, end);
      cursor = segments_end;
      if (get32(block + Q_TSO_TOTAL) != 0) break;
    }
  }
  set32(block + Q_HEAD, head);
  return produced | raise;
}
