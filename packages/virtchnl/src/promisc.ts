/** CONFIG_PROMISCUOUS_MODE (14). */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

export const PROMISC_UNICAST = 1;
export const PROMISC_MULTICAST = 2;

export interface PromiscuousMode {
  readonly vsiId: number;
  /** Mask of PROMISC_*; 0 turns both off. */
  readonly flags: number;
}

export function encodePromiscuousMode(mode: PromiscuousMode): Uint8Array {
  const out = new MessageWriter(Opcode.CONFIG_PROMISCUOUS_MODE, 4);
  out.u16(0, mode.vsiId);
  out.u16(2, mode.flags);
  return out.bytes;
}

export function decodePromiscuousMode(payload: Uint8Array): PromiscuousMode {
  exactLength(Opcode.CONFIG_PROMISCUOUS_MODE, payload, 4);
  const view = viewOf(payload);
  return { vsiId: view.getUint16(0, true), flags: view.getUint16(2, true) };
}
