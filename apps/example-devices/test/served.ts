/** An example device behind a socket, and a client at the other end. */
import { Window } from '@emudev/dma';
import { linux } from '@emudev/linux';
import type { PciDevice } from '@emudev/pci';
import { VfioUserClient, type ConnectOptions } from '@emudev/vfio-user-client';
import { VfioUserServer } from '@emudev/vfio-user-server';

/** One for the whole test file. */
const window: Window = Window.open();

export interface Served extends AsyncDisposable {
  readonly client: VfioUserClient;
  readonly server: VfioUserServer;
}

/** The device is disposed of at the end unless told otherwise. */
export async function serve(device: PciDevice & Partial<Disposable>, options: ConnectOptions = {}, owned = true): Promise<Served> {
  const server = new VfioUserServer(device, { window });
  const [ours, theirs] = linux.unixSocketPair();
  server.adoptConnection(ours);
  const client = await VfioUserClient.connect({ fd: theirs }, options);
  return {
    client, server,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server.close();
      if (owned) device[Symbol.dispose]?.();
    },
  };
}

export function memfd(lengthBytes: number): number {
  const fd = linux.memfdCreate('guest', { allowSealing: true });
  linux.ftruncate(fd, lengthBytes);
  return fd;
}
