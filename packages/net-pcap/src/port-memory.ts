/**
 * What the two halves of a capture port share in the window. All state of reading and writing is here, so that a queue may move
 * to another lcore, and the control half can write what a dead lcore has left behind.
 */
import { COUNTER_BYTES } from '@emudev/ethdev';

/** Reader's cells. Only the lcore that polls the Rx queue touches them. */
/** Float64: file offset of the next byte to read. */
export const READ_OFFSET = 0;
/** Window offsets: the next record, and the end of what has been read. */
export const READ_CURSOR = 8;
export const READ_END = 12;
/** Blocks read since the file was begun. */
export const READ_BLOCKS = 16;
/** 1: frames were delivered since the file was begun; without any it is not begun again. */
export const READ_DELIVERED = 20;
/** 1: the block holds the whole file. */
export const READ_WHOLE = 24;
/** 1: nothing more comes. */
export const READ_ENDED = 28;
export const READ_CELLS_BYTES = 64;

/** Writer's cells. */
/** 0 free, 1: somebody is at the buffer. */
export const WRITE_LOCK = 0;
/** Bytes in the buffer: whole records only. */
export const WRITE_FILL = 4;
export const WRITE_CELLS_BYTES = 64;

/** A port's own counters, in this order in the window; extended statistics `pcap_…`. */
export const PCAP_COUNTERS = [
  /** Received frames of which the file holds only the beginning. */
  'rx_truncated',
  /** Not received: longer than 9728 bytes. */
  'rx_oversized',
  /** Not received: no Ethernet header. */
  'rx_too_short',
  /** 1: reading ended at a record that makes no sense or is incomplete, or the file could not be read. */
  'rx_broken',
  /** Sent frames of which the file got only the first snaplen bytes. */
  'tx_truncated',
  /** Accepted, but then the file could not be written. */
  'tx_lost',
] as const;
export type PcapCounter = (typeof PCAP_COUNTERS)[number];
export const PCAP_COUNTERS_BYTES: number = PCAP_COUNTERS.length * COUNTER_BYTES;

/** Word index of a counter. */
export function pcapCounter(base: number, name: PcapCounter): number {
  return (base + PCAP_COUNTERS.indexOf(name) * COUNTER_BYTES) >>> 2;
}

export interface ReaderInit {
  readonly fd: number;
  readonly littleEndian: boolean;
  readonly infinite: boolean;
  /** Window offsets. */
  readonly cells: number;
  readonly buffer: number;
  readonly counters: number;
  readonly pcapCounters: number;
}

export interface WriterInit {
  readonly fd: number;
  readonly snaplen: number;
  readonly cells: number;
  readonly buffer: number;
  readonly counters: number;
  readonly pcapCounters: number;
}

export interface PcapInit {
  readonly reader: ReaderInit | undefined;
  readonly writer: WriterInit | undefined;
  /** Where a port that writes no file counts what it is sent. */
  readonly txCounters: number;
}
