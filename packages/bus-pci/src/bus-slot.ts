/**
 * One device on the bus, and what has become of it. Probing and unplugging of one device happen one after the other.
 *
 * | state             | probe             | unplug            | device gone, wanted back | found again, changed | not found again |
 * | ----------------- | ----------------- | ----------------- | ------------------------ | -------------------- | --------------- |
 * | found             | → probing         | nothing           | -                        | updated              | dropped         |
 * | probing           | waits             | waits             | → failed (ERR_BUS_GONE)  | reported             | reported        |
 * | driven            | nothing           | → removing        | → removing, if bus may   | reported             | reported        |
 * | removing          | waits             | waits             | -                        | reported             | reported        |
 * | unclaimed, failed | → probing         | nothing           | -                        | → found              | dropped         |
 *
 * probing → driven, unclaimed or failed; removing → found.
 */
import { isDeepStrictEqual } from 'node:util';
import type { KeyValue } from '@emudev/emudev';
import { formatAddress } from './address.ts';
import type { PciAddress } from './address.ts';
import { BusDevice } from './bus-device.ts';
import type { BusDeviceOptions } from './bus-device.ts';
import type { DeviceSource } from './device-source.ts';
import type { PciDriver } from './driver.ts';
import { BusError } from './errors.ts';
import { publish } from './events.ts';
import type { FoundDevice, PciIds } from './found.ts';
import { matchesIds } from './id-table.ts';

/** See the table in `bus-slot.ts`. */
export type BusSlotState = 'found' | 'probing' | 'driven' | 'removing' | 'unclaimed' | 'failed';

/** A device on a bus. It changes; hold on to the address. */
export interface BusEntry {
  readonly address: PciAddress;
  /** What the scan said; of a device that is driven, the scan before. */
  readonly found: FoundDevice;
  readonly state: BusSlotState;
  /** From the scan, or from the device when it was opened; undefined where it has not been. */
  readonly ids: PciIds | undefined;
  /** The driver that has it, and what the driver has made of it. */
  readonly driver: string | undefined;
  readonly handle: unknown;
  /** Why it failed. */
  readonly error: BusError | undefined;
}

/** What slots share. */
export interface SlotBus {
  readonly device: BusDeviceOptions;
  /** Aborted when the bus is disposed of. */
  readonly signal: AbortSignal;
  readonly drivers: () => readonly PciDriver<unknown>[];
  /** A driven device has gone, or is wanted back. */
  ended(slot: BusSlot): void;
  /** It is driven no more. */
  undriven(slot: BusSlot): void;
}

interface Driven {
  readonly driver: PciDriver<unknown>;
  readonly handle: unknown;
  readonly device: BusDevice;
}

export class BusSlot implements BusEntry {
  readonly source: DeviceSource;
  found: FoundDevice;
  state: BusSlotState = 'found';
  /** Nobody has tried to drive it yet, as it is now. */
  fresh = true;
  /** The last scan has seen it. */
  present = true;
  error: BusError | undefined;
  readonly #bus: SlotBus;
  #opened: PciIds | undefined;
  #driven: Driven | undefined;
  #work: Promise<unknown> = Promise.resolve();

  constructor(source: DeviceSource, found: FoundDevice, bus: SlotBus) {
    this.source = source;
    this.found = found;
    this.#bus = bus;
  }

  get address(): PciAddress {
    return this.found.address;
  }

  get ids(): PciIds | undefined {
    return this.found.ids ?? this.#opened;
  }

  get driver(): string | undefined {
    return this.#driven?.driver.name;
  }

  get handle(): unknown {
    return this.#driven?.handle;
  }

  /** A scan has found it. Whether anything differs from what was known. */
  foundAgain(found: FoundDevice): boolean {
    this.present = true;
    if (isDeepStrictEqual(found, this.found)) return false;
    if (this.#isIdle()) {
      this.found = found;
      this.renew();
    }
    return true;
  }

