/** Everything a user of a client can call, in any order, many calls at once; and what all of them must have in common: they end, by a typed error or well. */
import { linux } from '@emudev/linux';
import { DmaError, type Window } from '@emudev/dma';
import { ClientError, VfioUserClient } from '@emudev/vfio-user-client';
import { count, noteDefect } from '../defects.ts';
import { type Random, Weighted } from '../random.ts';

export interface DriveOptions {
  readonly path: string;
  readonly operations: number;
  /** The server is a good one: nothing may fail. */
  readonly sane: boolean;
}

type Operation = (driver: Driver) => Promise<unknown>;

const TIMEOUT_MS = 50;
const SANE_TIMEOUT_MS = 10_000;
const CONCURRENT = 16;
const MAP_BYTES = 0x10000;
const MOST_CHUNKS = 50;

export async function drive(random: Random, window: Window, { path, operations, sane }: DriveOptions): Promise<void> {
  let client: VfioUserClient;
  try {
    client = await VfioUserClient.connect(path, {
      timeoutMs: sane ? SANE_TIMEOUT_MS : TIMEOUT_MS, twinSocket: random.oneIn(3), minor: random.pick([0, 1, 2, 2]), dmaDialect: random.pick(['lvu', 'lvu', 'qemu']),
      ...(random.oneIn(4) ? {} : { dma: { read: (_, into) => void into.fill(1), write: () => {} } }),
    });
  } catch (error) {
    return judge(error, sane, 'connect');
  }
  const driver = new Driver(client, random, window);
  try {
    for (let left = operations; left > 0 && client.connected; left -= CONCURRENT) {
      await Promise.all(Array.from({ length: Math.min(left, CONCURRENT) }, async () => {
        const [name, run] = (sane ? SANE : OPERATIONS).pick(random);
        try {
          await run(driver);
          count('operation done');
        } catch (error) {
          judge(error, sane, name);
        }
      }));
    }
  } finally {
    await client[Symbol.asyncDispose]();
    driver[Symbol.dispose]();
  }
}

function judge(error: unknown, sane: boolean, operation: string): void {
  if (error instanceof ClientError || error instanceof DmaError) {
    count(`operation failed ${error.code}`);
    if (!sane) return;
  }
  noteDefect(`${operation} failed`, error);
}

class Driver implements Disposable {
  readonly client: VfioUserClient;
  readonly random: Random;
  readonly window: Window;
  readonly eventfds: readonly number[] = [linux.eventfd(), linux.eventfd(), linux.eventfd()];
  readonly memoryFd: number;
  readonly memory = new Uint8Array(MAP_BYTES);
  readonly #mapped: bigint[] = [];

  constructor(client: VfioUserClient, random: Random, window: Window) {
    this.client = client;
    this.random = random;
    this.window = window;
    this.memoryFd = linux.memfdCreate('fuzz-client', { allowSealing: true });
    linux.ftruncate(this.memoryFd, MAP_BYTES);
  }

  /** In the first half of the address space DMA messages are served from memory, in the second by the handler. */
  async map(): Promise<void> {
    const { random } = this;
    const iova = BigInt(random.below(64)) * BigInt(MAP_BYTES);
    const behind = random.below(3) === 0 ? { fd: this.memoryFd } : random.oneIn(2) ? { memory: this.memory } : {};
    await this.client.dmaMap({ iova, sizeBytes: MAP_BYTES, readable: !random.oneIn(4), writable: !random.oneIn(4), ...behind });
    this.#mapped.push(iova);
  }

  async unmap(): Promise<void> {
    const iova = this.#mapped.shift() ?? 0n;
    if (this.random.oneIn(3)) await this.client.dma.unmapDirty(iova, MAP_BYTES, 4096);
    else await this.client.dmaUnmap(iova, MAP_BYTES);
  }

  async mapRegion(): Promise<void> {
    using mapping = await this.client.mapRegion(this.random.below(4), this.window, { allowUnsealed: this.random.oneIn(8) });
    void mapping.areas;
  }

  async interrupts(): Promise<void> {
    const subscription = await this.client.irqs.subscribe(this.random.below(3), [this.random.below(4)]);
    try {
      await Promise.race([subscription.next(), new Promise((resolve) => { setImmediate(resolve); })]);
    } finally {
      await subscription.return();
    }
  }

