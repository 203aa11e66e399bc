/** Devices behind vfio-user sockets. There is no registry of them: whoever wants one names its path. */
import { stat } from 'node:fs/promises';
import { compareAddresses, formatAddress } from './address.ts';
import type { VfioUserAddress } from './address.ts';
import type { FoundDevice } from './found.ts';

/**
 * The devices at these addresses, each once, in the order of their paths. A socket counts as a device without being connected to: a server has room
 * for one client, and a look would take it.
 */
export async function scanVfioUser(addresses: readonly VfioUserAddress[], signal?: AbortSignal): Promise<readonly FoundDevice[]> {
  const found: FoundDevice[] = [];
  const unique = new Map(addresses.map((address) => [formatAddress(address), address]));
  for (const address of unique.values()) {
    signal?.throwIfAborted();
    found.push({ address, ...await lookAt(address.path) });
  }
  return found.sort((a, b) => compareAddresses(a.address, b.address));
}

async function lookAt(path: string): Promise<Omit<FoundDevice, 'address'>> {
  try {
    const status = await stat(path);
    // Another server has another file, if maybe with the same number.
    return status.isSocket() ? { instance: `${status.ino}:${status.ctimeMs}` } : { unusable: { reason: 'no-socket', detail: `${path} is not a socket` } };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR'
      ? { unusable: { reason: 'no-socket', detail: `nothing is at ${path}: is the device process running?` } }
      : { unusable: { reason: 'unreadable', detail: `${path}: ${code ?? String(error)}` } };
  }
}
