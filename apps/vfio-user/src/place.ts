/** REGION and OFFSET of the command line, looked up at the device. */
import { REGION_CONFIG } from '@emudev/pci';
import { ClientError, type Region, type VfioUserClient } from '@emudev/vfio-user-client';
import { readConfig } from './config.ts';
import { CommandError, EXIT_DEVICE, usage } from './exit.ts';
import { ConfigBytes } from './lspci/config-bytes.ts';
import { parseSize, tryNumber } from './numbers.ts';
import { locate, parseRegister } from './registers.ts';
import { regionIndex, regionName } from './regions.ts';

export const WIDTHS: readonly number[] = [1, 2, 4, 8];

export interface Place {
  readonly region: Region;
  readonly offset: number;
  /** Of a register that was named; undefined for a number. */
  readonly widthBytes: number | undefined;
}

/** A region that exists. */
export async function findRegion(client: VfioUserClient, text: string): Promise<Region> {
  const index = regionIndex(text);
  if (index === undefined) throw usage(`region "${text}" is neither a name (bar0 to bar5, rom, config, vga) nor a number`);
  if (index >= client.info.numRegions) throw usage(`there is no region ${text}: the device has ${client.info.numRegions}`);
  const region = await client.regionInfo(index);
  if (region.sizeBytes === 0) throw new CommandError(EXIT_DEVICE, `the device has no ${regionName(index)}`);
  return region;
}

/** An offset by number, or in the configuration space by a register's name. */
export async function findPlace(client: VfioUserClient, regionText: string, offsetText: string): Promise<Place> {
  const region = await findRegion(client, regionText);
  const name = region.index === REGION_CONFIG ? parseRegister(offsetText) : undefined;
  if (name === undefined && region.index === REGION_CONFIG && tryNumber(offsetText) === undefined) {
    throw usage(`offset "${offsetText}" is neither a number (64, 0x40) nor a register (COMMAND, BAR0, CAP_EXP+8.w, ECAP_DSN+4)`);
  }
  if (name === undefined) return { region, offset: parseSize(offsetText, 'offset'), widthBytes: undefined };
  const found = locate(name, new ConfigBytes(await readConfig(client)));
  if (found === undefined) throw new CommandError(EXIT_DEVICE, `the device has no capability ${offsetText}`);
  return { region, ...found };
}

/** An access that does not fit into the region is a mistake of the command line; the server is not asked. */
export function checkInside(region: Region, offset: number, length: number): void {
  if (offset > region.sizeBytes || length > region.sizeBytes - offset) {
    throw usage(`${length} bytes at 0x${offset.toString(16)} are not inside ${regionName(region.index)}, which has 0x${region.sizeBytes.toString(16)} bytes`);
  }
}

export function parseWidth(text: string): number {
  const width = Number(text);
  if (!WIDTHS.includes(width)) throw usage(`--width is 1, 2, 4 or 8, not "${text}"`);
  return width;
}

/** The access; where the device refuses it, with the reason that most refusals have. */
export async function orHint<T>(access: Promise<T>, region: Region): Promise<T> {
  try {
    return await access;
  } catch (error) {
    if (!(error instanceof ClientError) || error.code !== 'ERR_VFU_CLIENT_REFUSED' || region.index === REGION_CONFIG) throw error;
    throw new CommandError(EXIT_DEVICE, `${error.message}; a register may need another --width`, { cause: error });
  }
}
