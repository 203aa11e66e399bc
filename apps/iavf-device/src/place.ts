/** Where an emulated device is served: `path=` and `fd=` of its vdev text are the launcher's keys, not the driver's. */
import { resolve } from 'node:path';
import { takeArgs, type KeyValue } from '@emudev/emudev';
import type { VfioUserServer } from '@emudev/vfio-user-server';
import { UsageError } from './arguments.ts';

export type Place = { readonly path: string; readonly fd?: undefined } | { readonly path?: undefined; readonly fd: number };

/** Splits the place off the arguments. Throws UsageError unless there is exactly one: a misspelt "path" is missed here. */
export function takePlace(name: string, pairs: readonly KeyValue[]): { readonly place: Place; readonly rest: readonly KeyValue[] } {
  const { taken, rest } = takeArgs(pairs, ['path', 'fd']);
  const [first, ...more] = taken;
  const value = first?.[1];
  if (first === undefined || more.length > 0 || value === undefined || value === '') throw new UsageError(`${name} needs one place to be served at: path=SOCKET or fd=NUMBER`);
  if (first[0] === 'path') return { place: { path: value }, rest };
  if (!/^\d+$/.test(value)) throw new UsageError(`${name}: fd=${value} is not a descriptor number`);
  return { place: { fd: Number(value) }, rest };
}

export function samePlace(a: Place, b: Place): boolean {
  return a.path === undefined || b.path === undefined ? a.fd !== undefined && a.fd === b.fd : resolve(a.path) === resolve(b.path);
}

export function placeText({ path, fd }: Place): string {
  return path ?? `descriptor ${String(fd)}`;
}

/** Throws UsageError for a descriptor that cannot be served on, and what `listen` throws. */
export async function serveAt(server: VfioUserServer, place: Place): Promise<void> {
  if (place.path !== undefined) {
    await server.listen(place.path);
    return;
  }
  try {
    server.adopt(place.fd);
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'EBADF') throw new UsageError(`descriptor ${place.fd} is not open: it must be inherited from whoever starts this process`);
    if (code === 'ERR_SERVER_SOCKET') throw new UsageError((error as Error).message);
    throw error;
  }
}
