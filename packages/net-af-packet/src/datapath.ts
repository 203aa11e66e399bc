/** The data path of a packet-socket port: a ring for what comes, a batch of messages for what goes, per queue. */
import {
  QUEUE_COUNTERS_BYTES, RXQ_BYTES, RXQ_ERRORS, RXQ_PACKETS, TXQ_BYTES, TXQ_ERRORS, TXQ_PACKETS, addCounter, windowBytes, type Burst, type LcoreContext, type PortDatapath,
} from '@emudev/ethdev';
import type { AfPacketInit } from './datapath/init.ts';
import { RxRing } from './datapath/rx-ring.ts';
import { TxBatch } from './datapath/tx-batch.ts';

class AfPacketDatapath implements PortDatapath {
  readonly #u32: Uint32Array;
  readonly #init: AfPacketInit;
  readonly #rx: readonly RxRing[];
  readonly #tx: readonly TxBatch[];

  constructor(context: LcoreContext, init: AfPacketInit) {
    this.#u32 = context.u32;
    this.#init = init;
    const bytes = windowBytes(context);
    this.#rx = init.fds.map((_, queue) => new RxRing(context, bytes, init, queue));
    this.#tx = init.fds.map((_, queue) => new TxBatch(context, bytes, init, queue));
  }

  rxBurst(queue: number, burst: Burst, max: number): number {
    const ring = this.#rx[queue]!;
    const count = ring.receive(burst, max);
    const counters = (this.#init.rxCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    if (ring.errors !== 0) addCounter(this.#u32, counters + RXQ_ERRORS / 4, ring.errors);
    if (count !== 0) {
      addCounter(this.#u32, counters + RXQ_PACKETS / 4, count);
      addCounter(this.#u32, counters + RXQ_BYTES / 4, ring.total);
    }
    return count;
  }

  txBurst(queue: number, burst: Burst, count: number): number {
    if (count === 0) return 0;
    const batch = this.#tx[queue]!;
    const taken = batch.send(burst, count);
    const counters = (this.#init.txCounters + queue * QUEUE_COUNTERS_BYTES) >>> 2;
    addCounter(this.#u32, counters + TXQ_PACKETS / 4, batch.packets);
    addCounter(this.#u32, counters + TXQ_BYTES / 4, batch.bytes);
    if (batch.errors !== 0) addCounter(this.#u32, counters + TXQ_ERRORS / 4, batch.errors);
    return taken;
  }
}

export function createDatapath(context: LcoreContext, init: AfPacketInit): PortDatapath {
  return new AfPacketDatapath(context, init);
}
