/* Guest Rx, as DELIVER, of frames of one buffer, whole or (IS_LENT) lent, or (LARGE) of several: by the preprocessor, because gcc makes less of it with a flag. */
static u32 DELIVER(u32 device, u32 records, u32 count) {
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
    if (((get32(record + FRAME_FLAGS) & FRAME_LENT) != 0) != IS_LENT) rare("lent");
#if IS_LENT
    u32 ip_length = 0;
    int is_tcp = 0;
#endif
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
      status |= (u64)(tcp ? 26 : 24) << 30;
#if IS_LENT
      ip_length = ip_bytes;
      is_tcp = tcp;
#else
      status |= verdict(ip, ip + 20, ip_bytes - 20, tcp, get32(record + FRAME_FLAGS));
#endif
    } else if (type == 0x0081 || type == 0xdd86 || type == 0x0608 || type == 0xcc88 || type == 0xf788) {
      rare("ethertype");
    } else {
      status |= (u64)1 << 30;
    }
    u32 queue = get8(device + DEV_LUT + (hash & (RSS_LUT_ENTRIES - 1)));
    if (queue >= pairs) rare("queue");
    u32 block = blocks + queue * Q_BYTES, ring = get32(block + Q_RING);
    if (get32(block + Q_ENABLED) == 0 || get32(block + Q_FAULT) != 0 || ring == 0) rare("queue state");
    if (length + 4 > get32(block + Q_MAX_PACKET) || (length > get32(block + Q_BUFFER)) != LARGE) rare("buffer size");
    u32 ring_length = get32(block + Q_LENGTH), tail = acquire(get32(block + Q_DOORBELL)), head = get32(block + Q_HEAD);
    if (tail >= ring_length || head == tail) rare("no buffer");
#if LARGE
    place(block, ring, ring_length, head, tail, data, length, hash, status);
#else
    u32 shift = 5 - get32(block + Q_SHORT), descriptor = ring + (head << shift), to = translate(get64(descriptor));
    if (unlikely(to == 0 || span < length)) rare("pieces");
#if IS_LENT
    if (ip_length == 0) rare("no IPv4");
    status |= deliver_lent(to, record, length, ip_length, is_tcp);
#else
    copy(to, data, length);
#endif
    set64(descriptor, (u64)hash << 32);
    clear_rest(descriptor, shift);
    publish(descriptor + 8, status | (u64)length << 38);
    set32(block + Q_HEAD, head + 1 == ring_length ? 0 : head + 1);
    set32(block + Q_BAD_BUFFERS, 0);
#endif
    add64(block + Q_STATS + (QS_PACKETS << 3), 1);
    add64(block + Q_STATS + (QS_BYTES << 3), length);
    add64(block + Q_STATS + (QS_UNICAST << 3), 1);
    kick |= 1u << queue;
  }
  set32(device + DEV_RX_KICK, kick);
  return count;
}
