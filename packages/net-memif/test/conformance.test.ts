/** What every port driver has to do, with a peer of the other role at the far end. */
import { FrameBench, portConformance, type PortUnderTest } from '@emudev/testkit';
import { describe, test } from 'vitest';
import { MemifPort, type MemifRole } from '@emudev/net-memif';
import { Folder, link, started } from './support/ports.ts';

/** The suite expects a port to carry frames as soon as it is started; this one waits for its peer. */
async function underTest(name: string, role: MemifRole, queues: number): Promise<PortUnderTest> {
  const folder = new Folder();
  const options = { socket: folder.socket, socketAbstract: false, reconnectMs: 5, queues };
  const port = MemifPort.open(name, { ...options, role });
  const peer = MemifPort.open('net_peer0', { ...options, role: role === 'server' ? 'client' : 'server' });
  await started(peer);
  const start = port.start.bind(port);
  port.start = async () => {
    await start();
    await link(port, true);
    await link(peer, true);
  };
  const bench = new FrameBench();
  const far = await bench.load(peer);
  return {
    port,
    supply(frames) {
      bench.send(far, 0, frames);
    },
    async dispose() {
      await peer.close();
      bench[Symbol.dispose]();
      folder[Symbol.dispose]();
    },
  };
}

describe.each(['server', 'client'] as const)('%s', (role) => {
  describe.each([1, 4])('%i queues', (queues) => {
    for (const { id, title, run } of portConformance((name) => underTest(name, role, queues))) test(`${id}: ${title}`, run);
  });
});
