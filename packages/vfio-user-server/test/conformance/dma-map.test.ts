import { countOpenFds, linux } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import { FakeDevice, memfd, nextEvent, serve } from '../fixture.ts';
import { fields, message, REPLY, u32, u64 } from '../raw-client.ts';
import { DMA_MAP, DMA_READ, DMA_WRITE, dmaMap, EEXIST, EFAULT, EINVAL, ENOSPC, PAGE } from '../requests.ts';
import { conformance } from './suite.ts';

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });
const [FLAG_MMAP, FLAG_FILE_IO] = [4, 8];

/** Becomes quiescent for DMA_MAP when the test says so. */
class GatedDevice extends FakeDevice {
  readonly asked: Promise<void>;
  release!: () => void;
  readonly #enter: () => void;
  constructor() {
    super();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.asked = promise;
    this.#enter = () => { resolve(undefined); };
  }
  override async quiesce(reason: Parameters<FakeDevice['quiesce']>[0]): Promise<void> {
    await super.quiesce(reason);
    if (reason !== 'dma-map') return;
    this.#enter();
    await new Promise<void>((resolve) => { this.release = resolve; });
  }
}

conformance('dma-map', {
  D1: { title: '8 TiB and a page: ENOSPC', exchanges: [{ send: [DMA_MAP, dmaMap(0n, (8n << 40n) + PAGE)], reply: ENOSPC }] },
  D2: {
    title: 'the 65th region of 64: refused, the 64 are fine (better: ENOSPC, as the kernel\'s VFIO has it)',
    given: () => ({ server: { limits: { maxDmaMaps: 64 } } }),
    exchanges: [...Array.from({ length: 64 }, (_, i) => ({ send: [DMA_MAP, dmaMap(BigInt(i) * PAGE, PAGE)] as const, reply: 0 })), { send: [DMA_MAP, dmaMap(64n * PAGE, PAGE)], reply: ENOSPC }],
    run: ({ server }) => { expect(server.session?.dmaMaps).toBe(64); },
  },
  D3: {
    title: 'no reply and no mapping before the device is quiescent; then both, once',
    given: () => ({ device: new GatedDevice() }),
    run: async ({ client, device, server, memfd: file }) => {
      const gated = device as GatedDevice;
      gated.take();
      client.send(message(1, DMA_MAP, dmaMap(0x10000n, PAGE)), [file(0x1000)]);
      await gated.asked;
      await turn();
      expect([client.received, server.session?.dmaMaps, gated.take()]).toEqual([0, 0, ['quiesce dma-map']]);
      gated.release();
      expect(await client.next()).toMatchObject({ id: 1, command: DMA_MAP, flags: REPLY, size: 16 });
      expect(gated.take()).toEqual(['memoryChanged', 'resume']);
      expect(gated.host!.memory.translate(0x10000n, 0x1000, 'write')).toBeDefined();
    },
  },
  D4: {
    title: 'the client dies while the device is told of the new memory: told once, quiesced twice, detached once',
    run: async ({ client, device, memfd: file }) => {
      device.memoryChanged = () => {
        device.log.push('memoryChanged');
        client.close();
      };
      device.take();
      const gone = nextEvent('disconnect');
      client.send(message(1, DMA_MAP, dmaMap(0n, PAGE)), [file(0x1000)]);
      await gone;
      expect(device.take()).toEqual(['quiesce dma-map', 'memoryChanged', 'resume', 'quiesce detach', expect.stringMatching(/^detach (closed|connection-lost)$/), 'resume']);
    },
    after: 'ended',
  },
  D5: {
    title: 'the client dies while the device becomes quiescent: the command completes, then the detach, and the region is gone',
    given: () => ({ device: new GatedDevice() }),
    run: async ({ client, device, server, memfd: file }) => {
      const gated = device as GatedDevice;
      gated.take();
      client.send(message(1, DMA_MAP, dmaMap(0n, PAGE)), [file(0x1000)]);
      await gated.asked;
      const gone = nextEvent('disconnect');
      client.close();
      // The end of the stream has been seen when the session says so; only then may the command go on.
      while (server.session?.state !== 'ending') await turn();
      gated.release();
      expect(await gone).toMatchObject({ reason: 'closed' });
      expect(gated.take()).toEqual(['quiesce dma-map', 'memoryChanged', 'resume', 'quiesce detach', 'detach closed', 'resume']);
      expect(gated.host!.memory.translate(0n, 1, 'read')).toBeUndefined();
    },
    after: 'ended',
  },
  D6: {
    title: 'without a descriptor and flags: accepted, and out of the device\'s reach',
    exchanges: [{ send: [DMA_MAP, dmaMap(0n, PAGE, 0n, 0)], reply: new Uint8Array(0) }],
    run: ({ device, server }) => {
      expect(server.session?.dmaMaps).toBe(1);
      expect(device.host!.memory.translate(0n, 1, 'read')).toBeUndefined();
      expect(() => device.host!.memory.read(0n, new Uint8Array(1))).toThrow(expect.objectContaining({ errno: EFAULT }) as Error);
    },
  },
  D7: {
    title: 'the same region twice, by a duplicate of its descriptor: one region (better: any other overlap is EEXIST)',
    run: async ({ client, server, memfd: file, own }) => {
      const [a, b] = [file(0x2000), file(0x2000)];
      for (const [fd, map, errno] of [[a, dmaMap(0n, PAGE), 0], [own(linux.dup(a)), dmaMap(0n, PAGE), 0], [b, dmaMap(0n, PAGE), EEXIST], [a, dmaMap(0n, 2n * PAGE), EEXIST], [a, dmaMap(0n, PAGE, PAGE), EEXIST], [a, dmaMap(0n, PAGE, 0n, 1), EEXIST]] as const) {
        expect(await client.errno(DMA_MAP, map, [fd])).toBe(errno);
      }
      expect(server.session?.dmaMaps).toBe(1);
    },
  },
  D8: {
    title: 'two regions of duplicated descriptors: one of the file is kept, however many regions lie in it',
    run: async ({ client, server, memfd: file, own }) => {
      const fd = file(0x2000);
      const duplicate = own(linux.dup(fd));
      const before = countOpenFds();
      expect([await client.errno(DMA_MAP, dmaMap(0n, PAGE), [fd]), await client.errno(DMA_MAP, dmaMap(PAGE, PAGE, PAGE), [duplicate])]).toEqual([0, 0]);
      expect([countOpenFds(), server.session?.dmaMaps]).toEqual([before + 1, 2]);
    },
  },
  D9: {
    title: 'a descriptor with MMAP or FILE_IO: no message goes out; without: one for a write and one for a read',
    run: async ({ client, device, memfd: file }) => {
      const { memory } = device.host!;
      for (const [address, flag] of [[0x10000n, FLAG_MMAP], [0x20000n, FLAG_FILE_IO]] as const) {
        const fd = file(0x2000);
        expect(await client.errno(DMA_MAP, dmaMap(address, PAGE, PAGE, 3 | flag), [fd])).toBe(0);
        await memory.write(address + 0x10n, fields(0xfeed));
        const seen = new Uint8Array(4);
        linux.pread(fd, seen, 0x1010);
        expect(u32(seen, 0)).toBe(0xfeed);
        await memory.read(address + 0x10n, seen.fill(0));
        expect(u32(seen, 0)).toBe(0xfeed);
      }
      expect(client.received).toBe(0);
      expect(await client.errno(DMA_MAP, dmaMap(0x30000n, PAGE))).toBe(0);
      const written = Promise.resolve(memory.write(0x30000n, fields(1)));
      const w = await client.next();
      expect([w.command, u64(w.payload, 0), u64(w.payload, 8), u32(w.payload, 16)]).toEqual([DMA_WRITE, 0x30000n, 4n, 1]);
      client.send(message(w.id, DMA_WRITE, fields(0x30000n, 4n), REPLY));
      await written;
      const into = new Uint8Array(4);
      const read = Promise.resolve(memory.read(0x30000n, into));
      const r = await client.next();
      expect([r.command, r.payload]).toEqual([DMA_READ, fields(0x30000n, 4n)]);
      client.send(message(r.id, DMA_READ, fields(0x30000n, 4n, 2), REPLY));
      await read;
      expect(u32(into, 0)).toBe(2);
    },
  },
});

