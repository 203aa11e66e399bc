/** The older VLAN operations: one tag, 0x8100, in L2TAG1. */
import { Capability, decodeVlanFilterList, Opcode, requireValue, type VlanFilterList } from '@emudev/virtchnl';
import type { Adapter } from '../adapter.ts';
import { MAX_VLAN_FILTERS, MAX_VLAN_ID } from '../limits.ts';
import { DONE, noBody, operation, type Operation, type Outcome } from './operation.ts';

function checkIds(opcode: number, vlanIds: readonly number[]): void {
  for (const id of vlanIds) requireValue(id <= MAX_VLAN_ID, opcode, `a VLAN of 0..${MAX_VLAN_ID}`, id);
}

/** Adds filters of either generation. Throws VirtchnlError (-5) if there would be too many. */
export function addVlans(adapter: Adapter, opcode: number, vlanIds: readonly number[]): void {
  checkIds(opcode, vlanIds);
  const size = adapter.vlans.sizeWith(vlanIds);
  requireValue(size <= MAX_VLAN_FILTERS, opcode, `at most ${MAX_VLAN_FILTERS} VLAN filters`, size);
  adapter.vlans.add(vlanIds);
}

/** Deleting an absent filter succeeds: refusing makes some drivers reset for ever. */
export function deleteVlans(adapter: Adapter, opcode: number, vlanIds: readonly number[]): void {
  checkIds(opcode, vlanIds);
  adapter.vlans.delete(vlanIds);
}

const change = (apply: typeof addVlans) => (adapter: Adapter, list: VlanFilterList, opcode: number): Outcome => {
  adapter.requireVsi(opcode, list.vsiId);
  apply(adapter, opcode, list.vlanIds);
  return DONE;
};

const strip = (on: boolean) => (adapter: Adapter): Outcome => {
  adapter.setVlanStripping(on);
  return DONE;
};

export const vlanOperations: readonly Operation[] = [
  operation(Opcode.ADD_VLAN, Capability.VLAN, decodeVlanFilterList, change(addVlans)),
  operation(Opcode.DEL_VLAN, Capability.VLAN, decodeVlanFilterList, change(deleteVlans)),
  operation(Opcode.ENABLE_VLAN_STRIPPING, Capability.VLAN, noBody, strip(true)),
  operation(Opcode.DISABLE_VLAN_STRIPPING, Capability.VLAN, noBody, strip(false)),
];
