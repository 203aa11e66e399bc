import { expect } from 'vitest';
import type { FakeDevice } from '../fixture.ts';
import { concat, fields, message, REPLY } from '../raw-client.ts';
import { DMA_MAP, DMA_UNMAP, dmaMap, dmaUnmap, EFAULT, EINVAL, ENOENT, PAGE } from '../requests.ts';
import { conformance, type Exchange, type Row } from './suite.ts';

const [GET_DIRTY, ALL] = [1, 2];
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

const mapped: Exchange = { send: [DMA_MAP, dmaMap(0n, PAGE)], reply: 0 };
/** Refused, and what was mapped stays mapped. */
const refused = (title: string, ...payloads: readonly Uint8Array[]): Row => ({
  title: `${title}: EINVAL, and the region stays`,
  exchanges: [mapped, ...payloads.map((payload): Exchange => ({ send: [DMA_UNMAP, payload], reply: EINVAL }))],
  run: ({ server }) => { expect(server.session?.dmaMaps).toBe(1); },
});

conformance('dma-unmap', {
  U1: refused('a payload of 8 bytes, argsz 8, argsz above 1 MiB', new Uint8Array(8), dmaUnmap(0n, PAGE, 0, 8), dmaUnmap(0n, PAGE, 0, (1 << 20) + 8)),
  U2: refused('GET_DIRTY_BITMAP with a bitmap of nearly 2^64 bytes', concat(dmaUnmap(0n, PAGE, GET_DIRTY, 4096), fields(PAGE, 2n ** 64n - 1n)), concat(dmaUnmap(0n, PAGE, GET_DIRTY, 24), fields(PAGE, 2n ** 64n - 40n))),
  U3: refused('GET_DIRTY_BITMAP while nothing is logged', concat(dmaUnmap(0n, PAGE, GET_DIRTY, 48), fields(PAGE, 8n))),
  U4: refused('flag 4', dmaUnmap(0n, PAGE, 4)),
  U5: {
    title: 'exactly what was mapped: unmapped, with the request echoed (better: a descriptor that SPDK sends along is closed)',
    run: async ({ client, device, memfd }) => {
      const fd = memfd(0x2000);
      expect(await client.errno(DMA_MAP, dmaMap(0x10000n, 2n * PAGE), [fd])).toBe(0);
      void device.host!.memory.read(0x10000n, new Uint8Array(4));
      device.take();
      const reply = await client.request(DMA_UNMAP, dmaUnmap(0x10000n, 2n * PAGE), [fd]);
      expect([reply.flags, reply.payload]).toEqual([REPLY, dmaUnmap(0x10000n, 2n * PAGE)]);
      expect(device.take()).toEqual(['quiesce dma-unmap', 'memoryChanged', 'resume']);
      expect(() => device.host!.memory.read(0x10000n, new Uint8Array(4))).toThrow(expect.objectContaining({ errno: EFAULT }) as Error);
    },
  },
  U6: { title: 'an address that is not mapped, half of a region, or more than one: ENOENT', exchanges: [mapped, ...[dmaUnmap(PAGE, PAGE), dmaUnmap(0n, 2n * PAGE), dmaUnmap(0n, PAGE / 2n)].map((payload): Exchange => ({ send: [DMA_UNMAP, payload], reply: ENOENT }))] },
  U7: {
    title: 'the reply waits until the device is quiescent',
    exchanges: [mapped],
    run: async ({ client, device, server }) => {
      const { promise: asked, resolve: enter } = Promise.withResolvers<undefined>();
      let release!: () => void;
      device.quiesce = async (reason: Parameters<FakeDevice['quiesce']>[0]) => {
        if (reason !== 'dma-unmap') return;
        enter(undefined);
        await new Promise<void>((resolve) => { release = resolve; });
      };
      client.send(message(1, DMA_UNMAP, dmaUnmap(0n, PAGE)));
      await asked;
      await turn();
      expect([client.received, server.session?.dmaMaps]).toEqual([0, 1]);
      release();
      expect(await client.next()).toMatchObject({ id: 1, flags: REPLY, size: 40 });
      expect(server.session?.dmaMaps).toBe(0);
    },
  },
  U8: {
    title: 'ALL: 64 regions at once',
    exchanges: [...Array.from({ length: 64 }, (_, i): Exchange => ({ send: [DMA_MAP, dmaMap(BigInt(i) * PAGE, PAGE)], reply: 0 })), { send: [DMA_UNMAP, dmaUnmap(0n, 0n, ALL)], reply: dmaUnmap(0n, 0n, ALL) }],
    run: ({ server }) => { expect(server.session?.dmaMaps).toBe(0); },
  },
  U9: refused('ALL with an address or a size', dmaUnmap(PAGE, 0n, ALL), dmaUnmap(0n, PAGE, ALL)),
  U10: refused('ALL with GET_DIRTY_BITMAP', dmaUnmap(0n, 0n, ALL | GET_DIRTY), concat(dmaUnmap(0n, 0n, ALL | GET_DIRTY, 48), fields(PAGE, 8n))),
});
