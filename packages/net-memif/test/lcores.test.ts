/** On real lcores: they sleep, are woken by the peer, and let go of memory that goes away under them. */
import { Quiescence, Window } from '@emudev/dma';
import { Forwarding, LcorePool } from '@emudev/ethdev';
import { FrameBench, testFrame } from '@emudev/testkit';
import { expect, test } from 'vitest';
import { MemifPort } from '@emudev/net-memif';
import { Folder, link, started } from './support/ports.ts';

const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));

async function echoed(bench: FrameBench, client: MemifPort, count: number): Promise<number> {
  const datapath = await bench.load(client);
  expect(bench.send(datapath, 0, Array.from({ length: count }, (_, i) => testFrame(i)))).toBe(count);
  let seen = 0;
  for (const deadline = performance.now() + 5000; seen < count && performance.now() < deadline; await turn()) seen += bench.receive(datapath, 0).length;
  return seen;
}

test('a sleeping lcore is woken by the frame, not by its clock', async () => {
  using folder = new Folder();
  using bench = new FrameBench();
  const common = { socket: folder.socket, socketAbstract: false, reconnectMs: 10 };
  const server = MemifPort.open('net_memif0', { ...common, role: 'server' });
  const client = await started(MemifPort.open('net_memif1', { ...common, role: 'client' }));
  {
    // Asleep after 300 polls, with no clock to wake it.
    await using pool = await LcorePool.start(1, { window: bench.window, quiescence: Quiescence.of(bench.window) }, { idleSpins: 300 });
    const forwarding = new Forwarding(pool);
    await forwarding.connect({ a: server, b: server });
    await Promise.all([link(server, true), link(client, true)]);
    // A sleep that began before the connection is still one on the old descriptor.
    expect(await echoed(bench, client, 1)).toBe(1);
    for (let round = 0; round < 20; round++) {
      const { sleeps } = pool.lcores[0]!.stats();
      const began = performance.now();
      expect(await echoed(bench, client, 8)).toBe(8);
      expect(performance.now() - began).toBeLessThan(1500);
      // It goes to sleep again, with the peer asked for signals.
      for (const deadline = performance.now() + 5000; pool.lcores[0]!.stats().sleeps === sleeps && performance.now() < deadline;) await turn();
      expect(pool.lcores[0]!.stats().sleeps).toBeGreaterThan(sleeps);
    }
    await forwarding.stop();
  }
  await client.close();
  await server.close();
});

test('peers come and go under a polling lcore', async () => {
  using folder = new Folder();
  using bench = new FrameBench();
  using window = Window.open();
  const common = { socket: folder.socket, socketAbstract: false, reconnectMs: 5 };
  const server = MemifPort.open('net_memif0', { ...common, role: 'server' });
  {
    await using pool = await LcorePool.start(1, { window, quiescence: Quiescence.of(window) });
    const forwarding = new Forwarding(pool);
    await forwarding.connect({ a: server, b: server });
    const mappings = window.mappingCount;
    for (let round = 0; round < 20; round++) {
      const client = await started(MemifPort.open('net_memif1', { ...common, role: 'client' }));
      await Promise.all([link(server, true), link(client, true)]);
      expect(await echoed(bench, client, 32)).toBe(32);
      await client.close();
      await link(server, false);
      for (const deadline = performance.now() + 5000; window.mappingCount > mappings && performance.now() < deadline;) await turn();
      expect(window.mappingCount).toBe(mappings);
    }
    expect(forwarding.report().map(({ state }) => state)).toEqual(['running']);
    await forwarding.stop();
  }
  await server.close();
});
