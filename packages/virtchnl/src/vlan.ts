/** ADD_VLAN (12) and DEL_VLAN (13). ENABLE/DISABLE_VLAN_STRIPPING (27, 28) have no body. */
import { Opcode } from './opcodes.ts';
import { headerPresent, listLength, MessageWriter, someElements, viewOf } from './wire.ts';

const HEADER_BYTES = 4;

/** Body of ADD_VLAN and DEL_VLAN (struct virtchnl_vlan_filter_list). */
export interface VlanFilterList {
  readonly vsiId: number;
  readonly vlanIds: readonly number[];
}

/** Driver: 6 + 2 n bytes, the length every driver sends. */
export function encodeVlanFilterList(list: VlanFilterList): Uint8Array {
  const out = new MessageWriter(Opcode.ADD_VLAN, HEADER_BYTES + 2 * (list.vlanIds.length + 1));
  out.u16(0, list.vsiId);
  out.u16(2, list.vlanIds.length);
  list.vlanIds.forEach((vlanId, i) => {
    out.u16(HEADER_BYTES + 2 * i, vlanId);
  });
  return out.bytes;
}

/** `opcode` (12 or 13) names the message in errors. Throws VirtchnlError (-5) on a wrong length or an empty list. */
export function decodeVlanFilterList(payload: Uint8Array, opcode: number): VlanFilterList {
  headerPresent(opcode, payload, HEADER_BYTES);
  const view = viewOf(payload);
  const count = view.getUint16(2, true);
  someElements(opcode, count);
  listLength(opcode, payload, HEADER_BYTES + 2 * count, HEADER_BYTES + 2 * (count + 1));
  return { vsiId: view.getUint16(0, true), vlanIds: Array.from({ length: count }, (_, i) => view.getUint16(HEADER_BYTES + 2 * i, true)) };
}
