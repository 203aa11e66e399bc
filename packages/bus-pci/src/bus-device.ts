/** What a driver of a PCI device gets, whatever the device is and wherever it is. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Window } from '@emudev/dma';
import { linux } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import { PciConfig } from '@emudev/vfio-user-client';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '@emudev/vfio-user-protocol';
import type { PciAddress } from './address.ts';
import { Bar } from './bar.ts';
import { BusDma } from './bus-dma.ts';
import type { BusDmaOptions } from './bus-dma.ts';
import { BusInterrupts } from './bus-interrupts.ts';
import type { DeviceSource } from './device-source.ts';
import { BusError } from './errors.ts';
import type { PciIds } from './found.ts';
import { MAX_BARS } from './limits.ts';
import type { BusDeviceEnd, BusMapping, BusRegion, PciTransport } from './transport.ts';

/** For `BusDevice.open` and `BusDevice.from`. */
export interface BusDeviceOptions {
  readonly dma?: BusDmaOptions;
  readonly sys?: Sys;
}

/** Of a configuration space: the header (PCI Local Bus 3.0, 6.1), and registers in it. */
const HEADER_BYTES = 64;
const COMMAND = 0x04;
const COMMAND_IO = 1;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;
const FIRST_BAR = 0x10;
const BAR_IO = 1;

/**
 * An open PCI device: identity, registers, interrupts, memory. Every method rejects with a `BusError`, as `PciTransport` says. When it has gone
 * (`closed`) it still has to be closed.
 */
export class BusDevice implements AsyncDisposable {
  readonly address: PciAddress;
  /** The configuration space. What lies beyond the device's (samples of mdev have 255 bytes) reads as 0. `bars` switches the BARs off meanwhile: use `bar`. */
  readonly config: PciConfig;
  readonly ids: PciIds;
  readonly interrupts: BusInterrupts;
  readonly dma: BusDma;
  /** Settles, never rejects, when the device is closed or has gone. */
  readonly closed: Promise<BusDeviceEnd>;
  readonly #transport: PciTransport;
  readonly #window: Window;
  readonly #bars = new Map<number, Promise<Bar>>();
  readonly #mappings: BusMapping[] = [];
  #commands: Promise<unknown> = Promise.resolve();
  #master = false;
  #closing: Promise<void> | undefined;

  /** Opens a device of a source. What opening says; then nothing stays open. */
  static async open(source: DeviceSource, address: PciAddress, options: BusDeviceOptions & { readonly signal?: AbortSignal } = {}): Promise<BusDevice> {
    return BusDevice.from(await source.open(address, options.signal), options);
  }

  /** A device of an open transport, which it owns, also when it rejects. ERR_BUS_GONE where nothing answers in the configuration space. */
  static async from(transport: PciTransport, options: BusDeviceOptions = {}): Promise<BusDevice> {
    try {
      const index = VFIO_PCI_CONFIG_REGION_INDEX;
      const sizeBytes = index < transport.regionCount ? (await transport.region(index)).sizeBytes : 0;
      if (sizeBytes < HEADER_BYTES) throw new BusError('ERR_BUS_UNUSABLE', `the device has ${sizeBytes} bytes of configuration space: it is no PCI device`);
      const config = new PciConfig(configAccess(transport, sizeBytes));
      const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = await config.header();
      return new BusDevice(transport, config, { vendor: vendorId, device: deviceId, subsystemVendor: subsystemVendorId, subsystemDevice: subsystemId, classCode }, options);
    } catch (error) {
      await transport.close();
      throw error;
    }
  }

