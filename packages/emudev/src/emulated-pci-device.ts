import { BasicPciDevice, REGION_CONFIG, type BasicPciDeviceSpec, type DetachReason, type PciDevice, type PciHost, type QuiesceReason } from '@emudev/pci';
import type { Channel, DoorbellInfo, Emudev, EmudevProvider, EventRingHandle, IrqInfo, MemTable, ProviderPort, QueueInfo, SelfTestCheck, SharedRegion } from './device.ts';
import { EmudevError } from './errors.ts';
import { Orders, type Order } from './orders.ts';
import { providerChecks, selfTestCheck } from './self-test.ts';
import type { EmudevRegistryLike, VdevContext, VdevDevice } from './vdev.ts';

/** Registers of configuration space (PCI 3.0 §6.2) that a self-test writes: harmless without a consumer. */
const COMMAND = 0x04;
const MEMORY_AND_BUS_MASTER = 0x06;
const INTERRUPT_LINE = 0x3c;

/** A family's contract, as back ends name it when they attach. */
export interface EmudevFamily {
  readonly devType: string;
  readonly version: number;
}

/** The PCI function and the emulated device, described. */
export interface EmulatedPciDeviceSpec extends BasicPciDeviceSpec {
  readonly family: EmudevFamily;
  /** 0 by default: a family without data queues. */
  readonly maxQueuePairs?: number;
  /** Vectors that a back end may ask for (`irqInfo`); 0 by default. */
  readonly numVectors?: number;
}

/**
 * Both halves of a provider in one: a PCI function from a description (`BasicPciDevice`), and its emulated device, which is told of
 * everything the consumer does. A driver extends it with registers; most override only `attributes` and `channel`.
 *
 * | the consumer              | the emulated device                                               |
 * | ------------------------- | ----------------------------------------------------------------- |
 * | connects                  | `consumer` is 'connected'                                          |
 * | has mapped memory         | 'ready': the back end's `ready`, when the change is over           |
 * | changes maps, interrupts  | lock → updated → unlock                                            |
 * | resets the function (FLR) | lock → `reset('function')`, then registers are at power-on → unlock |
 * | goes                      | lock → `reset('consumer-left')` → `destroyed`, then power-on        |
 *
 * Owned by its emulated device: `Emudev.close` ends it. After that reads answer all ones and writes are ignored.
 */
export abstract class EmulatedPciDevice extends BasicPciDevice implements EmudevProvider {
  readonly devType: string;
  readonly contractVersion: number;
  readonly maxQueuePairs: number;
  readonly numVectors: number;
  readonly #port: ProviderPort;
  readonly #orders = new Orders((error) => { this.#port.error(error); });
  /** A self-test is running. */
  #testing: Promise<undefined> | undefined;
  #mapped = false;
  #ready = false;
  #locked = false;
  /** The transport's holds of the orders. */
  #holds = 0;
  #closed = false;

  /** @throws EmudevError (EMUDEV_EXISTS, EMUDEV_BAD_ARG: the name), PciLayoutError */
  constructor(spec: EmulatedPciDeviceSpec, registry: EmudevRegistryLike) {
    super(spec);
    this.devType = spec.family.devType;
    this.contractVersion = spec.family.version;
    this.maxQueuePairs = spec.maxQueuePairs ?? 0;
    this.numVectors = spec.numVectors ?? 0;
    this.#port = registry.allocate(spec.name, this);
  }

  /** The device as back ends and applications see it. */
  get emudev(): Emudev {
    return this.#port.device;
  }

  /** How the provider reports what it does by itself, e.g. `port.attributeChanged`. */
  protected get port(): ProviderPort {
    return this.#port;
  }

  /**
   * Work that a guest's store has ordered and does not wait for. Orders begin one at a time while the device is started and nothing
   * changes under it: memory and interrupts stay as they are until an order's promise is settled, so it must settle soon. A reset
   * forgets those that have not begun. What an order throws is an `error` event. One that takes longer than ORDER_DEADLINE_MS fails
   * whoever waits for it (`stop`, `reset`, a consumer's changes) with EMUDEV_TIMEOUT. EMUDEV_RANGE: MAX_WAITING_ORDERS wait already.
   */
  protected order(work: Order): void {
    this.#orders.give(work);
  }

  /** Orders begin from now on; overrides call it. Called by `Emudev.start`, before the back end's `start`. */
  start(): void | Promise<void> {
    this.#orders.start();
  }

