import { linux } from '@emudev/linux';
import { Window } from '@emudev/dma';
import type { DetachReason, IrqDescription, PciDevice, PciHost, QuiesceReason, RegionDescription } from '@emudev/pci';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { VfioUserServer, type ServerEvents, type VfioUserServerOptions } from '../src/index.ts';
import { LVU_VERSION, RawClient } from './raw-client.ts';

/** One window for the whole test process. */
export const window: Window = Window.open();

/** A device that records what it is asked and does what a test tells it to. */
export class FakeDevice implements PciDevice {
  readonly name = 'fake';
  readonly regions: RegionDescription[] = [
    { index: 0, sizeBytes: 0x1000, readable: true, writable: true },
    // A 64-bit BAR: index 3 is its upper half.
    { index: 2, sizeBytes: 2 ** 33, readable: true, writable: true },
    { index: 7, sizeBytes: 4096, readable: true, writable: true },
  ];
  readonly irqs: IrqDescription[] = [{ index: 2, count: 2048, flags: 1 }, { index: 3, count: 1, flags: 1 }, { index: 4, count: 1, flags: 1 }];
  readonly resettable: boolean = true;
  readonly log: string[] = [];
  readonly bytes: Uint8Array = new Uint8Array(0x1000);
  host: PciHost | undefined;

  attach(host: PciHost): void | Promise<void> {
    this.host = host;
    this.log.push('attach');
  }
  detach(reason: DetachReason): void | Promise<void> {
    this.log.push(`detach ${reason}`);
  }
  read(region: number, offset: number, into: Uint8Array): void | Promise<void> {
    this.log.push(`read ${region} ${offset} ${into.length}`);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }
  write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    this.log.push(`write ${region} ${offset} ${[...from].join(',')}`);
    this.bytes.set(from, offset);
  }
  quiesce(reason: QuiesceReason): Promise<void> {
    this.log.push(`quiesce ${reason}`);
    return Promise.resolve();
  }
  resume(): void {
    this.log.push('resume');
  }
  memoryChanged(): void {
    this.log.push('memoryChanged');
  }
  irqsChanged(index: number, start: number, count: number): void {
    this.log.push(`irqsChanged ${index} ${start} ${count}`);
  }
  reset(): void | Promise<void> {
    this.log.push('reset');
  }
  /** The log since the last call. */
  take(): string[] {
    return this.log.splice(0);
  }
}

export interface Served<D extends PciDevice> extends AsyncDisposable {
  readonly device: D;
  readonly server: VfioUserServer;
  readonly client: RawClient;
}

/** A device served on one end of a socket pair, the client on the other; negotiated unless `version` is null. */
export async function serve<D extends PciDevice = FakeDevice>(
  options: { device?: D; version?: Uint8Array | null; server?: Partial<VfioUserServerOptions> } = {},
): Promise<Served<D>> {
  const device = options.device ?? (new FakeDevice() as unknown as D);
  const server = new VfioUserServer(device, { window, ...options.server });
  const [ours, theirs] = linux.unixSocketPair();
  server.adoptConnection(ours);
  const client = new RawClient(theirs);
  if (options.version !== null) {
    const reply = await client.request(1, options.version ?? LVU_VERSION);
    if (reply.errno !== 0) throw new Error(`VERSION: errno ${reply.errno}`);
  }
  return {
    device, server, client,
    [Symbol.asyncDispose]: async () => {
      client.close();
      await server.close();
    },
  };
}

export function memfd(lengthBytes: number, name = 'ram'): number {
  const fd = linux.memfdCreate(name, { allowSealing: true });
  linux.ftruncate(fd, lengthBytes);
  return fd;
}

/** The next event of a kind (of this device, if a name is given). Subscribe before causing it. */
export function nextEvent<K extends keyof ServerEvents>(name: K): Promise<ServerEvents[K]> {
  const channel = `emudev:vfio-user-server:${name}`;
  return new Promise((resolve) => {
    const listener = (event: unknown): void => {
      unsubscribe(channel, listener);
      resolve(event as ServerEvents[K]);
    };
    subscribe(channel, listener);
  });
}
