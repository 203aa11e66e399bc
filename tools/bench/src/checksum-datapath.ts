/** A port's data path that asks for the checksums of whatever it sends, as a stack does: pseudo-header sum in the field, lengths in the record. */
import {
  FRAME_DATA, FRAME_L4_TCP, FRAME_LENGTH, FRAME_RECORD_BYTES, FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, type Burst, type CreateDatapath, type LcoreContext,
  type PortDatapath,
} from '@emudev/ethdev';
import { L2_BYTES, L3_BYTES, L4_BYTES, pseudoHeaderSum, TCP_CHECKSUM_OFFSET } from './tcp-frame.ts';

export interface Inner {
  readonly module: string;
  readonly init: unknown;
}

const FLAGS = FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_L4_TCP;
const L2_AND_L3 = L2_BYTES | (L3_BYTES << 16);

export async function createDatapath(context: LcoreContext, { module, init }: Inner): Promise<PortDatapath> {
  const inner = await ((await import(module)) as { createDatapath: CreateDatapath }).createDatapath(context, init as never);
  const { u8, u32, view } = context;
  /** Of frames of this length: addresses are always the same. */
  let sumLength = 0;
  let high = 0;
  let low = 0;
  return {
    rxBurst: (queue: number, burst: Burst, max: number): number => inner.rxBurst(queue, burst, max),
    txBurst(queue: number, burst: Burst, count: number): number {
      for (let n = 0; n < count; n++) {
        const record = (burst.records + n * FRAME_RECORD_BYTES) >>> 2;
        const data = u32[record + FRAME_DATA / 4]!;
        const length = u32[record + FRAME_LENGTH / 4]!;
        if (length !== sumLength) {
          const sum = pseudoHeaderSum(new DataView(view.buffer, data, length), length);
          sumLength = length;
          high = sum >>> 8;
          low = sum & 0xff;
        }
        u8[data + TCP_CHECKSUM_OFFSET] = high;
        u8[data + TCP_CHECKSUM_OFFSET + 1] = low;
        u32[record + 2] = FLAGS;
        u32[record + 4] = L2_AND_L3;
        u32[record + 5] = L4_BYTES;
      }
      return inner.txBurst(queue, burst, count);
    },
  };
}