  /** Orders wait for the next start. */
  stop(): void | Promise<void> {
    return this.#orders.stop();
  }

  /** Orders that have not begun are forgotten, the back end hears of it while it is locked, then the registers are at power-on. */
  async familyReset(): Promise<void> {
    await this.#orders.hold();
    try {
      await this.#port.reset('family');
      this.#orders.clear();
      this.setIntx(false);
      await this.onReset();
    } finally {
      this.#orders.release();
    }
  }

  // What the emulated device asks of its provider. A family has what it overrides.
  readonly attributes: EmudevProvider['attributes'] = new Map();
  /** A queue's description; undefined, as here, where there is no such queue. */
  queueInfo(_queue: number): QueueInfo | undefined { return undefined; }
  /** A vector's description; undefined, as here, where there is no such vector. */
  irqInfo(_vector: number): IrqInfo | undefined { return undefined; }
  /** A doorbell's description; undefined, as here, where there is no such doorbell. */
  doorbell(_id: number): DoorbellInfo | undefined { return undefined; }
  /** The shared region of this name; undefined, as here, where there is none. */
  region(_name: string): SharedRegion | undefined { return undefined; }
  /** The names that `region` knows; none here. */
  regionNames(): readonly string[] { return []; }
  /** The back end's end of the channel of this name; undefined, as here, where there is none. */
  channel(_name: string): Channel<unknown, unknown> | undefined { return undefined; }
  /** Where the event ring of this name lies; undefined, as here, where there is none. */
  events(_name: string): EventRingHandle | undefined { return undefined; }

  /** The consumer's memory. EMUDEV_NOT_READY without a consumer. */
  memTable(): MemTable {
    if (this.host === undefined) throw new EmudevError('EMUDEV_NOT_READY', `${this.name} has no consumer`);
    return this.host.memory;
  }

  /**
   * What it tells a back end, and the function itself: configuration space and BARs answer, a reset restores power-on. It resets the
   * function, so it is EMUDEV_BAD_STATE while a consumer is there, and one that comes meanwhile waits. Overrides add to it.
   */
  async selfTest(): Promise<readonly SelfTestCheck[]> {
    if (this.host !== undefined) throw new EmudevError('EMUDEV_BAD_STATE', `${this.name}: a self-test resets the function, and a consumer is using it`);
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#testing = promise;
    try {
      return [
        ...await providerChecks(this),
        await selfTestCheck('configuration space', async () => {
          const space = await this.#readConfig();
          const ids = new DataView(space.buffer);
          if (ids.getUint16(0, true) === 0xffff) throw new Error('there is no function (vendor ffff)');
          return [ids.getUint16(0, true), ids.getUint16(2, true)].map((id) => id.toString(16).padStart(4, '0')).join(':');
        }),
        await selfTestCheck('BARs', async () => {
          const bars = this.regions.filter(({ index }) => index < 6);
          for (const { index, sizeBytes } of bars) await this.read(index, 0, new Uint8Array(Math.min(sizeBytes, 4)));
          return bars.map(({ index }) => index).join(', ') || 'none';
        }),
        await selfTestCheck('reset', async () => {
          await this.#powerOn();
          const before = await this.#readConfig();
          await this.write(REGION_CONFIG, COMMAND, Uint8Array.of(MEMORY_AND_BUS_MASTER, 0));
          await this.write(REGION_CONFIG, INTERRUPT_LINE, Uint8Array.of(0x55));
          await this.#powerOn();
          const after = await this.#readConfig();
          const differs = after.findIndex((byte, offset) => byte !== before[offset]);
          if (differs >= 0) throw new Error(`configuration space differs from power-on at ${differs}: ${after[differs]}, not ${before[differs]}`);
          return 'power-on is restored';
        }),
      ];
    } finally {
      this.#testing = undefined;
      resolve(undefined);
    }
  }

