/*
 * C twins of memif's kernels (packages/net-memif/src/kernels) as a server has them, for table `kernels` only, frames of one buffer.
 * KERNEL: memif-tx, memif-rx. ARGUMENTS: CELLS QUEUE RECORDS FRAMES ARENA ARENA_BYTES.
 */
#include "memory.h"
#include "layout.h"
static inline u16 acquire16(u32 at) { return __atomic_load_n((u16 *)(base + at), __ATOMIC_SEQ_CST); }
static inline void release16(u32 at, u16 v) { __atomic_store_n((u16 *)(base + at), v, __ATOMIC_SEQ_CST); }
static inline u32 locate(u32 cells, u32 region, u32 offset, u32 bytes) {
  if (region >= get32(cells + CELL_REGIONS)) return 0;
  u32 entry = cells + CELL_REGION_TABLE + region * REGION_ENTRY_BYTES, size = get32(entry + 4);
  if (bytes > size || offset > size - bytes) return 0;
  return get32(entry) + offset;
}
static u32 rx_burst(u32 cells, u32 queue, u32 records, u32 max, u32 arena, u32 arena_bytes) {
  set32(queue + QUEUE_OUTCOME, 0);
  set32(queue + QUEUE_BURST_BYTES, 0);
  set32(queue + QUEUE_BURST_ERRORS, 0);
  if (acquire(queue + QUEUE_STATE) != QUEUE_UP) return 0;
  if (get32(queue + QUEUE_SERVER) == 0) rare("client");
  u32 ring = get32(queue + QUEUE_RING), mask = get32(queue + QUEUE_MASK), next = get32(queue + QUEUE_INDEX);
  u32 available = (acquire16(ring + RING_HEAD) - next) & 0xffff, data = arena, bytes = 0, taken = 0;
  if (available == 0 || available > mask + 1 || arena_bytes < MAX_FRAME_BYTES) rare("fault");
  u64 number = (u64)get32(queue + QUEUE_NUMBER) << 32;
  for (; available != 0 && taken < max && data <= arena + arena_bytes - MAX_FRAME_BYTES; ++taken, --available) {
    u32 descriptor = ring + RING_DESCRIPTORS + (next & mask) * DESCRIPTOR_BYTES, offset = get32(descriptor + DESCRIPTOR_OFFSET);
    u64 word = get64(descriptor);
    u32 length = (u32)(word >> 32);
    if ((u32)word & DESCRIPTOR_NEXT) rare("several buffers");
    u32 from = length > MAX_FRAME_BYTES ? 0 : locate(cells, (u32)word >> 16, offset, length);
    next = (next + 1) & 0xffff;
    if (from == 0 || length < MIN_FRAME_BYTES) rare("bad frame");
    copy(data, from, length);
    set64(records, data | (u64)length << 32);
    set64(records + 8, 0);
    set64(records + 16, 0);
    set64(records + 24, number);
    records += FRAME_RECORD_BYTES;
    bytes += length;
    data = (data + length + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
  }
  set32(queue + QUEUE_INDEX, next);
  release16(ring + RING_TAIL, next);
  set32(queue + QUEUE_BURST_BYTES, bytes);
  return taken;
}
static u32 tx_burst(u32 cells, u32 queue, u32 records, u32 frames) {
  set32(queue + QUEUE_OUTCOME, 0);
  set32(queue + QUEUE_BURST_BYTES, 0);
  set32(queue + QUEUE_BURST_ERRORS, 0);
  if (acquire(queue + QUEUE_STATE) != QUEUE_UP) return 0;
  if (get32(queue + QUEUE_SERVER) == 0) rare("client");
  u32 ring = get32(queue + QUEUE_RING), mask = get32(queue + QUEUE_MASK), index = get32(queue + QUEUE_INDEX), bytes = 0, outcome = 0;
  u32 free = (acquire16(ring + RING_HEAD) - index) & 0xffff;
  if (free < frames || free > mask + 1) rare("no room");
  for (u32 n = 0; n < frames; ++n, records += FRAME_RECORD_BYTES) {
    u32 length = get32(records + FRAME_LENGTH), data = get32(records + FRAME_DATA);
    if (length == 0 || length > MAX_FRAME_BYTES) rare("length");
    u32 descriptor = ring + RING_DESCRIPTORS + (index & mask) * DESCRIPTOR_BYTES;
    u64 word = get64(descriptor);
    u32 region = (u32)word >> 16, room = (u32)(word >> 32), to = locate(cells, region, get32(descriptor + DESCRIPTOR_OFFSET), room);
    if (to == 0 || room < length) rare("buffer");
    copy(to, data, length);
    set64(descriptor, region << 16 | (u64)length << 32);
    index = (index + 1) & 0xffff;
    bytes += length;
  }
  set32(queue + QUEUE_INDEX, index);
  release16(ring + RING_TAIL, index);
  if ((acquire16(ring + RING_FLAGS) & RING_MASK_INTERRUPT) == 0) outcome = OUTCOME_SIGNAL;
  set32(queue + QUEUE_OUTCOME, outcome);
  set32(queue + QUEUE_BURST_BYTES, bytes);
  return frames;
}
static u32 burst(const char *kernel, u32 call, const u32 *arguments) {
  u32 cells = arguments[0], queue = arguments[1], frames = arguments[3];
  if (strcmp(kernel, "memif-rx") == 0) return rx_burst(cells, queue, arguments[2], frames, arguments[4], arguments[5]);
  return tx_burst(cells, queue, arguments[2], frames);
}
int main(int argc, char **argv) { return run_laps(argc, argv, burst); }
