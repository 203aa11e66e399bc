/** CONFIG_VSI_QUEUES (6) and the queue selection of ENABLE_QUEUES (8), DISABLE_QUEUES (9) and GET_STATS (15). */
import { Opcode } from './opcodes.ts';
import { exactLength, headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

const HEADER_BYTES = 8;
const PAIR_BYTES = 64;
const RX_AT = 24;

/** What the driver sends from (struct virtchnl_txq_info); `ringAddress` is an IOVA. The part that is optional is 0 by default. */
export interface TxQueueInfo {
  readonly vsiId: number;
  readonly queueId: number;
  /** Descriptors of 16 bytes; 0 = this half is not configured. */
  readonly ringLength: number;
  readonly ringAddress: bigint;
  /** Deprecated; not zero is refused. */
  readonly headWriteback?: number;
  readonly headWritebackAddress?: bigint;
}

/** What the driver receives into (struct virtchnl_rxq_info); `ringAddress` is an IOVA. The part that is optional is 0 by default. */
export interface RxQueueInfo {
  readonly vsiId: number;
  readonly queueId: number;
  /** Descriptors of 32 bytes; 0 = this half is not configured. */
  readonly ringLength: number;
  readonly ringAddress: bigint;
  readonly bufferBytes: number;
  /** Largest frame with FCS. */
  readonly maxPacketBytes: number;
  readonly headerBytes?: number;
  readonly splitHeader?: number;
  readonly crcDisable?: number;
  /** Descriptor format; 0 and 1 are the legacy one. */
  readonly rxdid?: number;
  readonly flags?: number;
  readonly splitPosition?: number;
}

/** A pair of CONFIG_VSI_QUEUES (struct virtchnl_queue_pair_info). */
export interface QueuePairConfig {
  readonly tx: TxQueueInfo;
  readonly rx: RxQueueInfo;
}

/** Body of CONFIG_VSI_QUEUES (struct virtchnl_vsi_queue_config_info). */
export interface VsiQueueConfig {
  readonly vsiId: number;
  readonly pairs: readonly QueuePairConfig[];
}

/** A pair as received: every field is there. */
export interface DecodedQueuePairConfig {
  readonly tx: Required<TxQueueInfo>;
  readonly rx: Required<RxQueueInfo>;
}

/** Driver: 72 + 64 n bytes, the length every driver sends. */
export function encodeConfigVsiQueues(config: VsiQueueConfig): Uint8Array {
  const out = new MessageWriter(Opcode.CONFIG_VSI_QUEUES, HEADER_BYTES + PAIR_BYTES * (config.pairs.length + 1));
  out.u16(0, config.vsiId);
  out.u16(2, config.pairs.length);
  config.pairs.forEach(({ tx, rx }, i) => {
    const t = HEADER_BYTES + PAIR_BYTES * i;
    out.u16(t, tx.vsiId);
    out.u16(t + 2, tx.queueId);
    out.u16(t + 4, tx.ringLength);
    out.u16(t + 6, tx.headWriteback ?? 0);
    out.u64(t + 8, tx.ringAddress);
    out.u64(t + 16, tx.headWritebackAddress ?? 0n);
    const r = t + RX_AT;
    out.u16(r, rx.vsiId);
    out.u16(r + 2, rx.queueId);
    out.u32(r + 4, rx.ringLength);
    out.u16(r + 8, rx.headerBytes ?? 0);
    out.u16(r + 10, rx.splitHeader ?? 0);
    out.u32(r + 12, rx.bufferBytes);
    out.u32(r + 16, rx.maxPacketBytes);
    out.u8(r + 20, rx.crcDisable ?? 0);
    out.u8(r + 21, rx.rxdid ?? 0);
    out.u8(r + 22, rx.flags ?? 0);
    out.u64(r + 24, rx.ringAddress);
    out.i32(r + 32, rx.splitPosition ?? 0);
  });
  return out.bytes;
}

/** Format only: values are for the device to judge. Throws VirtchnlError (-5) on a wrong length or no pair at all. */
export function decodeConfigVsiQueues(payload: Uint8Array): { readonly vsiId: number; readonly pairs: readonly DecodedQueuePairConfig[] } {
  const opcode = Opcode.CONFIG_VSI_QUEUES;
  headerPresent(opcode, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(2, true);
  someElements(opcode, count);
  listLength(opcode, payload, HEADER_BYTES + PAIR_BYTES * count, HEADER_BYTES + PAIR_BYTES * (count + 1));
  const pairs = Array.from({ length: count }, (_, i): DecodedQueuePairConfig => {
    const t = HEADER_BYTES + PAIR_BYTES * i;
    const r = t + RX_AT;
    return {
      tx: {
        vsiId: view.getUint16(t, true),
        queueId: view.getUint16(t + 2, true),
        ringLength: view.getUint16(t + 4, true),
        headWriteback: view.getUint16(t + 6, true),
        ringAddress: view.getBigUint64(t + 8, true),
        headWritebackAddress: view.getBigUint64(t + 16, true),
      },
      rx: {
        vsiId: view.getUint16(r, true),
        queueId: view.getUint16(r + 2, true),
        ringLength: view.getUint32(r + 4, true),
        headerBytes: view.getUint16(r + 8, true),
        splitHeader: view.getUint16(r + 10, true),
        bufferBytes: view.getUint32(r + 12, true),
        maxPacketBytes: view.getUint32(r + 16, true),
        crcDisable: view.getUint8(r + 20),
        rxdid: view.getUint8(r + 21),
        flags: view.getUint8(r + 22),
        ringAddress: view.getBigUint64(r + 24, true),
        splitPosition: view.getInt32(r + 32, true),
      },
    };
  });
  return { vsiId: view.getUint16(0, true), pairs };
}

/** Bit q = queue q of that direction (the driver's directions). */
export interface QueueSelect {
  readonly vsiId: number;
  readonly rxQueues: number;
  readonly txQueues: number;
}

const SELECT_BYTES = 12;

/** Driver: ENABLE_QUEUES, DISABLE_QUEUES, GET_STATS (where only the VSI counts). */
export function encodeQueueSelect(select: QueueSelect): Uint8Array {
  const out = new MessageWriter(Opcode.ENABLE_QUEUES, SELECT_BYTES);
  out.u16(0, select.vsiId);
  out.u32(4, select.rxQueues >>> 0);
  out.u32(8, select.txQueues >>> 0);
  return out.bytes;
}

/** `opcode` (8, 9 or 15) names the message in errors. */
export function decodeQueueSelect(payload: Uint8Array, opcode: number): QueueSelect {
  exactLength(opcode, payload, SELECT_BYTES);
  const view = viewOf(payload);
  return { vsiId: view.getUint16(0, true), rxQueues: view.getUint32(4, true), txQueues: view.getUint32(8, true) };
}
