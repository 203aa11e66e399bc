/** A device that has of everything a little, and sessions with it that go through the tracing proxy into a capture. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { linux } from '@emudev/linux';
import type { IrqDescription, PciDevice, PciHost, RegionDescription } from '@emudev/pci';
import { VfioUserClient, type ConnectOptions } from '@emudev/vfio-user-client';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { captureStart } from '../src/pcapng/capture.ts';
import { TraceProxy } from '../src/trace/proxy.ts';
import { Tracer } from '../src/trace/tracer.ts';
import { until } from './wire.ts';

const window = Window.open();

/** BAR0: 0x00 writing an address copies 8 bytes of guest memory from there to 0x100 behind it; 0x08 counts reads; 0x10 holds a value. */
export class CopyDevice implements PciDevice {
  readonly name: string = 'copy';
  readonly regions: readonly RegionDescription[] = [{ index: 0, sizeBytes: 0x1000, readable: true, writable: true }, { index: 7, sizeBytes: 256, readable: true, writable: true }];
  readonly irqs: readonly IrqDescription[] = [{ index: 2, count: 4, flags: 1 }];
  readonly resettable: boolean = true;
  value: number;
  #reads: number;
  #host: PciHost | undefined;

  constructor(value = 0, reads = 0) {
    this.value = value;
    this.#reads = reads;
  }

  attach(host: PciHost): void { this.#host = host; }
  detach(): void { this.#host = undefined; }
  read(region: number, offset: number, into: Uint8Array): void {
    into.fill(0);
    if (region === 7 && offset === 0) into.set([0x34, 0x12, 0x78, 0x56].slice(0, into.length));
    if (region === 0 && offset === 0x08) into[0] = ++this.#reads;
    if (region === 0 && offset === 0x10) into[0] = this.value;
  }
  async write(region: number, offset: number, from: Uint8Array): Promise<void> {
    if (region === 0 && offset === 0x10) this.value = from[0]!;
    if (region !== 0 || offset !== 0) return;
    const address = BigInt(from[0]! | (from[1]! << 8) | (from[2]! << 16));
    const data = new Uint8Array(8);
    await this.#host!.memory.read(address, data);
    await this.#host!.memory.write(address + 0x100n, this.copied(data));
  }
  copied(data: Uint8Array): Uint8Array { return data; }
  quiesce(): Promise<void> { return Promise.resolve(); }
  resume(): void {}
  memoryChanged(): void {}
  irqsChanged(): void {}
  reset(): void { this.value = 0; }
}

/** Serves a device while `use` runs. */
export async function serving<T>(device: PciDevice, use: (path: string) => Promise<T>): Promise<T> {
  const server = new VfioUserServer(device, { window });
  const path = join(mkdtempSync(join(tmpdir(), 'vfio-user-')), 'd.sock');
  await server.listen(path);
  try {
    return await use(path);
  } finally {
    await server.close();
  }
}

/** What a client did with a device, as a capture file. */
export async function record(device: PciDevice, session: (path: string) => Promise<void>): Promise<Uint8Array> {
  return serving(device, async (connect) => {
    const blocks: Uint8Array[] = captureStart('listen', 'connect');
    const listen = `${connect}.t`;
    const tracer = new Tracer({ sinks: [], capture: { write: (bytes) => { blocks.push(typeof bytes === 'string' ? Buffer.from(bytes) : bytes); }, flush: () => {} } });
    {
      using proxy = new TraceProxy({ listen, connect, observer: tracer, spinUs: 0 });
      await session(listen);
      await until(() => proxy.sessions === 0, 'the sessions end');
    }
    tracer[Symbol.dispose]();
    return Buffer.concat(blocks);
  });
}

/** A session with descriptors, interrupts, DMA by messages, an error, a posted write and a reset. */
export async function typicalSession(path: string, options: ConnectOptions = {}): Promise<void> {
  const memory = new Uint8Array(0x2000).fill(0x5a);
  await using client = await VfioUserClient.connect(path, {
    dma: {
      read: (iova, into) => { into.set(memory.subarray(Number(iova), Number(iova) + into.length)); },
      write: (iova, from) => { memory.set(from, Number(iova)); },
    }, ...options,
  });
  const ram = linux.memfdCreate('ram', { allowSealing: true });
  linux.ftruncate(ram, 1 << 20);
  await client.dma.map({ iova: 0x100000n, sizeBytes: 1 << 20, readable: true, writable: true, fd: ram });
  linux.close(ram);
  await client.dma.map({ iova: 0n, sizeBytes: 0x2000, readable: true, writable: true });
  const irq = linux.eventfd();
  await client.irqs.setEventfds(2, 0, [irq]);
  linux.close(irq);
  await client.regions.read(7, 0, 4);
  await client.regions.read(0, 8, 4);
  await client.regions.write(0, 0x10, Uint8Array.of(7, 0, 0, 0), { posted: true });
  await client.regions.read(0, 0x10, 4);
  await client.regions.write(0, 0, Uint8Array.of(0x00, 0x10, 0, 0));
  await client.regions.read(0, 0x2000, 4).catch(() => undefined);
  await client.reset();
  await client.regions.read(0, 0x10, 4);
}
