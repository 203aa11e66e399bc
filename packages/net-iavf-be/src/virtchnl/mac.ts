/** ADD_ETH_ADDR and DEL_ETH_ADDR. */
import { Capability, decodeEtherAddrList, EtherAddrType, Opcode, requireValue, type EtherAddr, type EtherAddrList } from '@emudev/virtchnl';
import type { Adapter } from '../adapter.ts';
import { macNumber } from '../filters.ts';
import { MAX_MAC_FILTERS } from '../limits.ts';
import { DONE, operation, type Operation, type Outcome } from './operation.ts';

const BROADCAST = 0xffff_ffff_ffffn;
const isMulticast = (address: Uint8Array): boolean => (address[0]! & 1) !== 0;

/** Zero and broadcast are skipped, as ice does: broadcast is always received, and zero is nobody. */
const isFilter = ({ address }: EtherAddr): boolean => {
  const n = macNumber(address);
  return n !== 0n && n !== BROADCAST;
};

async function add(adapter: Adapter, list: EtherAddrList, opcode: number): Promise<Outcome> {
  adapter.requireVsi(opcode, list.vsiId);
  const addresses = list.addresses.filter(isFilter);
  const wanted = new Set([...adapter.macs.addresses, ...addresses.map(({ address }) => macNumber(address))]);
  requireValue(wanted.size <= MAX_MAC_FILTERS, opcode, `at most ${MAX_MAC_FILTERS} addresses`, wanted.size);
  for (const { address, type } of addresses) {
    if (isMulticast(address)) continue;
    // Reported by the next GET_VF_RESOURCES, so that it survives a reset. Older drivers do not say which one is primary.
    const takesPlace = type === EtherAddrType.PRIMARY || (type === EtherAddrType.LEGACY && macNumber(adapter.mac) === 0n);
    if (takesPlace) adapter.setGuestMac(address);
  }
  adapter.macs.set(wanted);
  await adapter.synchronize();
  return DONE;
}

async function remove(adapter: Adapter, list: EtherAddrList, opcode: number): Promise<Outcome> {
  adapter.requireVsi(opcode, list.vsiId);
  const left = new Set(adapter.macs.addresses);
  // Linux deletes its primary address after it has added another, and all of them when it closes.
  for (const { address } of list.addresses) left.delete(macNumber(address));
  adapter.macs.set(left);
  await adapter.synchronize();
  return DONE;
}

export const macOperations: readonly Operation[] = [
  operation(Opcode.ADD_ETH_ADDR, Capability.L2, decodeEtherAddrList, add),
  operation(Opcode.DEL_ETH_ADDR, Capability.L2, decodeEtherAddrList, remove),
];
