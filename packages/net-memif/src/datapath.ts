/**
 * The data path of a memif port. What is read from a ring was written by the peer and may change at any time: each word is fetched
 * once, checked, and used; frames are copied out of the shared memory before anybody looks at them.
 */
import {
  FRAME_DATA,
  FRAME_LENGTH,
  FRAME_QUEUE,
  FRAME_RECORD_BYTES,
  QUEUE_COUNTERS_BYTES,
  RXQ_BYTES,
  RXQ_ERRORS,
  RXQ_PACKETS,
  TXQ_BYTES,
  TXQ_ERRORS,
  TXQ_PACKETS,
  addCounter,
  windowBytes,
  type Burst,
  type LcoreContext,
  type PortDatapath,
  type WindowBytes,
} from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import {
  CELL_EVENTS,
  CELL_QUEUES,
  CELL_REGIONS,
  CELL_REGION_TABLE,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_FLAGS_REGION,
  DESCRIPTOR_LENGTH,
  DESCRIPTOR_METADATA,
  DESCRIPTOR_NEXT,
  DESCRIPTOR_OFFSET,
  FAULT_BUFFER,
  FAULT_INDEX,
  QUEUE_BUFFERS,
  QUEUE_BUFFERS_OFFSET,
  QUEUE_BUFFER_BYTES,
  QUEUE_BUFFER_STRIDE,
  QUEUE_BYTES,
  QUEUE_FAULT,
  QUEUE_FAULTED,
  QUEUE_IDLE,
  QUEUE_INDEX,
  QUEUE_MASK,
  QUEUE_NEXT,
  QUEUE_RING,
  QUEUE_STATE,
  QUEUE_UP,
  REGION_ENTRY_BYTES,
  RING_DESCRIPTORS,
  RING_FLAGS,
  RING_HEAD,
  RING_MASK_INTERRUPT,
  RING_TAIL,
} from './layout.ts';
import { MAX_FRAME_BYTES, MIN_FRAME_BYTES, POLLS_BEFORE_INTERRUPT } from './limits.ts';

export interface MemifInit {
  readonly server: boolean;
  /** Window offset of the port's cells (layout.ts). */
  readonly cells: number;
  readonly rxQueues: number;
  /** Eventfds by queue: what the peer signals, and what we signal. The numbers stay, whoever is connected. */
  readonly rxFds: readonly number[];
  readonly txFds: readonly number[];
  readonly rxCounters: number;
  readonly txCounters: number;
}

/** Where the next frame of a burst begins in the arena. */
const CACHE_LINE = 63;

class MemifDatapath implements PortDatapath {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #u16: Uint16Array;
  readonly #u8: Uint8Array;
  readonly #init: MemifInit;
  readonly #bytes: WindowBytes;
  /** The peer's index and ours, in 16-bit words from the ring: a client moves heads and a server tails, in both directions. */
  readonly #theirs: number;
  readonly #ours: number;
  /** Set by #gather and #scatter: how many descriptors the last frame took. */
  #descriptors = 0;

