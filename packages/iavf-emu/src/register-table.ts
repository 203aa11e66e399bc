/**
 * Every register of BAR0 that a driver touches, named as in the datasheet. Whatever is not listed reads as zero and ignores
 * writes. All are 32 bits wide and little-endian.
 */
export const BAR0_BYTES = 0x10000;
export const PAGE_BYTES = 0x1000;
/** The pages a consumer may map: what a driver writes there for every burst and interrupt. Nothing in them needs to be answered. */
export const TX_TAIL_PAGE = 0x0000;
export const RX_TAIL_PAGE = 0x2000;
export const VECTOR_PAGE = 0x3000;

/** Names of the datasheet. */
export type RegisterName =
  | 'QTX_TAIL1'
  | 'QRX_TAIL1'
  | 'VFINT_ITRN1'
  | 'VFINT_DYN_CTLN1'
  | 'VFINT_ICR01'
  | 'VFINT_ITR01'
  | 'VFINT_ICR0_ENA1'
  | 'VFINT_STAT_CTL01'
  | 'VFINT_DYN_CTL01'
  | 'VF_ARQBAH1'
  | 'VF_ATQH1'
  | 'VF_ATQLEN1'
  | 'VF_ARQBAL1'
  | 'VF_ARQT1'
  | 'VF_ARQH1'
  | 'VF_ATQBAH1'
  | 'VF_ATQBAL1'
  | 'VF_ARQLEN1'
  | 'VF_ATQT1'
  | 'VFGEN_RSTAT'
  | 'VFQF_HENA'
  | 'VFQF_HKEY'
  | 'VFQF_HLUT';

/** A register, or several of a kind: `offset` in bytes from the start of BAR0. */
export interface RegisterSpec {
  readonly name: RegisterName;
  readonly offset: number;
  /** Instances, four bytes apart. */
  readonly count: number;
  readonly reset: number;
  /** Bits a guest can change. */
  readonly writable: number;
  /** Lies in a page that a consumer may map, so its value lives in the window. */
  readonly mapped?: true;
}

const ALL = 0xffff_ffff;
/** Number of descriptors, error bits, enable. */
const LEN = 0xf000_03ff;
/** INTENA, ITR_INDX, INTERVAL, SW_ITR_INDX(_ENA), WB_ON_ITR stay readable; CLEARPBA, SWINT_TRIG and INTENA_MSK are commands. */
const DYN_CTL = 0x4701_fff9;

/** The table: every register a driver touches, by offset. */
export const REGISTERS: readonly RegisterSpec[] = [
  { name: 'QTX_TAIL1', offset: 0x0000, count: 16, reset: 0, writable: ALL, mapped: true },
  { name: 'QRX_TAIL1', offset: 0x2000, count: 16, reset: 0, writable: ALL, mapped: true },
  /** Instance 16 i + v: throttle interval i (0..2) of vector v + 1. */
  { name: 'VFINT_ITRN1', offset: 0x2800, count: 48, reset: 0, writable: 0xfff, mapped: true },
  { name: 'VFINT_DYN_CTLN1', offset: 0x3800, count: 16, reset: 0, writable: DYN_CTL, mapped: true },
  /** Read to clear. */
  { name: 'VFINT_ICR01', offset: 0x4800, count: 1, reset: 0, writable: 0 },
  { name: 'VFINT_ITR01', offset: 0x4c00, count: 3, reset: 0, writable: 0xfff },
  { name: 'VFINT_ICR0_ENA1', offset: 0x5000, count: 1, reset: 0, writable: ALL },
  { name: 'VFINT_STAT_CTL01', offset: 0x5400, count: 1, reset: 0, writable: ALL },
  { name: 'VFINT_DYN_CTL01', offset: 0x5c00, count: 1, reset: 0, writable: DYN_CTL },
  { name: 'VF_ARQBAH1', offset: 0x6000, count: 1, reset: 0, writable: ALL },
  { name: 'VF_ATQH1', offset: 0x6400, count: 1, reset: 0, writable: 0x3ff },
  { name: 'VF_ATQLEN1', offset: 0x6800, count: 1, reset: 0, writable: LEN },
  { name: 'VF_ARQBAL1', offset: 0x6c00, count: 1, reset: 0, writable: ALL },
  { name: 'VF_ARQT1', offset: 0x7000, count: 1, reset: 0, writable: ALL },
  { name: 'VF_ARQH1', offset: 0x7400, count: 1, reset: 0, writable: 0x3ff },
  { name: 'VF_ATQBAH1', offset: 0x7800, count: 1, reset: 0, writable: ALL },
  { name: 'VF_ATQBAL1', offset: 0x7c00, count: 1, reset: 0, writable: ALL },
  { name: 'VF_ARQLEN1', offset: 0x8000, count: 1, reset: 0, writable: LEN },
  { name: 'VF_ATQT1', offset: 0x8400, count: 1, reset: 0, writable: ALL },
  /** Read only: FreeBSD writes 0 before it sends RESET_VF, and only waits for 1 or 2 afterwards. */
  { name: 'VFGEN_RSTAT', offset: 0x8800, count: 1, reset: 2, writable: 0 },
  /** Only stored: RSS by register is never offered. */
  { name: 'VFQF_HENA', offset: 0xc400, count: 2, reset: 0, writable: ALL },
  { name: 'VFQF_HKEY', offset: 0xcc00, count: 13, reset: 0, writable: ALL },
  { name: 'VFQF_HLUT', offset: 0xd000, count: 16, reset: 0, writable: ALL },
];

/* VF_ATQLEN1, VF_ARQLEN1 */
export const LEN_LENGTH = 0x3ff;
export const LEN_OVERFLOW = 0x2000_0000;
export const LEN_CRITICAL = 0x4000_0000;
export const LEN_ENABLE = 0x8000_0000;

/* VFINT_ICR01, VFINT_ICR0_ENA1 */
export const ICR0_ADMINQ = 0x4000_0000;

/* VFINT_DYN_CTL01, VFINT_DYN_CTLN1 */
export const DYN_INTENA = 0x0000_0001;
export const DYN_SWINT_TRIG = 0x0000_0004;
export const DYN_ITR_INDX_SHIFT = 3;
export const DYN_ITR_NONE = 3;
export const DYN_INTERVAL_SHIFT = 5;
export const DYN_INTERVAL = 0xfff;
export const DYN_INTENA_MSK = 0x8000_0000;
/** SW_ITR_INDX_ENA, SW_ITR_INDX, WB_ON_ITR: kept for the driver, without effect. */
export const DYN_STATE = 0x4700_0000;

/* VFGEN_RSTAT */
export const RSTAT_IN_PROGRESS = 0;
export const RSTAT_ACTIVE = 2;
