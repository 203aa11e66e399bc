/** CONFIG_PROMISCUOUS_MODE (14). */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

/** FLAG_VF_UNICAST_PROMISC: unicast frames to any address are delivered. */
export const PROMISC_UNICAST = 1;
/** FLAG_VF_MULTICAST_PROMISC: multicast frames to any address are delivered. */
export const PROMISC_MULTICAST = 2;

/** Body of CONFIG_PROMISCUOUS_MODE (struct virtchnl_promisc_info). */
export interface PromiscuousMode {
  readonly vsiId: number;
  /** Mask of PROMISC_*; 0 turns both off. */
  readonly flags: number;
}

/** Driver: 4 bytes. */
export function encodePromiscuousMode(mode: PromiscuousMode): Uint8Array {
  const out = new MessageWriter(Opcode.CONFIG_PROMISCUOUS_MODE, 4);
  out.u16(0, mode.vsiId);
  out.u16(2, mode.flags);
  return out.bytes;
}

/** Throws VirtchnlError (-5) unless the payload has 4 bytes. Unknown flags pass. */
export function decodePromiscuousMode(payload: Uint8Array): PromiscuousMode {
  exactLength(Opcode.CONFIG_PROMISCUOUS_MODE, payload, 4);
  const view = viewOf(payload);
  return { vsiId: view.getUint16(0, true), flags: view.getUint16(2, true) };
}
