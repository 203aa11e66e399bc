/** Two ports that find each other over a socket of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Port } from '@emudev/ethdev';
import { MemifPort, type MemifOptions } from '@emudev/net-memif';

/** A folder for sockets that goes with the test. */
export class Folder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'emudev-memif-'));
  readonly socket: string = join(this.path, 's');
  removeSocket(): void {
    rmSync(this.socket, { force: true });
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Resolves when the link is as wanted. */
export async function link(port: Port, up: boolean, patienceMs = 5000): Promise<void> {
  if (port.link().up === up) return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => { reject(new Error(`${port.name}: the link did not go ${up ? 'up' : 'down'} in ${patienceMs} ms`)); }, patienceMs);
    const observer = port.onLink((now) => {
      if (now.up !== up) return;
      clearTimeout(timer);
      observer[Symbol.dispose]();
      resolve();
    });
  });
}

export async function started(port: MemifPort): Promise<MemifPort> {
  const { maxRxQueues, maxTxQueues } = port.info;
  await port.configure({ rxQueues: maxRxQueues, txQueues: maxTxQueues, peerTxCapabilities: 0 });
  await port.start();
  return port;
}

/** A server and a client, connected. */
export async function connectedPair(folder: Folder, options: Partial<MemifOptions> = {}, ofServer: Partial<MemifOptions> = {}): Promise<{ server: MemifPort; client: MemifPort } & AsyncDisposable> {
  const common = { socket: folder.socket, socketAbstract: false, reconnectMs: 10, ...options };
  const server = await started(MemifPort.open('net_memif0', { ...common, ...ofServer, role: 'server' }));
  const client = await started(MemifPort.open('net_memif1', { ...common, role: 'client' }));
  await Promise.all([link(server, true), link(client, true)]);
  return {
    server,
    client,
    async [Symbol.asyncDispose](): Promise<void> {
      await client.close();
      await server.close();
    },
  };
}
