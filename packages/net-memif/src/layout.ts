/**
 * Two layouts that control thread and lcores agree on: a ring in memory shared with the peer (memif.h), and the cells in our own
 * memory that say where the rings are. The cells are ours alone: whatever the peer does to its memory, where we are in a ring, how
 * large it is and which memory belongs to it is read from here.
 */
import { MAX_REGIONS } from './limits.ts';

/*
 * A ring: a header of two cache lines, then 1 << log2 descriptors. The client supplies buffers, in both directions:
 *
 * | ring | head                              | tail                             | flags     |
 * | ---- | --------------------------------- | -------------------------------- | --------- |
 * | C2S  | client: frames it has sent        | server: frames it has taken      | server    |
 * | S2C  | client: buffers it has supplied   | server: buffers it has filled    | client    |
 *
 * Both count descriptors modulo 2^16.
 */
/** Byte offset of u32 cookie. */
export const RING_COOKIE = 0;
/** Byte offset of u16 flags, `RING_MASK_INTERRUPT`: written by whoever receives. */
export const RING_FLAGS = 4;
/** Byte offset of u16 head. */
export const RING_HEAD = 6;
/** Byte offset of u16 tail. */
export const RING_TAIL = 64;
/** Byte offset of the first descriptor. */
export const RING_DESCRIPTORS = 128;
/** Value of the cookie. */
export const MEMIF_COOKIE = 0x3e31f20;
/** Whoever receives is polling: no interrupts. */
export const RING_MASK_INTERRUPT = 1;

/** A descriptor: u16 flags, u16 region, u32 length, u32 offset in the region, u32 metadata. */
export const DESCRIPTOR_BYTES = 16;
/** Byte offset of u16 flags and, in the high half of the same word, the region. */
export const DESCRIPTOR_FLAGS_REGION = 0;
/** The two apart. */
export const DESCRIPTOR_FLAGS = 0;
export const DESCRIPTOR_REGION = 2;
/** Byte offset of u32 length. */
export const DESCRIPTOR_LENGTH = 4;
/** Byte offset of u32 offset. */
export const DESCRIPTOR_OFFSET = 8;
/** Byte offset of u32 metadata: nobody uses it. */
export const DESCRIPTOR_METADATA = 12;
/** The frame goes on in the next descriptor. */
export const DESCRIPTOR_NEXT = 1;

/** Bytes of a ring of `1 << log2Size` descriptors. */
export function ringBytes(log2Size: number): number {
  return RING_DESCRIPTORS + DESCRIPTOR_BYTES * 2 ** log2Size;
}

/*
 * Cells of a port, byte offsets from its block:
 *
 *   0    i32 events: grows when a queue has been given up; the control thread waits on it
 *   64   u32 number of regions, then u32 window offset and u32 bytes of each
 *   …    one block per Rx queue, then one per Tx queue
 */
/** Byte offset of i32 events. */
export const CELL_EVENTS = 0;
/** Byte offset of u32 number of regions. */
export const CELL_REGIONS = 64;
/** Byte offset of the table of regions. */
export const CELL_REGION_TABLE = 72;
/** Bytes of an entry of it: u32 window offset, u32 bytes. */
export const REGION_ENTRY_BYTES = 8;
/** Byte offset of the first queue's block. */
export const CELL_QUEUES: number = (CELL_REGION_TABLE + MAX_REGIONS * REGION_ENTRY_BYTES + 63) & ~63;
/** Bytes of a queue's block: a cache line. */
export const QUEUE_BYTES = 64;

/** Byte offset in a queue's block of i32 state, `QUEUE_*`. The words behind it change only while it is down. */
export const QUEUE_STATE = 0;
/** No ring. */
export const QUEUE_DOWN = 0;
/** The ring may be used. */
export const QUEUE_UP = 1;
/** An lcore has given the queue up, for the reason in `QUEUE_FAULT`. */
export const QUEUE_FAULTED = 2;
/** u32: window offset of the ring. */
export const QUEUE_RING = 4;
/** u32: descriptors in it, less one. */
export const QUEUE_MASK = 8;
/** u32, client: window offset of the first descriptor's buffer. */
export const QUEUE_BUFFERS = 12;
/** u32, client: the same as an offset in region 0. */
export const QUEUE_BUFFERS_OFFSET = 16;
/** u32, client: bytes from one buffer to the next. */
export const QUEUE_BUFFER_STRIDE = 20;
/** u32, client: usable bytes of each. */
export const QUEUE_BUFFER_BYTES = 24;
/** u32, the lcore's: the index we own, modulo 2^16. */
export const QUEUE_INDEX = 28;
/** u32, the lcore's: where a client receives next, modulo 2^16. */
export const QUEUE_NEXT = 32;
/** u32, the lcore's: polls in a row that found nothing, up to POLLS_BEFORE_INTERRUPT: then interrupts are on. */
export const QUEUE_IDLE = 36;
/** u32: why the queue was given up, `FAULT_*`. */
export const QUEUE_FAULT = 40;

/** u32, the lcore's: what its last burst asks for, `OUTCOME_*` together. */
export const QUEUE_OUTCOME = 44;
/** u32, the lcore's: bytes of the frames its last burst received or sent. */
export const QUEUE_BURST_BYTES = 48;
/** u32, the lcore's: frames that its last burst dropped. */
export const QUEUE_BURST_ERRORS = 52;
/** u32: 1 if the port is the server. */
export const QUEUE_SERVER = 56;
/** u32: which of the Rx or Tx queues it is. */
export const QUEUE_NUMBER = 60;

/** The ring held nothing. */
export const OUTCOME_EMPTY = 1;
/** Frames were sent, and the peer wants to be signalled. */
export const OUTCOME_SIGNAL = 2;
/** The queue cannot go on, for the reason in `QUEUE_FAULT`. */
export const OUTCOME_FAULT = 4;

/** Where the frames of a burst begin in the arena: a cache line. */
export const ARENA_ALIGNMENT = 64;

/** The peer's index is farther away than the ring is long. */
export const FAULT_INDEX = 1;
/** A buffer that the peer supplied lies outside its memory. */
export const FAULT_BUFFER = 2;

/** Bytes of the cells of a port. */
export function cellsBytes(rxQueues: number, txQueues: number): number {
  return CELL_QUEUES + (rxQueues + txQueues) * QUEUE_BYTES;
}
