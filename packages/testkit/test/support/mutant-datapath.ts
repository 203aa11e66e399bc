/** The scripted port's data path with one thing wrong. */
import { addCounter, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES, RXQ_BYTES, TXQ_PACKETS, type Burst, type CreateDatapath, type LcoreContext, type PortDatapath } from '@emudev/ethdev';

export type DatapathDefect = 'drops' | 'counts-twice' | 'too-many' | 'blocks' | 'wrong-queue' | 'wrong-bytes' | 'throws-on-runts' | 'not-in-workers';

interface Init {
  /** Module of the good one, and what that is given. */
  readonly good: string;
  readonly init: { readonly txCounters: number; readonly rxCounters: number; readonly maxFrameBytes: number };
  readonly defect: DatapathDefect;
}

export async function createDatapath(context: LcoreContext, { good, init, defect }: Init): Promise<PortDatapath> {
  if (defect === 'not-in-workers' && context.lcore !== 0) throw new Error('wants the main thread');
  const module = (await import(good)) as { createDatapath: CreateDatapath };
  const datapath = await module.createDatapath(context, init as never);
  const { u32, view } = context;
  const lengthOf = (burst: Burst, i: number): number => view.getUint32(burst.records + i * FRAME_RECORD_BYTES + FRAME_LENGTH, true);
  const some = (burst: Burst, count: number, test: (length: number) => boolean): boolean => Array.from({ length: count }, (_, i) => lengthOf(burst, i)).some(test);
  return {
    rxBurst(queue, burst, max) {
      const count = datapath.rxBurst(queue, burst, defect === 'too-many' && max === 3 ? 5 : max);
      if (defect === 'wrong-bytes' && count > 0) addCounter(u32, (init.rxCounters + RXQ_BYTES) >>> 2, 4);
      if (defect === 'wrong-queue') for (let i = 0; i < count; i++) view.setUint16(burst.records + i * FRAME_RECORD_BYTES + FRAME_QUEUE, 7, true);
      return count;
    },
    txBurst(queue, burst, count) {
      if (defect === 'blocks' && some(burst, count, (length) => length > init.maxFrameBytes)) return 0;
      if (defect === 'throws-on-runts' && some(burst, count, (length) => length < 14)) throw new RangeError('offset is out of bounds');
      // A full burst loses its last frame.
      if (defect === 'drops' && count === 64 && some(burst, count, (length) => length === 1000)) {
        const taken = datapath.txBurst(queue, burst, count - 1);
        return taken === count - 1 ? count : taken;
      }
      const taken = datapath.txBurst(queue, burst, count);
      if (defect === 'counts-twice' && some(burst, count, (length) => length === 65)) addCounter(u32, (init.txCounters + TXQ_PACKETS) >>> 2, 1);
      return taken;
    },
  };
}
