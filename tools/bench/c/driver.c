/*
 * C twins of the driver's kernels (packages/iavf-pmd/src/kernels), for table `kernels` only: what they do to frames of one buffer without
 * offloads. KERNEL: driver-tx, driver-rx. ARGUMENTS: QUEUE RECORDS FRAMES NOW.
 */
#include "memory.h"
#include "layout.h"
static inline u64 acquire64(u32 at) { return __atomic_load_n((u64 *)(base + at), __ATOMIC_ACQUIRE); }
static inline void release32(u32 at, u32 v) { __atomic_store_n((u32 *)(base + at), v, __ATOMIC_RELEASE); }
static inline void count(u32 q, u32 counter, u64 n) { add64(q + Q_STATS + counter * 8, n); }

static u32 checksum_flags(u32 status, u32 ptype) {
  u32 flags = 0, first = 88;
  if (ptype - 22 <= 6) {
    first = 22;
    flags = (status & RXS_IPE) ? FRAME_RX_IP_BAD : FRAME_RX_IP_GOOD;
  } else if (ptype - 88 > 6) {
    return 0;
  }
  u32 kind = ptype - first;
  if (kind == 2 || kind == 4 || kind == 5) flags |= (status & RXS_L4E) ? FRAME_RX_L4_BAD : FRAME_RX_L4_GOOD;
  return flags;
}
static u32 rx_burst(u32 q, u32 records, u32 max, u32 now) {
  if (get32(q + Q_ENABLED) == 0) return 0;
  u32 ring = get32(q + Q_RING), length = get32(q + Q_LENGTH), buffers = get32(q + Q_BUFFERS), slots = get32(q + Q_SLOTS);
  u32 buffer_bytes = get32(q + Q_BUFFER_BYTES), queue = get32(q + Q_NUMBER), head = get32(q + Q_HEAD);
  if (get32(q + RXQ_SKIP) != 0 || now - get32(q + RXQ_LAST) <= RX_PATIENCE) rare("patience");
  u32 tail = get32(q + Q_TAIL), shift = 5 - get32(q + RXQ_SHORT), limit = head == 0 ? length - 1 : head - 1;
  if (tail != limit) {
    u64 iova = get64(q + Q_IOVA);
    do {
      u32 descriptor = ring + (tail << shift);
      set64(descriptor, iova + get32(slots + tail * 4));
      set64(descriptor + 8, 0);
      if (++tail == length) tail = 0;
    } while (tail != limit);
    set32(q + Q_TAIL, tail);
    release32(get32(q + Q_DOORBELL), tail);
  }
  u32 taken = 0;
  u64 bytes = 0;
  for (; taken < max && head != tail; ++taken, records += FRAME_RECORD_BYTES) {
    u32 descriptor = ring + (head << shift);
    u64 qw1 = acquire64(descriptor + 8), qw0 = get64(descriptor);
    u32 status = (u32)qw1, size = (u32)(qw1 >> RX_LENGTH_SHIFT) & RX_LENGTH_MASK, flags = 0, tci = 0, hash = 0;
    if (!(status & RXS_DD)) break;
    if ((status & (RXS_EOP | RXS_RXE)) != RXS_EOP || size - 1 >= buffer_bytes) rare("several buffers");
    if (status & RXS_L2TAG1P) { flags |= FRAME_RX_VLAN; tci = (u32)qw0 >> 16; }
    if ((status & RXS_FLTSTAT_MASK) == RXS_FLTSTAT_RSS) { flags |= FRAME_RX_RSS; hash = (u32)(qw0 >> 32); }
    if (status & RXS_L3L4P) flags |= checksum_flags(status, (u32)(qw1 >> RX_PTYPE_SHIFT) & RX_PTYPE_MASK);
    set64(records, (buffers + get32(slots + head * 4)) | (u64)size << 32);
    set64(records + 8, flags | (u64)tci << 32);
    set64(records + 16, 0);
    set64(records + 24, hash | (u64)queue << 32);
    bytes += size;
    if (++head == length) head = 0;
  }
  set32(q + Q_HEAD, head);
  set32(q + RXQ_SKIP, 0);
  if (taken != 0) {
    set32(q + RXQ_LAST, now);
    count(q, QS_PACKETS, taken);
    count(q, QS_BYTES, bytes);
  }
  return taken;
}

