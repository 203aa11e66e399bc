/** Which frames the guest gets at all (iavf.md 5.4). */
import {
  DEV_FLAGS, DEV_MAC_TABLE, DEV_VLAN_BITMAP, DEVF_MULTICAST_PROMISC, DEVF_UNICAST_PROMISC, DEVF_VLAN_PRUNING, MAC_SLOTS,
} from '../layout.ts';
import type { TwinMemory } from './memory.ts';
import { isBroadcast } from './tx-burst.ts';

export function isAddressed(memory: TwinMemory, device: number, frame: number): boolean {
  const flags = memory.u32(device + DEV_FLAGS);
  if (isBroadcast(memory, frame) || flags & DEVF_UNICAST_PROMISC) return true;
  if (memory.u8(frame) & 1 && flags & DEVF_MULTICAST_PROMISC) return true;
  const table = memory.u32(device + DEV_MAC_TABLE);
  const low = memory.u32(frame);
  const high = (memory.u16(frame + 4) | 0x80000000) >>> 0; // bit 63 of the key: an entry is never 0
  let slot = (Math.imul(low ^ high, 0x9e3779b1) >>> 20) & (MAC_SLOTS - 1);
  for (let probes = 0; probes < MAC_SLOTS; probes++) {
    const entry = table + 8 * slot;
    if (memory.u32(entry) === low && memory.u32(entry + 4) === high) return true;
    if (memory.u32(entry) === 0 && memory.u32(entry + 4) === 0) return false;
    slot = (slot + 1) & (MAC_SLOTS - 1);
  }
  return false;
}

export function isPruned(memory: TwinMemory, device: number, vid: number): boolean {
  const flags = memory.u32(device + DEV_FLAGS);
  if (vid === 0 || flags & DEVF_UNICAST_PROMISC || !(flags & DEVF_VLAN_PRUNING)) return false;
  return !(memory.u8(memory.u32(device + DEV_VLAN_BITMAP) + (vid >> 3)) & (1 << (vid & 7)));
}
