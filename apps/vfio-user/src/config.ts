/** The configuration space of a device, as far as its server lets us read it. */
import { CONFIG_EXTENDED_BYTES, REGION_CONFIG } from '@emudev/pci';
import { ClientError } from '@emudev/vfio-user-client';
import type { VfioUserClient } from '@emudev/vfio-user-client';
import { CommandError, EXIT_DEVICE } from './exit.ts';

/** At most 4096 bytes, whatever the server says of the region's size. */
export async function readConfig(client: VfioUserClient): Promise<Uint8Array> {
  const present = client.info.numRegions > REGION_CONFIG ? (await client.regionInfo(REGION_CONFIG)).sizeBytes : 0;
  if (present === 0) throw new CommandError(EXIT_DEVICE, 'the device has no configuration space');
  const length = Math.min(present, CONFIG_EXTENDED_BYTES);
  try {
    return await client.read(REGION_CONFIG, 0, length);
  } catch (error) {
    if (!(error instanceof ClientError) || (error.code !== 'ERR_VFU_CLIENT_REFUSED' && error.code !== 'ERR_VFU_CLIENT_SHORT')) throw error;
    // Some servers answer registers only.
    return readRegisters(client, length);
  }
}

const REGISTER_BYTES = 4;

async function readRegisters(client: VfioUserClient, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += REGISTER_BYTES) bytes.set(await client.read(REGION_CONFIG, at, Math.min(REGISTER_BYTES, length - at)), at);
  return bytes;
}
