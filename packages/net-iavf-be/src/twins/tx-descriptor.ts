/** The guest's Tx descriptors and the packet that a run of them describes. */
import type { TwinMemory } from './memory.ts';

export const DTYPE_DATA = 0;
export const DTYPE_CONTEXT = 1;
export const DTYPE_DONE = 0xf;
export const CMD_EOP = 0x001;
export const CMD_RS = 0x002;
export const CMD_IL2TAG1 = 0x008;
export const CMD_DUMMY = 0x010;
export const IIPT_IPV6 = 1;
export const IIPT_IPV4_CSUM = 3;
export const L4T_TCP = 1;
export const L4T_SCTP = 2;
export const L4T_UDP = 3;
const CONTEXT_CMD_TSO = 0x01;
const CONTEXT_CMD_IL2TAG2 = 0x04;

/** One descriptor, fetched once. */
export interface TxDescriptor {
  readonly index: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly low: number;
  readonly high: number;
}

export const dtypeOf = (d: TxDescriptor): number => d.low & 0xf;
export const cmdOf = (d: TxDescriptor): number => (d.low >>> 4) & 0xfff;
export const sizeOf = (d: TxDescriptor): number => (d.high >>> 2) & 0x3fff;

/** What the first data descriptor and the last context descriptor say about a packet. */
export interface TxPacket {
  readonly descriptors: readonly TxDescriptor[];
  readonly bytes: number;
  readonly cmd: number;
  readonly iipt: number;
  readonly l4t: number;
  /** OFFSET in bytes. */
  readonly l2: number;
  readonly l3: number;
  readonly l4: number;
  readonly tag1: number;
  readonly segmented: boolean;
  readonly secondTag: boolean;
  readonly tsoLength: number;
  readonly mss: number;
  /** A descriptor of another type lies inside. */
  readonly malformed: boolean;
}

export function fetchDescriptor(memory: TwinMemory, ring: number, index: number): TxDescriptor {
  const at = ring + 16 * index;
  return { index, addressLow: memory.u32(at), addressHigh: memory.u32(at + 4), low: memory.u32(at + 8), high: memory.u32(at + 12) };
}

export function packetOf(descriptors: readonly TxDescriptor[]): TxPacket {
  const data = descriptors.filter((d) => dtypeOf(d) === DTYPE_DATA);
  const first = data[0]!;
  const firstAt = descriptors.indexOf(first);
  const context = descriptors.slice(0, firstAt).findLast((d) => dtypeOf(d) === DTYPE_CONTEXT);
  // OFFSET is bits 33:16 of qw1
  const offset = (first.low >>> 16) | ((first.high & 3) << 16);
  const contextCmd = context === undefined ? 0 : (context.low >>> 4) & 0xffff;
  return {
    descriptors,
    bytes: data.reduce((sum, d) => sum + sizeOf(d), 0),
    cmd: cmdOf(first),
    iipt: (cmdOf(first) >>> 5) & 3,
    l4t: (cmdOf(first) >>> 8) & 3,
    l2: (offset & 0x7f) * 2,
    l3: ((offset >>> 7) & 0x7f) * 4,
    l4: (offset >>> 14) * 4,
    tag1: first.high >>> 16,
    segmented: (contextCmd & CONTEXT_CMD_TSO) !== 0,
    secondTag: (contextCmd & CONTEXT_CMD_IL2TAG2) !== 0,
    // TSO LEN is bits 47:30, MSS 63:50
    tsoLength: context === undefined ? 0 : (context.low >>> 30) | ((context.high & 0xffff) << 2),
    mss: context === undefined ? 0 : context.high >>> 18,
    malformed: descriptors.some((d, n) => {
      const type = dtypeOf(d);
      return !(type === DTYPE_DATA || type === DTYPE_DONE || (type === DTYPE_CONTEXT && n < firstAt));
    }),
  };
}