  /** Another device may be at this place. */
  renew(): void {
    if (!this.#isIdle()) return;
    [this.state, this.fresh, this.error, this.#opened] = ['found', true, undefined, undefined];
  }

  /** A scan has not found it; true if it may be dropped. */
  notFound(): boolean {
    this.present = false;
    return this.#isIdle();
  }

  /** Finds it a driver. What becomes of it is the state; never rejects. False, and nothing happens, where it is driven already. */
  probe(args: readonly KeyValue[]): Promise<boolean> {
    return this.#then(async () => {
      if (this.state === 'driven') return false;
      if (!this.present) {
        // Dropped while this waited for its turn: if the device is back, it has another slot.
        [this.state, this.error] = ['failed', new BusError('ERR_BUS_GONE', `${formatAddress(this.address)} is not there any more`)];
        return true;
      }
      [this.state, this.fresh, this.error] = ['probing', false, undefined];
      try {
        this.#driven = await this.#findDriver(args);
        this.state = this.#driven === undefined ? 'unclaimed' : 'driven';
      } catch (error) {
        this.state = 'failed';
        this.error = asProbeError(this.address, error);
        publish({ type: 'failed', address: this.address, error: this.error });
      }
      if (this.#driven !== undefined) {
        publish({ type: 'driven', address: this.address, driver: this.#driven.driver.name });
        this.#attend(this.#driven);
      }
      return true;
    });
  }

  /** Takes it from its driver (from this one only), if it has one, and closes it. ERR_BUS_PROBE where the driver fails at that; it is closed all the same. */
  unplug(from?: string): Promise<void> {
    return this.#then(async () => {
      const driven = this.#driven;
      if (driven === undefined || (from !== undefined && driven.driver.name !== from)) return;
      this.state = 'removing';
      const { driver, handle, device } = driven;
      try {
        await driver.remove(handle);
      } catch (cause) {
        const error = new BusError('ERR_BUS_PROBE', `${driver.name} failed to let go of ${formatAddress(this.address)}: ${messageOf(cause)}`, { cause });
        publish({ type: 'failed', address: this.address, error });
        throw error;
      } finally {
        await device.close();
        this.#driven = undefined;
        this.state = 'found';
        this.#bus.undriven(this);
        publish({ type: 'undriven', address: this.address, driver: driver.name });
      }
    });
  }

  async #findDriver(args: readonly KeyValue[]): Promise<Driven | undefined> {
    let device: BusDevice | undefined;
    try {
      for (const driver of this.#bus.drivers()) {
        this.#bus.signal.throwIfAborted();
        if (this.ids !== undefined && !matchesIds(driver.ids, this.ids)) continue;
        // Opened only when a driver may take it, and anew for each one.
        device ??= await BusDevice.open(this.source, this.address, { ...this.#bus.device, signal: this.#bus.signal });
        this.#opened = device.ids;
        if (!matchesIds(driver.ids, this.ids!)) continue;
        const handle = await this.#askDriver(driver, device, args);
        if (handle !== 'not-mine') {
          const driven = { driver, handle, device };
          device = undefined;
          return driven;
        }
        await device.close();
        device = undefined;
      }
      return undefined;
    } finally {
      await device?.close();
    }
  }

  /** Waits no longer than the device is there, and the bus. */
  async #askDriver(driver: PciDriver<unknown>, device: BusDevice, args: readonly KeyValue[]): Promise<unknown> {
    const { signal } = this.#bus;
    const ended = Promise.withResolvers<never>();
    const onAbort = (): void => { ended.reject(new BusError('ERR_BUS_CLOSED', 'the bus is closed')); };
    signal.addEventListener('abort', onAbort, { once: true });
    void device.closed.then(() => { ended.reject(new BusError('ERR_BUS_GONE', `${formatAddress(this.address)} has gone while ${driver.name} probed it`)); });
    const asked = (async () => driver.probe(device, args))();
    try {
      if (signal.aborted) onAbort();
      return await Promise.race([ended.promise, asked]);
    } catch (error) {
      asked.then((handle) => (handle === 'not-mine' ? undefined : driver.remove(handle))).catch(() => {});
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #attend({ device }: Driven): void {
    const stillDriven = (): boolean => this.#driven?.device === device && this.state === 'driven';
    const tell = (type: 'gone' | 'wanted-back'): void => {
      if (!stillDriven()) return;
      publish({ type, address: this.address });
      this.#bus.ended(this);
    };
    try {
      device.onReleaseRequest(() => { tell('wanted-back'); });
    } catch (error) {
      // It has gone already, or nobody will ever ask for it.
      if (!(error instanceof BusError)) throw error;
    }
    void device.closed.then((end) => { if (end === 'gone') tell('gone'); });
  }

  #isIdle(): boolean {
    return this.state === 'found' || this.state === 'unclaimed' || this.state === 'failed';
  }

  #then<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => {});
    return done;
  }
}

function asProbeError(address: PciAddress, error: unknown): BusError {
  return error instanceof BusError ? error : new BusError('ERR_BUS_PROBE', `${formatAddress(address)} cannot be probed: ${messageOf(error)}`, { cause: error });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
