import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pciExpressCapability, type PciHost } from '@emudev/pci';
import { expect } from 'vitest';
import { VfioUserServer } from '../../src/index.ts';
import { FakeDevice, nextEvent, window } from '../fixture.ts';
import { LVU_VERSION, message, RawClient } from '../raw-client.ts';
import { access, DMA_MAP, dmaMap, DMA_UNMAP, dmaUnmap, ENOTTY, EVENTFD, PAGE, RESET, SET_IRQS, setIrqs, TRIGGER, VERSION, WRITE } from '../requests.ts';
import { ConfigDevice } from './devices.ts';
import { conformance } from './suite.ts';

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** Uses guest memory in every call in which it may. */
class CuriousDevice extends FakeDevice {
  readonly seen: string[] = [];
  slow = false;
  #look(where: string): void {
    const bytes = new Uint8Array(4);
    const { memory } = this.host as PciHost;
    if (memory.translate(0n, 4, 'write') === undefined) return;
    void memory.read(0n, bytes);
    void memory.write(0n, Uint8Array.of(bytes[0]! + 1));
    this.seen.push(where);
  }
  override async quiesce(reason: Parameters<FakeDevice['quiesce']>[0]): Promise<void> {
    if (this.slow) await turn();
    return super.quiesce(reason);
  }
  override memoryChanged(): void {
    this.#look('memoryChanged');
  }
  override irqsChanged(): void {
    this.#look('irqsChanged');
  }
  override reset(): void {
    this.#look('reset');
  }
  override detach(): void {
    this.#look('detach');
  }
}

function unwilling(): FakeDevice {
  const device = new FakeDevice();
  const quiesce = device.quiesce.bind(device);
  device.quiesce = async (reason) => {
    await quiesce(reason);
    if (reason !== 'detach') throw Object.assign(new Error('not now'), { errno: ENOTTY });
  };
  return device;
}

conformance('quiesce', {
  Z1: {
    title: 'becoming quiescent twice changes nothing (better: a promise settles once; there is no call to get wrong)',
    run: async ({ client, device, server }) => {
      device.quiesce = () => new Promise((resolve) => {
        resolve();
        resolve();
      });
      expect(await client.errno(DMA_MAP, dmaMap(0n, PAGE))).toBe(0);
      expect(server.session?.dmaMaps).toBe(1);
    },
  },
  Z2: {
    title: 'quiesce fails with ENOTTY: so does the command, nothing is mapped (better: the session ends, for its memory can no longer be changed safely)',
    given: () => ({ device: unwilling() }),
    run: async ({ client, device }) => {
      device.take();
      const gone = nextEvent('disconnect');
      expect(await client.errno(DMA_MAP, dmaMap(0n, PAGE))).toBe(ENOTTY);
      expect(await gone).toMatchObject({ reason: 'quiesce-failed' });
      expect(device.take()).toEqual(['quiesce dma-map', 'quiesce detach', 'detach protocol-error', 'resume']);
    },
    after: 'closed',
  },
  Z3: {
    title: 'the same, later (better: there is a reply)',
    given: () => ({ device: unwilling() }),
    run: async ({ client, device, server }) => {
      let refuse!: (error: Error) => void;
      const { promise: asked, resolve: enter } = Promise.withResolvers<undefined>();
      device.quiesce = (reason) => (reason === 'detach' ? Promise.resolve() : new Promise<void>((_resolve, reject) => {
        refuse = reject;
        enter(undefined);
      }));
      client.send(message(1, DMA_MAP, dmaMap(0n, PAGE)));
      await asked;
      await turn();
      expect([client.received, server.session?.dmaMaps]).toEqual([0, 0]);
      refuse(Object.assign(new Error('not now'), { errno: ENOTTY }));
      expect(await client.next()).toMatchObject({ id: 1, errno: ENOTTY });
    },
    after: 'closed',
  },
  Z4: {
    title: 'guest memory can be used in memoryChanged, irqsChanged, reset and detach, at once or after waiting',
    given: () => ({ device: new CuriousDevice() }),
    run: async ({ client, device, memfd, eventfd }) => {
      const curious = device as CuriousDevice;
      for (const slow of [false, true]) {
        curious.slow = slow;
        expect(await client.errno(DMA_MAP, dmaMap(0n, PAGE), [memfd(0x1000)])).toBe(0);
        expect(await client.errno(SET_IRQS, setIrqs(TRIGGER | EVENTFD, 2, 0, 1), [eventfd()])).toBe(0);
        expect(await client.errno(RESET, new Uint8Array(0))).toBe(0);
        if (!slow) expect(await client.errno(DMA_UNMAP, dmaUnmap(0n, PAGE))).toBe(0);
      }
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
      // After an unmap there is nothing to use: `memoryChanged` sees the table as it is from now on.
      expect(curious.seen).toEqual(['memoryChanged', 'irqsChanged', 'reset', 'memoryChanged', 'irqsChanged', 'reset', 'detach']);
    },
    after: 'ended',
  },
  Z5: {
    title: 'a function level reset by a write to configuration space: quiesced, reset, resumed, and only then answered',
    given: () => ({ device: new ConfigDevice({ sizeBytes: 4096, vendorId: 1, deviceId: 2, classCode: 0, capabilities: [pciExpressCapability({ flr: true, offset: 0x40 })] }) }),
    run: async ({ client, device }) => {
      device.take();
      expect(await client.errno(WRITE, access(0x48n, 7, 2, Uint8Array.of(0, 0x80)))).toBe(0);
      expect(device.take()).toEqual(['quiesce flr', 'reset', 'resume']);
    },
  },
  Z6: {
    title: 'the server closes: detached once, the socket file removed (better: quiesced first)',
    run: async () => {
      const directory = mkdtempSync(join(tmpdir(), 'vfio-user-z6-'));
      const path = join(directory, 'device.sock');
      const device = new FakeDevice();
      const server = new VfioUserServer(device, { window });
      await server.listen(path);
      const client = RawClient.connect(path);
      await client.request(VERSION, LVU_VERSION);
      device.take();
      await server.close();
      expect([device.take(), existsSync(path)]).toEqual([['quiesce detach', 'detach server-closed', 'resume'], false]);
      await client.closed;
      client.close();
      rmSync(directory, { recursive: true });
    },
  },
  Z7: {
    title: 'a path that cannot be, a second transport, a device that is none: typed errors, nothing left open',
    run: async ({ server }) => {
      await using idle = new VfioUserServer(new FakeDevice(), { window });
      await expect(idle.listen('/nonexistent/device.sock')).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(idle.listen(`/tmp/${'x'.repeat(200)}`)).rejects.toThrow();
      expect(() => { server.adoptListener(0); }).toThrow(expect.objectContaining({ code: 'ERR_SERVER_STATE' }) as Error);
      expect(() => new VfioUserServer(Object.assign(new FakeDevice(), { irqs: [{ index: 5, count: 1, flags: 1 }] }), { window })).toThrow(expect.objectContaining({ code: 'ERR_SERVER_DEVICE' }) as Error);
    },
  },
});
