/** Which frames the guest gets at all: destination address, then VLAN (the order of the hardware). */
import {
  DEV_MAC_TABLE, DEV_VLAN_BITMAP, DEVF_MULTICAST_PROMISC, DEVF_UNICAST_PROMISC, DEVF_VLAN_PRUNING, MAC_SLOTS,
} from './layout';

export const MAC_MASK: u64 = 0xffff_ffff_ffff;
/** UMBCAST of the Rx descriptor. */
export const UNICAST: u32 = 0;
export const MULTICAST: u32 = 1;
export const BROADCAST: u32 = 2;

/** `address`: the six bytes as a little-endian number, so the group bit is bit 0. */
@inline
export function castOf(address: u64): u32 {
  if ((address & 1) == 0) return UNICAST;
  return address == MAC_MASK ? BROADCAST : MULTICAST;
}

@inline
export function isAddressed(device: u32, flags: u32, address: u64, cast: u32): bool {
  if (cast == BROADCAST || (flags & DEVF_UNICAST_PROMISC) != 0) return true;
  if (cast == MULTICAST && (flags & DEVF_MULTICAST_PROMISC) != 0) return true;
  return isListed(load<u32>(device, DEV_MAC_TABLE), address);
}

@inline
function isListed(table: u32, address: u64): bool {
  const key: u64 = address | (<u64>1 << 63);
  let slot = (((<u32>key ^ <u32>(key >> 32)) * 0x9e3779b1) >> 20) & (MAC_SLOTS - 1);
  for (let probes: u32 = 0; probes < MAC_SLOTS; ++probes) {
    const found = load<u64>(table + (slot << 3));
    if (found == key) return true;
    if (found == 0) return false;
    slot = (slot + 1) & (MAC_SLOTS - 1);
  }
  return false;
}

/** VID 0 is a priority tag, not a VLAN; unicast promiscuous mode switches pruning off. */
@inline
export function isPruned(device: u32, flags: u32, vid: u32): bool {
  if (vid == 0 || (flags & (DEVF_VLAN_PRUNING | DEVF_UNICAST_PROMISC)) != DEVF_VLAN_PRUNING) return false;
  return ((load<u8>(load<u32>(device, DEV_VLAN_BITMAP) + (vid >> 3)) >> (vid & 7)) & 1) == 0;
}
