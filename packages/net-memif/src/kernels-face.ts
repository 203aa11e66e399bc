/** What src/kernels exports: window offsets and counts in, a count out. The queue's block says what else there is (layout.ts, `QUEUE_OUTCOME`). */
export interface Kernels {
  rxBurst(cells: number, queue: number, records: number, max: number, arena: number, arenaBytes: number): number;
  txBurst(cells: number, queue: number, records: number, count: number): number;
}
