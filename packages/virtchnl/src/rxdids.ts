/** GET_SUPPORTED_RXDIDS (44): formats of Rx descriptors, which CONFIG_VSI_QUEUES names in `rxdid`. */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

/** Formats that are not flexible (enum virtchnl_rx_desc_ids). They mean something only where RX_FLEX_DESC was granted; without it all rings are LEGACY_32_BYTES. */
export const RxDescriptorId = {
  /** The first half of the other one: no second VLAN tag, no flow director. */
  LEGACY_16_BYTES: 0,
  LEGACY_32_BYTES: 1,
} as const;

/** The reply to GET_SUPPORTED_RXDIDS (struct virtchnl_supported_rxdids): a mask of 64 bits. */
export function encodeSupportedRxdids(ids: Iterable<number>): Uint8Array {
  const out = new MessageWriter(Opcode.GET_SUPPORTED_RXDIDS, 8);
  let mask = 0n;
  for (const id of ids) mask |= 1n << BigInt(id);
  out.u64(0, mask);
  return out.bytes;
}

/** Which of the 64 there are. Throws VirtchnlError (-5) on a wrong length. */
export function decodeSupportedRxdids(payload: Uint8Array): ReadonlySet<number> {
  exactLength(Opcode.GET_SUPPORTED_RXDIDS, payload, 8);
  const mask = viewOf(payload).getBigUint64(0, true);
  return new Set(Array.from({ length: 64 }, (_, id) => id).filter((id) => (mask >> BigInt(id) & 1n) === 1n));
}