  async #readConfig(): Promise<Uint8Array<ArrayBuffer>> {
    const space = new Uint8Array(this.config.region.sizeBytes);
    for (let offset = 0; offset < space.length; offset += 4) await this.read(REGION_CONFIG, offset, space.subarray(offset, offset + 4));
    return space;
  }

  /** Everything the device owns is given back; overrides call it first. */
  close(): void | Promise<void> {
    this.#closed = true;
    this.#orders.clear();
    return this.#orders.stop();
  }

  /** A consumer comes, once a self-test that runs has ended; overrides call it. EMUDEV_BAD_STATE: the device is closed. */
  override async attach(host: PciHost): Promise<void> {
    await this.#testing;
    if (this.#closed) throw new EmudevError('EMUDEV_BAD_STATE', `${this.name} is closed`);
    await super.attach(host);
    this.#port.connected();
  }

  /** The consumer goes: the back end lets go of its memory first, then the registers are at power-on. Overrides call it. */
  override async detach(reason: DetachReason): Promise<void> {
    // The back end lets go of memory before it is forgotten.
    await this.#port.destroyed(reason);
    this.#mapped = false;
    this.#ready = false;
    // Power-on state for the next consumer.
    if (!this.#closed) await this.#powerOn();
    await super.detach(reason);
  }

  /** Reads of a region, from the consumer; all ones once the device is closed. */
  override read(region: number, offset: number, into: Uint8Array): void | Promise<void> {
    if (!this.#closed) return super.read(region, offset, into);
    into.fill(0xff);
  }

  /** Stores to a region, by the consumer; ignored once the device is closed. */
  override write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    return this.#closed ? undefined : super.write(region, offset, from);
  }

  /** Until `resume` no order begins and the back end is locked. EMUDEV_TIMEOUT: an order has not ended, or the back end has not locked, in time. */
  override async quiesce(reason: QuiesceReason): Promise<void> {
    await this.#orders.hold();
    this.#holds++;
    try {
      await this.#port.lock(reason);
    } catch (error) {
      this.#letGo();
      throw error;
    }
    this.#locked = true;
  }

  /** Ends what `quiesce` began, and tells the back end `ready` where the consumer has just mapped memory. Harmless after a `quiesce` that failed. */
  override resume(): void {
    if (this.#locked) {
      this.#locked = false;
      this.#port.unlock();
      this.#announceReady();
    }
    this.#letGo();
  }

  /** The consumer's maps have changed: `updated` for a back end that is ready; the first maps make it so. */
  override memoryChanged(): void {
    this.#mapped = true;
    if (this.#ready) this.#port.updated({ dma: true, irqs: false });
    else if (!this.#locked) this.#announceReady();
  }

  /** Vectors have got or lost their descriptors: `updated` for a back end that is ready. */
  override irqsChanged(_index: number, _start: number, _count: number): void {
    if (this.#ready) this.#port.updated({ dma: false, irqs: true });
  }

  /** A function reset: the back end's `reset('function')`, then the registers are at power-on. */
  override async reset(): Promise<void> {
    if (this.#closed) return;
    await this.#port.reset('function');
    await this.#powerOn();
  }

  #letGo(): void {
    if (this.#holds === 0) return;
    this.#holds--;
    this.#orders.release();
  }

  async #powerOn(): Promise<void> {
    this.#orders.clear();
    await super.reset();
  }

  #announceReady(): void {
    if (!this.#mapped || this.#ready || this.#closed) return;
    this.#ready = true;
    void this.#port.ready();
  }
}

/** What probing an emulated PCI device makes: the function for a transport to serve, the emulated device for a back end to attach to. */
export interface EmulatedPciVdev<D extends PciDevice = PciDevice> extends VdevDevice {
  readonly pci: D;
  readonly emudev: Emudev;
}

/** The `probe` of a driver whose PCI function knows its emulated device (an `EmulatedPciDevice` does): makes it, and closes and releases it at the end. */
export function emulatedVdev<D extends PciDevice & { readonly emudev: Emudev }>(name: string, context: Pick<VdevContext, 'registry'>, make: (registry: EmudevRegistryLike) => D): EmulatedPciVdev<D> {
  const { registry } = context;
  let allocated = false;
  let pci: D;
  try {
    pci = make({
      allocate: (wanted, provider) => {
        const port = registry.allocate(wanted, provider);
        allocated = true;
        return port;
      },
      release: (wanted) => { registry.release(wanted); },
      byName: (wanted) => registry.byName(wanted),
    });
  } catch (error) {
    // A constructor that fails behind the allocation must not keep the name.
    if (allocated) registry.release(name);
    throw error;
  }
  const { emudev } = pci;
  return {
    name,
    pci,
    emudev,
    async close() {
      try {
        if (emudev.state !== 'closed') await emudev.close();
      } finally {
        registry.release(name);
      }
    },
  };
}