  constructor(context: LcoreContext, init: MemifInit) {
    this.#u32 = context.u32;
    this.#i32 = context.i32;
    this.#u8 = context.u8;
    this.#u16 = new Uint16Array(context.memory.buffer);
    this.#init = init;
    this.#bytes = windowBytes(context);
    this.#theirs = (init.server ? RING_HEAD : RING_TAIL) / 2;
    this.#ours = (init.server ? RING_TAIL : RING_HEAD) / 2;
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const u32 = this.#u32;
    const init = this.#init;
    const cell = (init.cells + CELL_QUEUES + queue * QUEUE_BYTES) >>> 2;
    if (Atomics.load(this.#i32, cell + QUEUE_STATE / 4) !== QUEUE_UP) return 0;
    const ring = u32[cell + QUEUE_RING / 4]!;
    const size = u32[cell + QUEUE_MASK / 4]! + 1;
    const index = u32[cell + QUEUE_INDEX / 4]!;
    let next = init.server ? index : u32[cell + QUEUE_NEXT / 4]!;
    // CLIENT: how far the peer has come; no farther than a client has supplied buffers, or a ring is long.
    let available = (Atomics.load(this.#u16, (ring >>> 1) + this.#theirs) - next) & 0xffff;
    if (available > (init.server ? size : (index - next) & 0xffff)) return this.#giveUp(cell, FAULT_INDEX);
    if (available === 0) {
      this.#idle(cell, ring, queue);
      if (!init.server) this.#supply(cell, ring, size, index, next);
      return 0;
    }
    if (u32[cell + QUEUE_IDLE / 4]! >= POLLS_BEFORE_INTERRUPT) this.#busy(ring, queue);
    u32[cell + QUEUE_IDLE / 4] = 0;

    const most = max < burst.capacity ? max : burst.capacity;
    const end = burst.arena + burst.arenaBytes - MAX_FRAME_BYTES;
    let data = burst.arena;
    let count = 0;
    let bytes = 0;
    let errors = 0;
    while (available !== 0 && count < most && data <= end) {
      const length = this.#gather(ring, size - 1, next, available, data);
      next = (next + this.#descriptors) & 0xffff;
      available -= this.#descriptors;
      if (length < MIN_FRAME_BYTES) {
        errors++;
        continue;
      }
      const record = (burst.records + count * FRAME_RECORD_BYTES) >>> 2;
      for (let i = 0; i < FRAME_RECORD_BYTES / 4; i++) u32[record + i] = 0;
      u32[record + FRAME_DATA / 4] = data;
      u32[record + FRAME_LENGTH / 4] = length;
      u32[record + FRAME_QUEUE / 4] = queue;
      bytes += length;
      data = (data + length + CACHE_LINE) & ~CACHE_LINE;
      count++;
    }
    if (init.server) {
      u32[cell + QUEUE_INDEX / 4] = next;
      Atomics.store(this.#u16, (ring >>> 1) + this.#ours, next);
    } else {
      u32[cell + QUEUE_NEXT / 4] = next;
      this.#supply(cell, ring, size, index, next);
    }
    const counters = (init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    if (errors !== 0) addCounter(u32, counters + RXQ_ERRORS / 4, errors);
    addCounter(u32, counters + RXQ_PACKETS / 4, count);
    addCounter(u32, counters + RXQ_BYTES / 4, bytes);
    return count;
  }

  /** Copies the frame that begins at descriptor `next` to `data`; its length, 0 if it is not one. Takes at most `available` descriptors, at least one. */
  #gather(ring: number, mask: number, next: number, available: number, data: number): number {
    const u32 = this.#u32;
    const cells = this.#init.cells;
    const regions = u32[(cells + CELL_REGIONS) >>> 2]!;
    let length = 0;
    let whole = true;
    let taken = 0;
    let more = true;
    while (more && taken < available) {
      const descriptor = (ring + RING_DESCRIPTORS + ((next + taken) & mask) * DESCRIPTOR_BYTES) >>> 2;
      // CLIENT: each word once.
      const flagsAndRegion = u32[descriptor + DESCRIPTOR_FLAGS_REGION / 4]!;
      const bytes = u32[descriptor + DESCRIPTOR_LENGTH / 4]!;
      const offset = u32[descriptor + DESCRIPTOR_OFFSET / 4]!;
      const region = flagsAndRegion >>> 16;
      more = (flagsAndRegion & DESCRIPTOR_NEXT) !== 0;
      taken++;
      // DPDK before 26.03 sets this flag and never clears it: on its next way round the ring a short frame would seem to go on.
      if (more) u32[descriptor + DESCRIPTOR_FLAGS_REGION / 4] = (region << 16) >>> 0;
      if (!whole) continue;
      const entry = (cells + CELL_REGION_TABLE + region * REGION_ENTRY_BYTES) >>> 2;
      if (region >= regions || offset + bytes > u32[entry + 1]! || length + bytes > MAX_FRAME_BYTES) {
        whole = false;
        continue;
      }
      this.#copy(data + length, u32[entry]! + offset, bytes);
      length += bytes;
    }
    this.#descriptors = taken;
    // A frame that goes on behind what the peer has published is none.
    return whole && !more ? length : 0;
  }

  /** Client: every buffer that has been emptied goes back to the server, whatever the server has made of its descriptor. */
  #supply(cell: number, ring: number, size: number, index: number, next: number): void {
    const u32 = this.#u32;
    let free = (size - (index - next)) & 0xffff;
    if (free === 0) return;
    const stride = u32[cell + QUEUE_BUFFER_STRIDE / 4]!;
    const bytes = u32[cell + QUEUE_BUFFER_BYTES / 4]!;
    const offset = u32[cell + QUEUE_BUFFERS_OFFSET / 4]!;
    let at = index;
    for (; free !== 0; free--) {
      const slot = at & (size - 1);
      const descriptor = (ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES) >>> 2;
      u32[descriptor + DESCRIPTOR_FLAGS_REGION / 4] = 0;
      u32[descriptor + DESCRIPTOR_LENGTH / 4] = bytes;
      u32[descriptor + DESCRIPTOR_OFFSET / 4] = offset + slot * stride;
      at = (at + 1) & 0xffff;
    }
    u32[cell + QUEUE_INDEX / 4] = at;
    Atomics.store(this.#u16, (ring >>> 1) + this.#ours, at);
  }

  /** A poll that found nothing. After some of them the lcore may soon sleep: then the peer's signals are to wake it. */
  #idle(cell: number, ring: number, queue: number): void {
    const polls = this.#u32[cell + QUEUE_IDLE / 4]!;
    if (polls >= POLLS_BEFORE_INTERRUPT) return;
    this.#u32[cell + QUEUE_IDLE / 4] = polls + 1;
    if (polls + 1 < POLLS_BEFORE_INTERRUPT) return;
    // An old signal would wake for nothing. A frame that comes before the flag is seen is found by the polls that follow.
    linux.eventfdDrain(this.#init.rxFds[queue]!);
    Atomics.store(this.#u16, (ring + RING_FLAGS) >>> 1, 0);
  }

  #busy(ring: number, queue: number): void {
    Atomics.store(this.#u16, (ring + RING_FLAGS) >>> 1, RING_MASK_INTERRUPT);
    linux.eventfdDrain(this.#init.rxFds[queue]!);
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    const u32 = this.#u32;
    const init = this.#init;
    const cell = (init.cells + CELL_QUEUES + (init.rxQueues + queue) * QUEUE_BYTES) >>> 2;
    if (Atomics.load(this.#i32, cell + QUEUE_STATE / 4) !== QUEUE_UP) return 0;
    const ring = u32[cell + QUEUE_RING / 4]!;
    const size = u32[cell + QUEUE_MASK / 4]! + 1;
    let index = u32[cell + QUEUE_INDEX / 4]!;
    // CLIENT: how many buffers the client has supplied, or how many frames the server has not taken yet.
    const distance = (Atomics.load(this.#u16, (ring >>> 1) + this.#theirs) - index) & 0xffff;
    let free = init.server ? distance : size - (-distance & 0xffff);
    if (free < 0 || free > size) return this.#giveUp(cell, FAULT_INDEX);
    let sent = 0;
    let packets = 0;
    let bytes = 0;
    let errors = 0;
    for (; sent < count; sent++) {
      const record = (burst.records + sent * FRAME_RECORD_BYTES) >>> 2;
      const length = u32[record + FRAME_LENGTH / 4]!;
      if (length === 0 || length > MAX_FRAME_BYTES) {
        errors++;
        continue;
      }
      const descriptors = this.#scatter(cell, ring, size - 1, index, free, u32[record + FRAME_DATA / 4]!, length);
      if (descriptors === 0) {
        // It would not fit into an empty ring either: waiting is of no use.
        if (free === size) {
          errors++;
          continue;
        }
        break;
      }
      if (descriptors < 0) {
        this.#giveUp(cell, FAULT_BUFFER);
        break;
      }
      index = (index + descriptors) & 0xffff;
      free -= descriptors;
      packets++;
      bytes += length;
    }
    const counters = (init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    if (errors !== 0) addCounter(u32, counters + TXQ_ERRORS / 4, errors);
    if (packets === 0) return sent;
    u32[cell + QUEUE_INDEX / 4] = index;
    Atomics.store(this.#u16, (ring >>> 1) + this.#ours, index);
    // CLIENT: behind the store, so that one of the two sides sees what the other did last.
    if ((Atomics.load(this.#u16, (ring + RING_FLAGS) >>> 1) & RING_MASK_INTERRUPT) === 0) linux.eventfdSignal(init.txFds[queue]!);
    addCounter(u32, counters + TXQ_PACKETS / 4, packets);
    addCounter(u32, counters + TXQ_BYTES / 4, bytes);
    return sent;
  }

  /** Copies a frame into buffers from descriptor `index` on; how many it took, 0 if `free` do not suffice, -1 for a buffer that cannot be. */
  #scatter(cell: number, ring: number, mask: number, index: number, free: number, data: number, length: number): number {
    const u32 = this.#u32;
    const { server, cells } = this.#init;
    const regions = u32[(cells + CELL_REGIONS) >>> 2]!;
    const stride = u32[cell + QUEUE_BUFFER_STRIDE / 4]!;
    let left = length;
    let taken = 0;
    do {
      if (taken === free) return 0;
      const slot = (index + taken) & mask;
      const descriptor = (ring + RING_DESCRIPTORS + slot * DESCRIPTOR_BYTES) >>> 2;
      let region = 0;
      let room = u32[cell + QUEUE_BUFFER_BYTES / 4]!;
      let buffer = u32[cell + QUEUE_BUFFERS / 4]! + slot * stride;
      if (server) {
        // CLIENT: each word once.
        region = u32[descriptor + DESCRIPTOR_FLAGS_REGION / 4]! >>> 16;
        room = u32[descriptor + DESCRIPTOR_LENGTH / 4]!;
        const offset = u32[descriptor + DESCRIPTOR_OFFSET / 4]!;
        const entry = (cells + CELL_REGION_TABLE + region * REGION_ENTRY_BYTES) >>> 2;
        if (region >= regions || room === 0 || offset + room > u32[entry + 1]!) return -1;
        buffer = u32[entry]! + offset;
      } else {
        u32[descriptor + DESCRIPTOR_OFFSET / 4] = u32[cell + QUEUE_BUFFERS_OFFSET / 4]! + slot * stride;
        u32[descriptor + DESCRIPTOR_METADATA / 4] = 0;
      }
      const bytes = left < room ? left : room;
      this.#copy(buffer, data + length - left, bytes);
      left -= bytes;
      // If the chain turns out too long, its descriptors still say how large their buffers are: all but the last are full.
      u32[descriptor + DESCRIPTOR_LENGTH / 4] = bytes;
      u32[descriptor + DESCRIPTOR_FLAGS_REGION / 4] = ((region << 16) | (left === 0 ? 0 : DESCRIPTOR_NEXT)) >>> 0;
      taken++;
    } while (left !== 0);
    return taken;
  }

  /** Not a byte more than `length`: what lies behind a buffer may be in use. */
  #copy(to: number, from: number, length: number): void {
    const whole = length & ~3;
    if (whole !== 0) this.#bytes.copy(to, from, whole);
    const u8 = this.#u8;
    for (let i = whole; i < length; i++) u8[to + i] = u8[from + i]!;
  }

  /** The control thread hears of it and ends the connection; until then the queue is left alone. */
  #giveUp(cell: number, fault: number): 0 {
    const i32 = this.#i32;
    const events = (this.#init.cells + CELL_EVENTS) >>> 2;
    i32[cell + QUEUE_FAULT / 4] = fault;
    // Not over a "down" that has come meanwhile.
    Atomics.compareExchange(i32, cell + QUEUE_STATE / 4, QUEUE_UP, QUEUE_FAULTED);
    Atomics.add(i32, events, 1);
    Atomics.notify(i32, events);
    return 0;
  }
}

export function createDatapath(context: LcoreContext, init: MemifInit): PortDatapath {
  return new MemifDatapath(context, init);
}