  private constructor(transport: PciTransport, config: PciConfig, ids: PciIds, { dma = {}, sys = linux }: BusDeviceOptions) {
    this.#transport = transport;
    this.#window = Window.open();
    this.address = transport.address;
    this.config = config;
    this.ids = ids;
    this.closed = transport.closed;
    this.interrupts = new BusInterrupts(transport, sys);
    this.dma = new BusDma(transport, this.#window, sys, dma);
    void transport.closed.then((end) => { this.interrupts.end(end === 'gone' ? new BusError('ERR_BUS_GONE', 'the device has gone') : undefined); });
  }

  /** Regions there may be: BARs (0 to 5), ROM (6), configuration space (7), VGA (8), then the device's own. */
  get regionCount(): number {
    return this.#transport.regionCount;
  }

  /** Whether `reset` does something. */
  get resettable(): boolean {
    return this.#transport.resettable;
  }

  /** Size, access and kind of a region; 0 bytes: there is none. */
  region(index: number): Promise<BusRegion> {
    return this.#transport.region(index);
  }

  /** Fills `into` from a region, in one access. */
  read(region: number, offset: number, into: Uint8Array): Promise<void> {
    return this.#transport.read(region, offset, into);
  }

  /** Writes into a region, in one access. `posted`: resolves when it is on its way, and that it was refused remains unknown. */
  write(region: number, offset: number, from: Uint8Array, options?: { readonly posted?: boolean }): Promise<void> {
    return this.#transport.write(region, offset, from, options);
  }

  /**
   * BAR `index`, 0 to 5: made once, mapped where the device offers that and it is safe, and decoded by the device. ERR_BUS_RANGE where there is none (the upper
   * half of a 64-bit BAR is none).
   */
  bar(index: number): Promise<Bar> {
    const known = this.#bars.get(index);
    if (known !== undefined) return known;
    const made = this.#makeBar(index);
    this.#bars.set(index, made);
    made.catch(() => this.#bars.delete(index));
    return made;
  }

  /** Whether the device may use its DMA maps, and signal MSI and MSI-X (PCI command register, bit 2). `close` switches it off. */
  async setBusMaster(on: boolean): Promise<void> {
    await this.#command(on ? COMMAND_MASTER : 0, on ? 0 : COMMAND_MASTER);
    this.#master = on;
  }

  /** Function reset: registers to power-on; DMA maps, eventfds and the command register stay. ERR_BUS_REFUSED where the device has none (`resettable`). */
  reset(): Promise<void> {
    return this.#inTurn(async () => {
      const command = await this.#readCommand();
      await this.#transport.reset();
      // The kernel does so by itself, a vfio-user server does not.
      if (await this.#readCommand() !== command) await this.#writeCommand(command);
    });
  }

  /** Calls back when the owner of the device wants it back: close it soon. */
  onReleaseRequest(callback: () => void): Disposable {
    return this.#transport.onReleaseRequest(callback);
  }

  /**
   * Ends everything: interrupts, bus mastering, DMA, mapped BARs and memory of `dma.allocate`, in that order. Never rejects. `keepBars`: mapped BARs stay in the window
   * for good, for who may still store there; a kernel device is then in use until the process ends.
   */
  close(options: { readonly keepBars?: boolean } = {}): Promise<void> {
    return this.#closing ??= this.#close(options.keepBars === true);
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #makeBar(index: number): Promise<Bar> {
    if (!Number.isInteger(index) || index < 0 || index >= MAX_BARS) throw new BusError('ERR_BUS_RANGE', `BAR ${index}; there are 0 to ${MAX_BARS - 1}`);
    const region = await this.#transport.region(index);
    if (region.sizeBytes === 0) throw new BusError('ERR_BUS_RANGE', `the device has no BAR ${index}`);
    const register = new Uint8Array(4);
    await this.#transport.read(VFIO_PCI_CONFIG_REGION_INDEX, FIRST_BAR + 4 * index, register);
    const kind = (register[0]! & BAR_IO) === 0 ? 'memory' : 'io';
    await this.#command(kind === 'io' ? COMMAND_IO : COMMAND_MEMORY, 0);
    const mapping = kind === 'io' || region.areas.length === 0 ? undefined : await this.#map(index);
    return new Bar(this.#transport, region, kind, this.#window, mapping);
  }

  /** undefined: what the device offers is not safe to map. */
  async #map(index: number): Promise<BusMapping | undefined> {
    let mapping: BusMapping;
    try {
      mapping = await this.#transport.map(index, this.#window);
    } catch (error) {
      if (error instanceof BusError && error.code === 'ERR_BUS_NOT_MAPPABLE') return undefined;
      throw error;
    }
    if (this.#closing !== undefined) {
      mapping[Symbol.dispose]();
      throw new BusError('ERR_BUS_CLOSED', 'the device is closed');
    }
    this.#mappings.push(mapping);
    return mapping;
  }

  /** Changes bits of the command register. */
  #command(set: number, clear: number): Promise<void> {
    return this.#inTurn(async () => {
      const was = await this.#readCommand();
      const now = was & ~clear | set;
      if (now !== was) await this.#writeCommand(now);
    });
  }

  async #readCommand(): Promise<number> {
    const bytes = new Uint8Array(2);
    await this.#transport.read(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, bytes);
    return bytes[0]! | bytes[1]! << 8;
  }

  #writeCommand(command: number): Promise<void> {
    return this.#transport.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, Uint8Array.of(command, command >>> 8));
  }

  /** One change of the command register at a time. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const changed = this.#commands.then(change);
    this.#commands = changed.catch(() => {});
    return changed;
  }

  async #close(keepBars: boolean): Promise<void> {
    // Before its memory goes; a device that refuses loses its DMA maps all the same.
    if (this.#master) await this.setBusMaster(false).catch(() => {});
    // Before the transport: a mapping keeps a kernel device open.
    if (!keepBars) for (const mapping of this.#mappings.splice(0)) mapping[Symbol.dispose]();
    await this.#transport.close();
    this.interrupts.end();
    await this.dma.close();
    // Large mappings go slice by slice. Whoever opens the device next should find it free.
    while (!keepBars && this.#window.releasing) await nextTurn();
    this.#window[Symbol.dispose]();
  }
}

function configAccess(transport: PciTransport, sizeBytes: number): ConstructorParameters<typeof PciConfig>[0] {
  return {
    sizeBytes,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length);
      const there = Math.min(length, sizeBytes - offset);
      if (there <= 0) throw new BusError('ERR_BUS_RANGE', `${length} bytes at ${offset} of a configuration space of ${sizeBytes}`);
      await transport.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes.subarray(0, there));
      if (offset === 0 && bytes[0] === 0xff && bytes[1] === 0xff) throw new BusError('ERR_BUS_GONE', 'no device answers in the configuration space');
      return bytes;
    },
    write: (offset, bytes) => transport.write(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes),
  };
}
