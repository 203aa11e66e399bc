/** What a device is, asked of itself: the ids in its configuration space. */
import { BusDevice, BusError, type PciAddress, type PciIds } from '@emudev/bus-pci';
import type { Devices } from './sources.ts';

export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** `8086:1889`. */
export const formatIds = ({ vendor, device }: PciIds): string => `${hex(vendor, 4)}:${hex(device, 4)}`;

/** The device's ids, or why it could not be asked. */
export interface Identity {
  readonly ids?: PciIds;
  readonly unusable?: { readonly reason: string; readonly detail: string };
}

/** Opens the device for a moment. */
export async function identify(bus: Devices, address: PciAddress): Promise<Identity> {
  try {
    await using device = await BusDevice.from(await bus.open(address));
    return { ids: device.ids };
  } catch (error) {
    return { unusable: obstacleOf(error) };
  }
}

/** Why a device cannot be opened, or does not answer. Throws what says nothing of the device. */
export function obstacleOf(error: unknown): { readonly reason: string; readonly detail: string } {
  if (!(error instanceof BusError)) throw error;
  return { reason: error.code === 'ERR_BUS_BUSY' ? 'in-use' : 'cannot-be-opened', detail: error.message };
}