describe('beyond the list', () => {
  it.each<[string, Uint8Array]>([['an unknown flag', dmaMap(0n, PAGE, 0n, 0x13)], ['past 2^64', dmaMap(2n ** 64n - PAGE, 2n * PAGE)], ['FILE_IO without a file', dmaMap(0n, PAGE, 0n, 3 | FLAG_FILE_IO)], ['MMAP without a file', dmaMap(0n, PAGE, 0n, 3 | FLAG_MMAP)]])(
    '%s: EINVAL, and the device is not even asked to be quiescent', async (_name, payload) => {
      await using s = await serve();
      s.device.take();
      expect(await s.client.errno(DMA_MAP, payload)).toBe(EINVAL);
      expect(s.device.take()).toEqual([]);
    });

  it('a file that its owner truncates under FILE_IO is an error, where a mapping would be a fatal signal', async () => {
    await using s = await serve();
    const fd = memfd(0x2000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0x4000n, PAGE, PAGE, 3 | FLAG_FILE_IO), [fd])).toBe(0);
    linux.ftruncate(fd, 0x1000);
    await expect(s.device.host!.memory.read(0x4010n, new Uint8Array(4))).rejects.toMatchObject({ errno: EFAULT });
    linux.close(fd);
  });

  it('a map that fails leaves the device running and unchanged', async () => {
    await using s = await serve();
    s.device.take();
    const fd = memfd(0x1000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, 2n * PAGE), [fd])).toBe(EINVAL);
    expect(s.device.take()).toEqual(['quiesce dma-map', 'resume']);
    linux.close(fd);
  });
});
