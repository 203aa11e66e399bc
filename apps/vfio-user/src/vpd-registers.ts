/** Vital product data, read through the VPD capability (PCI Local Bus 3.0, appendix I.3). */
import { REGION_CONFIG } from '@emudev/pci';
import type { VfioUserClient } from '@emudev/vfio-user-client';
import { readConfig } from './config.ts';
import { MAX_VPD_POLLS } from './limits.ts';
import { ConfigBytes } from './lspci/config-bytes.ts';
import { locate, parseRegister } from './registers.ts';

/** The address has 15 bits; its top bit turns to 1 when the four bytes are there. */
const VPD_BYTES = 32_768;
const ADDRESS = 2;
const DATA = 4;
const FLAG = 0x80;
const TAG_END = 0x0f;

/** As far as the device answers, at most 32 KiB; undefined where it has no such capability. */
export async function readVpd(client: VfioUserClient): Promise<Uint8Array | undefined> {
  const capability = locate(parseRegister('CAP_VPD')!, new ConfigBytes(await readConfig(client)));
  if (capability === undefined) return undefined;
  const vpd = new Uint8Array(VPD_BYTES);
  let length = 0;
  while (length < VPD_BYTES) {
    const word = await readWord(client, capability.offset, length);
    if (word === undefined) break;
    vpd.set(word, length);
    length += 4;
    if (complete(vpd.subarray(0, length))) break;
  }
  return vpd.subarray(0, length);
}

async function readWord(client: VfioUserClient, capability: number, address: number): Promise<Uint8Array | undefined> {
  await client.write(REGION_CONFIG, capability + ADDRESS, Uint8Array.of(address & 0xff, address >> 8));
  for (let poll = 0; poll < MAX_VPD_POLLS; poll++) {
    const [, upper] = await client.read(REGION_CONFIG, capability + ADDRESS, 2);
    if ((upper! & FLAG) !== 0) return client.read(REGION_CONFIG, capability + DATA, 4);
  }
  return undefined;
}

/** The end tag has been read: what follows is nobody's. */
function complete(vpd: Uint8Array): boolean {
  for (let at = 0; at < vpd.length;) {
    const tag = vpd[at]!;
    if (tag >> 3 === TAG_END) return true;
    if ((tag & 0x80) === 0) at += 1 + (tag & 7);
    else if (at + 3 > vpd.length) return false;
    else at += 3 + (vpd[at + 1]! | (vpd[at + 2]! << 8));
  }
  return false;
}
