/** ADD_ETH_ADDR (10) and DEL_ETH_ADDR (11). */
import { Opcode } from './opcodes.ts';
import { headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;

/** VIRTCHNL_ETHER_ADDR_*: LEGACY says nothing, PRIMARY is the card's own address, EXTRA any other. */
export const EtherAddrType = { LEGACY: 0, PRIMARY: 1, EXTRA: 2 } as const;

/** A MAC address of the filter (struct virtchnl_ether_addr). */
export interface EtherAddr {
  /** Six bytes. */
  readonly address: Uint8Array;
  readonly type: number;
}
/** Body of ADD_ETH_ADDR and DEL_ETH_ADDR (struct virtchnl_ether_addr_list). */
export interface EtherAddrList {
  readonly vsiId: number;
  readonly addresses: readonly EtherAddr[];
}

/** Driver: 12 + 8 n bytes, the length every driver sends. Longer lists go into several messages (see MAX_ETH_ADDRS). */
export function encodeEtherAddrList(list: EtherAddrList): Uint8Array {
  const out = new MessageWriter(Opcode.ADD_ETH_ADDR, HEADER_BYTES + ENTRY_BYTES * (list.addresses.length + 1));
  out.u16(0, list.vsiId);
  out.u16(2, list.addresses.length);
  list.addresses.forEach(({ address, type }, i) => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    out.raw(at, address, 6);
    out.u8(at + 6, type);
  });
  return out.bytes;
}

/** As many as fit one message. */
export const MAX_ETH_ADDRS = 510;

/** `opcode` (10 or 11) names the message in errors. Throws VirtchnlError (-5) on a wrong length or an empty list. */
export function decodeEtherAddrList(payload: Uint8Array, opcode: number): EtherAddrList {
  headerPresent(opcode, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(2, true);
  someElements(opcode, count);
  listLength(opcode, payload, HEADER_BYTES + ENTRY_BYTES * count, HEADER_BYTES + ENTRY_BYTES * (count + 1));
  const addresses = Array.from({ length: count }, (_, i): EtherAddr => {
    const at = HEADER_BYTES + ENTRY_BYTES * i;
    // Only the low two bits are the type; senders leave the rest of the byte undefined.
    return { address: payload.slice(at, at + 6), type: view.getUint8(at + 6) & 3 };
  });
  return { vsiId: view.getUint16(0, true), addresses };
}
