/** CONFIG_IRQ_MAP (7). The array begins at offset 2, so nothing in it is naturally aligned. */
import { Opcode } from './opcodes.ts';
import { headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

const HEADER_BYTES = 2;
const ENTRY_BYTES = 12;

/** ITR index of a vector map: 0..2, or none. */
export const ITR_NONE = 3;

/** Which queues raise a vector (struct virtchnl_vector_map): bit q of `rxQueues` and `txQueues` is queue q, `rxItr` and `txItr` are the indexes of their interrupt throttles. */
export interface VectorMap {
  readonly vsiId: number;
  /** 0 is the miscellaneous vector; queues may be mapped to it as well. */
  readonly vectorId: number;
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly rxItr: number;
  readonly txItr: number;
}

/** Driver: 14 + 12 n bytes, the length every driver sends. */
export function encodeConfigIrqMap(vectors: readonly VectorMap[]): Uint8Array {
  const out = new MessageWriter(Opcode.CONFIG_IRQ_MAP, HEADER_BYTES + ENTRY_BYTES * (vectors.length + 1));
  out.u16(0, vectors.length);
  vectors.forEach((map, i) => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    out.u16(at, map.vsiId);
    out.u16(at + 2, map.vectorId);
    out.u16(at + 4, map.rxQueues);
    out.u16(at + 6, map.txQueues);
    out.u16(at + 8, map.rxItr);
    out.u16(at + 10, map.txItr);
  });
  return out.bytes;
}

/** Throws VirtchnlError (-5) on a wrong length or no vector at all. */
export function decodeConfigIrqMap(payload: Uint8Array): readonly VectorMap[] {
  const opcode = Opcode.CONFIG_IRQ_MAP;
  headerPresent(opcode, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(0, true);
  someElements(opcode, count);
  listLength(opcode, payload, HEADER_BYTES + ENTRY_BYTES * count, HEADER_BYTES + ENTRY_BYTES * (count + 1));
  return Array.from({ length: count }, (_, i): VectorMap => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    return {
      vsiId: view.getUint16(at, true),
      vectorId: view.getUint16(at + 2, true),
      rxQueues: view.getUint16(at + 4, true),
      txQueues: view.getUint16(at + 6, true),
      rxItr: view.getUint16(at + 8, true),
      txItr: view.getUint16(at + 10, true),
    };
  });
}