/* Which of the partner's slots that the driver holds owns the frame's buffer: it gets `mine` instead. ~0: none of those left to look at. */
static u32 held_slot, held_count, held_slots, held_length;
static inline u32 exchange(u32 mine, u32 offset, u32 size, u32 buffer_bytes) {
  while (held_count != 0) {
    u32 theirs = held_slots + held_slot * 4, start = get32(theirs);
    --held_count;
    if (++held_slot == held_length) held_slot = 0;
    if (offset - start <= buffer_bytes - size) {
      set32(theirs, get32(mine));
      set32(mine, start);
      return offset;
    }
  }
  return ~0u;
}
static u32 tx_burst(u32 q, u32 records, u32 frames) {
  if (get32(q + Q_ENABLED) == 0) return 0;
  u32 ring = get32(q + Q_RING), length = get32(q + Q_LENGTH), buffers = get32(q + Q_BUFFERS), pool = get32(q + Q_POOL_BYTES);
  u32 buffer_bytes = get32(q + Q_BUFFER_BYTES), slots = get32(q + Q_SLOTS), list = get32(q + TXQ_RS_LIST), max_frame = get32(q + TXQ_MAX_FRAME);
  u32 head = get32(q + Q_HEAD), before = head, clean = get32(q + Q_TAIL), since = get32(q + TXQ_SINCE_RS), rs_head = get32(q + TXQ_RS_HEAD);
  u64 iova = get64(q + Q_IOVA), bytes = 0;
  if ((clean > head ? clean - head : clean + length - head) - 1 < frames + RS_INTERVAL) {
    /* The oldest is not done */
    u32 next = get32(q + TXQ_RS_TAIL), end = rs_head;
    if (next != end && (acquire64(ring + get32(list + next * 4) * TX_DESCRIPTOR_BYTES + 8) & 0xf) == TXD_DONE) rare("completions");
    if ((clean > head ? clean - head : clean + length - head) - 1 < frames) rare("no room");
  }
  u32 partner = get32(q + TXQ_PARTNER);
  held_count = 0;
  if (frames != 0 && get32(records) - buffers < pool && partner != 0 && get32(partner + Q_ENABLED) != 0) {
    u32 first = get32(partner + Q_HEAD);
    held_slot = get32(partner + Q_TAIL);
    held_slots = get32(partner + Q_SLOTS);
    held_length = get32(partner + Q_LENGTH);
    held_count = first >= held_slot ? first - held_slot : first + held_length - held_slot;
  }
  for (u32 n = 0; n < frames; ++n, records += FRAME_RECORD_BYTES) {
    u32 data = get32(records), size = get32(records + FRAME_LENGTH);
    if (unlikely(size < MIN_TX_FRAME_BYTES || size > max_frame || size > buffer_bytes || (get32(records + FRAME_FLAGS) & FRAME_TX_MASK) != 0)) rare("work");
    u32 at = data - buffers < pool ? exchange(slots + head * 4, data - buffers, size, buffer_bytes) : ~0u;
    if (at == ~0u) {
      at = get32(slots + head * 4);
      copy(buffers + at, data, size);
    }
    u64 qw1 = (u64)(TXC_ICRC | TXC_EOP) << TX_CMD_SHIFT | (u64)size << TX_LENGTH_SHIFT;
    if (++since >= RS_INTERVAL || n + 1 == frames) {
      qw1 |= (u64)TXC_RS << TX_CMD_SHIFT;
      set32(list + rs_head * 4, head);
      if (++rs_head == length) rs_head = 0;
      since = 0;
    }
    set64(ring + head * TX_DESCRIPTOR_BYTES, iova + at);
    set64(ring + head * TX_DESCRIPTOR_BYTES + 8, qw1);
    if (++head == length) head = 0;
    bytes += size;
  }
  if (head != before) {
    set32(q + Q_HEAD, head);
    set32(q + TXQ_RS_HEAD, rs_head);
    set32(q + TXQ_SINCE_RS, since);
    count(q, QS_PACKETS, frames);
    count(q, QS_BYTES, bytes);
    release32(get32(q + Q_DOORBELL), head);
  }
  return frames;
}
static u32 burst(const char *kernel, u32 call, const u32 *arguments) {
  u32 queue = arguments[0], frames = arguments[2], records = arguments[1] + call * frames * FRAME_RECORD_BYTES;
  if (strcmp(kernel, "driver-tx") == 0) {
    set32(get32(queue + TXQ_PARTNER) + Q_TAIL, call * frames); /* as if the Rx queue had posted the frames of the bursts before */
    return tx_burst(queue, records, frames);
  }
  return rx_burst(queue, arguments[1], frames, (call + 1) * arguments[3]);
}
int main(int argc, char **argv) { return run_laps(argc, argv, burst); }
