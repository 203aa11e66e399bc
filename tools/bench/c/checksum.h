/* The Internet checksum, as gcc makes the most of it. */
static inline u32 fold(u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u32)((sum & 0xffff) + (sum >> 16));
}
typedef u32 block __attribute__((vector_size(VECTOR_BYTES)));
static u64 sum_words(u32 from, u32 bytes) {
  u64 sum = 0;
  if (bytes >= VECTOR_BYTES) {
    block lanes = {0};
    do {
      block words;
      memcpy(&words, base + from, VECTOR_BYTES);
      lanes += (words & 0xffff) + (words >> 16);
      from += VECTOR_BYTES;
      bytes -= VECTOR_BYTES;
    } while (bytes >= VECTOR_BYTES);
    for (int n = 0; n < VECTOR_BYTES / 4; ++n) sum += lanes[n];
  }
  for (; bytes >= 4; from += 4, bytes -= 4) sum += get32(from);
  if (bytes & 2) { sum += get16(from); from += 2; }
  if (bytes & 1) sum += get8(from);
  return sum;
}
static inline u64 sum_ipv4_header(u32 ip) { return (u64)get32(ip) + get32(ip + 4) + get32(ip + 8) + get32(ip + 12) + get32(ip + 16); }

