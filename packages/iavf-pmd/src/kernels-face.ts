/** What src/kernels exports: window offsets and counts in, a count out (as i32: convert with >>> 0 where it could be large). */
export interface Kernels {
  /** `now`: how often the lcore has polled, any of its queues. */
  rxBurst(queueBlock: number, records: number, max: number, arena: number, arenaBytes: number, now: number): number;
  /** Asks for the lines that the next rxBurst, and what it sends by the same pair, will need. 0 = it would receive nothing and post nothing. */
  prefetch(rxBlock: number, txBlock: number): number;
  /** 1 = the processor keeps the order of plain stores: see kernels/publish.ts. Once, before the first burst. */
  setStoreOrder(ordered: number): void;
  txBurst(queueBlock: number, records: number, count: number): number;
}