  async save(): Promise<void> {
    let chunks = 0;
    for await (const chunk of this.client.migration.save()) {
      if (chunk.length > this.client.migration.chunkBytes || ++chunks > MOST_CHUNKS) break;
    }
  }

  async dirtyPages(): Promise<void> {
    await this.client.dirtyLog.start(4096);
    let ranges = 0;
    for await (const range of this.client.dirtyLog.dirtyPages(4096)) if (range.length === 0n || ++ranges > MOST_CHUNKS) break;
    await this.client.dirtyLog.stop();
  }

  [Symbol.dispose](): void {
    for (const fd of [...this.eventfds, this.memoryFd]) linux.close(fd);
  }
}

const READ: readonly [string, Operation] = ['read', ({ client, random }) => client.read(random.below(9), random.below(256), random.pick([1, 2, 4, 4, 8, 256, 0]))];
const WRITE: readonly [string, Operation] = ['write', ({ client, random }) => client.write(random.below(9), random.below(256), random.bytes(random.pick([1, 2, 4, 4, 8, 200])), { posted: random.oneIn(2) })];
const INFO: readonly [string, Operation] = ['regionInfo', ({ client, random }) => client.regionInfo(random.below(9))];
const IRQ: readonly [string, Operation] = ['irqInfo', ({ client, random }) => client.irqInfo(random.below(5))];

const SANE = new Weighted<readonly [string, Operation]>([
  [8, READ], [8, WRITE], [2, INFO], [2, IRQ],
  [1, ['pciConfig', async ({ client }) => (await client.pciConfig()).header()]],
  [1, ['reset', ({ client }) => client.reset()]],
]);

const OPERATIONS = new Weighted<readonly [string, Operation]>([
  [16, READ], [16, WRITE], [8, INFO], [4, IRQ],
  [2, ['writeMulti', ({ client, random }) => client.regions.writeMulti(Array.from({ length: random.below(6) }, () => ({ region: 0, offset: 8, data: random.bytes(4) })), { posted: random.oneIn(2) })]],
  [2, ['deviceInfo', ({ client }) => client.deviceInfo()]],
  [1, ['pciConfig', async ({ client }) => { const config = await client.pciConfig(); await config.header(); await config.capabilities(); await config.extendedCapabilities(); await config.bars(); }]],
  [4, ['ioFds', async ({ client, random }) => { using fds = await client.regions.ioFds(random.below(3)); void fds.entries; }]],
  [4, ['mapRegion', (driver) => driver.mapRegion()]],
  [4, ['setIrqEventfds', ({ client, random, eventfds }) => client.setIrqEventfds(random.below(3), random.below(4), eventfds)]],
  [2, ['removeIrqEventfds', ({ client, random }) => client.removeIrqEventfds(random.below(3), random.below(4), 1)]],
  [2, ['mask', ({ client, random }) => (random.oneIn(2) ? client.maskIrq(2, random.below(4)) : client.unmaskIrq(2, random.below(4)))]],
  [1, ['clearIrqs', ({ client, random }) => client.clearIrqs(random.below(5))]],
  [2, ['interrupts', (driver) => driver.interrupts()]],
  [8, ['dmaMap', (driver) => driver.map()]],
  [4, ['dmaUnmap', (driver) => driver.unmap()]],
  [1, ['dmaUnmapAll', ({ client }) => client.dmaUnmapAll()]],
  [2, ['features', ({ client, random }) => client.features.probe(random.below(12), random.pick([['get'], ['set'], ['get', 'set']]))]],
  [2, ['migration', async ({ client }) => { await client.migration.capabilities(); await client.migration.state(); }]],
  [2, ['setState', ({ client, random }) => client.migration.setState(random.pick(['stop', 'running', 'pre-copy', 'stop-copy', 'resuming']))]],
  [2, ['save', (driver) => driver.save()]],
  [1, ['restore', ({ client, random }) => client.migration.restore([random.bytes(100), random.bytes(5000)])]],
  [2, ['dirtyPages', (driver) => driver.dirtyPages()]],
  [1, ['reset', ({ client }) => client.reset()]],
]);
