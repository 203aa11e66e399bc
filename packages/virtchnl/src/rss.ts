/** CONFIG_RSS_KEY (23), CONFIG_RSS_LUT (24), GET_RSS_HENA_CAPS (25) and SET_RSS_HENA (26). */
import { Opcode } from './opcodes.ts';
import { exactLength, headerPresent, listLength, MessageWriter, viewOf } from './wire.ts';

const HEADER_BYTES = 4;

/** Body of CONFIG_RSS_KEY (struct virtchnl_rss_key): the Toeplitz key. */
export interface RssKey {
  readonly vsiId: number;
  readonly key: Uint8Array;
}
/** Body of CONFIG_RSS_LUT (struct virtchnl_rss_lut): the table that the hash looks up. */
export interface RssLut {
  readonly vsiId: number;
  /** Entry = Rx queue. */
  readonly lut: Uint8Array;
}

function encodeByteList(opcode: number, vsiId: number, list: Uint8Array): Uint8Array {
  const out = new MessageWriter(opcode, HEADER_BYTES + list.length + 1);
  out.u16(0, vsiId);
  out.u16(2, list.length);
  out.raw(HEADER_BYTES, list, list.length);
  return out.bytes;
}

/** An empty list passes: it is the size check of the device that refuses it. */
function decodeByteList(opcode: number, payload: Uint8Array): { vsiId: number; list: Uint8Array } {
  headerPresent(opcode, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(2, true);
  listLength(opcode, payload, HEADER_BYTES + count, HEADER_BYTES + count + 1);
  return { vsiId: view.getUint16(0, true), list: payload.slice(HEADER_BYTES, HEADER_BYTES + count) };
}

/** Driver: 5 + n bytes, the length every driver sends. */
export const encodeRssKey = (message: RssKey): Uint8Array => encodeByteList(Opcode.CONFIG_RSS_KEY, message.vsiId, message.key);
/** Driver: 5 + n bytes, the length every driver sends. */
export const encodeRssLut = (message: RssLut): Uint8Array => encodeByteList(Opcode.CONFIG_RSS_LUT, message.vsiId, message.lut);

/** Throws VirtchnlError (-5) on a wrong length; an empty key passes. */
export function decodeRssKey(payload: Uint8Array): RssKey {
  const { vsiId, list } = decodeByteList(Opcode.CONFIG_RSS_KEY, payload);
  return { vsiId, key: list };
}

/** Throws VirtchnlError (-5) on a wrong length; an empty table passes. */
export function decodeRssLut(payload: Uint8Array): RssLut {
  const { vsiId, list } = decodeByteList(Opcode.CONFIG_RSS_LUT, payload);
  return { vsiId, lut: list };
}

/** Packet classifier types that are hashed, one bit each. */
export const RssType = {
  IPV4_UDP_UNICAST: 29,
  IPV4_UDP_MULTICAST: 30,
  IPV4_UDP: 31,
  IPV4_TCP_SYN: 32,
  IPV4_TCP: 33,
  IPV4_SCTP: 34,
  IPV4_OTHER: 35,
  IPV4_FRAGMENT: 36,
  IPV6_UDP_UNICAST: 39,
  IPV6_UDP_MULTICAST: 40,
  IPV6_UDP: 41,
  IPV6_TCP_SYN: 42,
  IPV6_TCP: 43,
  IPV6_SCTP: 44,
  IPV6_OTHER: 45,
  IPV6_FRAGMENT: 46,
} as const;

/** All types of RssType: what GET_RSS_HENA_CAPS answers, and what is on until a driver says otherwise. */
export const DEFAULT_HENA = 0x0000_7f9f_e000_0000n;

/** The reply to GET_RSS_HENA_CAPS and the body of SET_RSS_HENA: one 64-bit mask. */
export function encodeRssHena(hena: bigint): Uint8Array {
  const out = new MessageWriter(Opcode.SET_RSS_HENA, 8);
  out.u64(0, hena);
  return out.bytes;
}

/** `opcode` (25 or 26) names the message in errors. */
export function decodeRssHena(payload: Uint8Array, opcode: number): bigint {
  exactLength(opcode, payload, 8);
  return viewOf(payload).getBigUint64(0, true);
}
