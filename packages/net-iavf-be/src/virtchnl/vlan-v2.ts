/** The VLAN_V2 operations, in the simple offer: one tag, 0x8100, called the inner one, in L2TAG1. */
import {
  Capability, decodeVlanFilterListV2, decodeVlanSetting, encodeVlanCaps, Opcode, requireValue, VlanSupport, type VlanCaps, type VlanFilterListV2, type VlanSetting,
} from '@emudev/virtchnl';
import type { Adapter } from '../adapter.ts';
import { MAX_VLAN_FILTERS } from '../limits.ts';
import { DONE, noBody, operation, type Operation, type Outcome } from './operation.ts';
import { addVlans, deleteVlans } from './vlan.ts';

const TPID = 0x8100;
const TOGGLED = (VlanSupport.ETHERTYPE_8100 | VlanSupport.TAG_LOCATION_L2TAG1 | VlanSupport.TOGGLE) >>> 0;

export const VLAN_CAPS: VlanCaps = {
  filtering: { outer: 0, inner: VlanSupport.ETHERTYPE_8100, ethertypeInit: VlanSupport.ETHERTYPE_8100, maxFilters: MAX_VLAN_FILTERS },
  stripping: { outer: 0, inner: TOGGLED },
  insertion: { outer: 0, inner: TOGGLED },
  ethertypeInit: VlanSupport.ETHERTYPE_8100,
  ethertypeMatch: 0,
};

/** The VLANs of a filter list. Throws VirtchnlError (-5) for anything the offer does not contain. */
function vlanIds(adapter: Adapter, opcode: number, { vportId, filters }: VlanFilterListV2): number[] {
  adapter.requireVsi(opcode, vportId);
  return filters.map(({ inner, outer }) => {
    requireValue((outer.tci | outer.tciMask | outer.tpid) === 0, opcode, 'no outer tag', `0x${outer.tpid.toString(16)} ${outer.tci}`);
    requireValue(inner.tpid === TPID, opcode, 'TPID 0x8100', `0x${inner.tpid.toString(16)}`);
    requireValue(inner.tciMask === 0, opcode, 'no TCI mask', `0x${inner.tciMask.toString(16)}`);
    return inner.tci;
  });
}

const change = (apply: typeof addVlans) => (adapter: Adapter, list: VlanFilterListV2, opcode: number): Outcome => {
  apply(adapter, opcode, vlanIds(adapter, opcode, list));
  return DONE;
};

const setting = (apply: (adapter: Adapter) => void) => (adapter: Adapter, message: VlanSetting, opcode: number): Outcome => {
  adapter.requireVsi(opcode, message.vportId);
  requireValue(
    message.outerEthertype === 0 && message.innerEthertype === VlanSupport.ETHERTYPE_8100,
    opcode, 'inner ethertype 0x8100 and no outer one', `inner 0x${message.innerEthertype.toString(16)}, outer 0x${message.outerEthertype.toString(16)}`,
  );
  apply(adapter);
  return DONE;
};

const strip = (on: boolean) => (adapter: Adapter): void => {
  adapter.setVlanStripping(on);
};
/** Insertion has no switch: the descriptor of each frame says whether a tag goes in. */
const insert = (): void => {};

const V2 = Capability.VLAN_V2;
export const vlanV2Operations: readonly Operation[] = [
  operation(Opcode.GET_OFFLOAD_VLAN_V2_CAPS, V2, noBody, () => ({ payload: encodeVlanCaps(VLAN_CAPS) })),
  operation(Opcode.ADD_VLAN_V2, V2, decodeVlanFilterListV2, change(addVlans)),
  operation(Opcode.DEL_VLAN_V2, V2, decodeVlanFilterListV2, change(deleteVlans)),
  operation(Opcode.ENABLE_VLAN_STRIPPING_V2, V2, decodeVlanSetting, setting(strip(true))),
  operation(Opcode.DISABLE_VLAN_STRIPPING_V2, V2, decodeVlanSetting, setting(strip(false))),
  operation(Opcode.ENABLE_VLAN_INSERTION_V2, V2, decodeVlanSetting, setting(insert)),
  operation(Opcode.DISABLE_VLAN_INSERTION_V2, V2, decodeVlanSetting, setting(insert)),
];
