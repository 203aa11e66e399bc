/** What src/kernels exports: window offsets and counts in, a count out (as i32: convert with >>> 0 where it could be large). */
export interface Kernels {
  rxBurst(queueBlock: number, records: number, max: number, arena: number, arenaBytes: number): number;
  txBurst(queueBlock: number, records: number, count: number): number;
}
