/** The bus: devices of all sources in one list, each with the driver that takes it. */
import { compareAddresses, formatAddress } from './address.ts';
import type { PciAddress } from './address.ts';
import type { BusDeviceOptions } from './bus-device.ts';
import { BusSlot } from './bus-slot.ts';
import type { BusEntry, SlotBus } from './bus-slot.ts';
import type { DeviceSource, HotPlugEvent } from './device-source.ts';
import type { PciDriver } from './driver.ts';
import { BusError } from './errors.ts';
import { publish } from './events.ts';
import type { FoundDevice } from './found.ts';
import { pollDevices } from './hot-plug.ts';
import { parseSelector, Selection } from './selection.ts';
import type { Selector } from './selection.ts';

/** For a `PciBus`. */
export interface PciBusOptions {
  /** Which devices `probe` and `watch` take; all by default. */
  readonly selection?: Selection;
  /** What devices are opened with. */
  readonly device?: BusDeviceOptions;
  /** A driven device that has gone, or that its owner wants back: 'unplug' it (the default), or leave it to who listens on `BUS_CHANNEL`. */
  readonly onGone?: 'unplug' | 'report';
}

/** What a scan has found new about the devices, and the sources that failed: of those everything is left as it was. */
export interface ScanReport {
  readonly devices: readonly BusEntry[];
  readonly added: readonly PciAddress[];
  /** Driven ones included, which stay in the list until they are unplugged. */
  readonly removed: readonly PciAddress[];
  /** Driven ones included, of which `found` stays as it was. */
  readonly changed: readonly PciAddress[];
  readonly failures: readonly { readonly kinds: readonly PciAddress['kind'][]; readonly error: unknown }[];
}

/** What has become of the devices that were to be probed. */
export interface ProbeReport {
  readonly driven: readonly BusEntry[];
  /** No driver is for it, or wants it. */
  readonly unclaimed: readonly PciAddress[];
  readonly failed: readonly { readonly address: PciAddress; readonly error: BusError }[];
}

/** How `PciBus.watch` reacts. */
export interface WatchOptions {
  /** Probe devices that appear, if the selection has them; true by default. */
  readonly plug?: boolean;
}

/**
 * Finds devices, finds drivers for them, and notices when they come and go. Dispose of it to unplug everything.
 *
 * A vfio-user socket is connected to only when somebody has named it: in the selection's allow list, or with `plug`.
 */
export class PciBus implements AsyncDisposable {
  readonly #selection: Selection;
  readonly #onGone: 'unplug' | 'report';
  readonly #sources: DeviceSource[] = [];
  readonly #drivers: PciDriver<unknown>[] = [];
  /** By the text of the address. */
  readonly #slots = new Map<string, BusSlot>();
  /** Addresses that were plugged by name. */
  readonly #named = new Map<string, PciAddress>();
  readonly #abort = new AbortController();
  readonly #watches = new Set<Disposable>();
  readonly #slotBus: SlotBus;
  #scanning: Promise<unknown> = Promise.resolve();
  #scanned = false;
  #disposing: Promise<void> | undefined;

  constructor({ selection = Selection.parse({}), device = {}, onGone = 'unplug' }: PciBusOptions = {}) {
    this.#selection = selection;
    this.#onGone = onGone;
    this.#slotBus = {
      device, signal: this.#abort.signal, drivers: () => [...this.#drivers], ended: (slot) => { this.#ended(slot); },
      undriven: (slot) => { if (!slot.present) this.#slots.delete(formatAddress(slot.address)); },
    };
  }

  /** Adds a source; ERR_BUS_STATE where another one has devices of the same kind. Before `scan`. */
  addSource(source: DeviceSource): this {
    const kind = this.#sources.flatMap((each) => each.kinds).find((each) => source.kinds.includes(each));
    if (kind !== undefined) throw new BusError('ERR_BUS_STATE', `there is a source of ${kind} devices already`);
    this.#sources.push(source);
    return this;
  }

  /** Adds a driver; those that came before it are asked first. ERR_BUS_STATE where there is one of this name. */
  register<H>(driver: PciDriver<H>): this {
    if (this.#drivers.some(({ name }) => name === driver.name)) throw new BusError('ERR_BUS_STATE', `there is a driver ${driver.name} already`);
    // It gets back the handles that it has made, and no others.
    this.#drivers.push(driver as PciDriver<unknown>);
    return this;
  }

  /** Unplugs the devices of a driver, and forgets it. Nothing where there is no such driver. Rejects as `unplug`, when all is done. */
  async unregister(name: string): Promise<void> {
    const at = this.#drivers.findIndex((driver) => driver.name === name);
    if (at === -1) return;
    this.#drivers.splice(at, 1);
    await allDone([...this.#slots.values()].map((slot) => async () => {
      // One that it is probing just now: that comes first.
      if (slot.driver === name || slot.state === 'probing') await slot.unplug(name);
    }));
  }

  /** In the order of DPDK: PCI functions, then UUIDs, then sockets. */
  get devices(): readonly BusEntry[] {
    return this.#sorted();
  }

  /** Asks all sources. Rejects only when the bus is disposed of (ERR_BUS_CLOSED). */
  scan(): Promise<ScanReport> {
    const scanned = this.#scanning.then(() => this.#scan());
    this.#scanning = scanned.catch(() => {});
    return scanned;
  }

  /**
   * Finds a driver for every device of the selection that has none, in the order of `devices`, as of the last scan (the first is made here). A device that fails is in the report, and
   * the next one is probed. Devices that the allow list names and that are not there, or cannot be used, are failures, too.
   */
  async probe(): Promise<ProbeReport> {
    if (!this.#scanned) await this.scan();
    this.#checkOpen();
    const slots = this.#sorted().filter((slot) => slot.state !== 'driven' && this.#isSelected(slot));
    const failed = this.#selection.allowed.flatMap(({ address }) => {
      const error = this.#obstacle(address);
      return error === undefined ? [] : [{ address, error }];
    });
    for (const slot of slots) await slot.probe(this.#selection.of(slot.address)!.args);
    return {
      driven: slots.filter(({ state }) => state === 'driven'),
      unclaimed: slots.filter(({ state }) => state === 'unclaimed').map(({ address }) => address),
      failed: [...failed, ...slots.flatMap(({ address, error }) => (error === undefined ? [] : [{ address, error }]))],
    };
  }

  /**
   * Scans, and finds this device a driver, whatever the selection says. ERR_BUS_GONE where it is not there, ERR_BUS_UNUSABLE, ERR_BUS_STATE where it is driven already or
   * no driver takes it; else what probing says.
   */
  async plug(selector: Selector | string): Promise<BusEntry> {
    const { address, args } = typeof selector === 'string' ? parseSelector(selector) : selector;
    const name = formatAddress(address);
    this.#named.set(name, address);
    try {
      await this.scan();
      this.#checkOpen();
      const error = this.#obstacle(address);
      if (error !== undefined) throw error;
      const slot = this.#slots.get(name)!;
      if (!await slot.probe(args)) throw new BusError('ERR_BUS_STATE', `${name} is driven by ${slot.driver ?? 'nobody'} already`);
      if (slot.error !== undefined) throw slot.error;
      if (slot.state !== 'driven') throw new BusError('ERR_BUS_STATE', `no driver takes ${name}`);
      return slot;
    } finally {
      if (this.#slots.get(name)?.state !== 'driven') this.#named.delete(name);
    }
  }

  /** Takes a device from its driver and closes it; nothing where it is not driven. ERR_BUS_PROBE where the driver fails at that; it is closed all the same. */
  async unplug(address: PciAddress): Promise<void> {
    this.#named.delete(formatAddress(address));
    const slot = this.#slots.get(formatAddress(address));
    await slot?.unplug();
  }

  /**
   * Follows the sources' hot-plug events until disposed of: devices of the selection that appear are probed, driven ones that vanish are unplugged (`onGone`). What
   * fails is published on `BUS_CHANNEL`. Sources that announce nothing are scanned every second.
   */
  watch({ plug = true }: WatchOptions = {}): Disposable {
    this.#checkOpen();
    const parts: Disposable[] = [];
    const watching: Disposable = { [Symbol.dispose]: () => {
      this.#watches.delete(watching);
      for (const part of parts.splice(0)) part[Symbol.dispose]();
    } };
    this.#watches.add(watching);
    let [following, again] = [false, false];
    const follow = async (): Promise<void> => {
      again = true;
      if (following) return;
      following = true;
      // Events that come meanwhile are one more round.
      while (again && this.#watches.has(watching)) {
        again = false;
        await this.#follow(plug).catch(() => {});
      }
      following = false;
    };
    const onEvent = ({ kind, address }: HotPlugEvent): void => {
      if (kind === 'added' && address !== undefined) this.#slots.get(formatAddress(address))?.renew();
      void follow();
    };
    for (const source of this.#sources) parts.push(this.#watchSource(source, onEvent));
    // What has come before anybody looked.
    void follow();
    return watching;
  }

  /** Stops watching, unplugs everything, the last device first. Rejects, when all is done, with ERR_BUS_PROBE where drivers have failed. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    this.#abort.abort(new BusError('ERR_BUS_CLOSED', 'the bus is closed'));
    for (const watch of [...this.#watches]) watch[Symbol.dispose]();
    await this.#scanning;
    await allDone([...this.#sorted()].reverse().map((slot) => () => slot.unplug()));
  }

  async #scan(): Promise<ScanReport> {
    const [added, removed, changed]: [PciAddress[], PciAddress[], PciAddress[]] = [[], [], []];
    const failures: ScanReport['failures'][number][] = [];
    const wanted = [...this.#selection.allowed.map(({ address }) => address), ...this.#named.values()];
    for (const source of this.#sources) {
      this.#checkOpen();
      let found: Map<string, FoundDevice>;
      try {
        const list = await source.scan(this.#abort.signal, wanted.filter(({ kind }) => source.kinds.includes(kind)));
        found = new Map(list.map((device) => [formatAddress(device.address), device]));
      } catch (error) {
        this.#checkOpen();
        failures.push({ kinds: source.kinds, error });
        publish({ type: 'source-failed', kinds: source.kinds, error });
        continue;
      }
      for (const [name, slot] of this.#slots) {
        if (slot.source !== source || found.has(name)) continue;
        if (slot.present) removed.push(slot.address);
        if (slot.notFound()) this.#slots.delete(name);
      }
      for (const [name, device] of found) {
        const known = this.#slots.get(name);
        if (known === undefined) {
          this.#slots.set(name, new BusSlot(source, device, this.#slotBus));
          added.push(device.address);
        } else if (known.foundAgain(device)) {
          changed.push(device.address);
        }
      }
    }
    this.#checkOpen();
    this.#scanned = true;
    return { devices: this.devices, added, removed, changed, failures };
  }

  async #follow(plug: boolean): Promise<void> {
    await this.scan();
    for (const slot of this.#sorted()) {
      if (!slot.present) this.#ended(slot);
      else if (plug && slot.fresh && slot.found.unusable === undefined && this.#isSelected(slot)) await slot.probe(this.#selection.of(slot.address)!.args);
    }
  }

  #watchSource(source: DeviceSource, onEvent: (event: HotPlugEvent) => void): Disposable {
    const onError = (error: unknown): void => { publish({ type: 'source-failed', kinds: source.kinds, error }); };
    // It changes nothing but what is polled for: the scan that follows looks again.
    const poll = (): Disposable => {
      let first = true;
      return pollDevices(async () => {
        const found = await source.scan(this.#abort.signal, this.#selection.allowed.map(({ address }) => address));
        // What it finds at first is no news to it, but may be to the bus: who has announced things up to now may have missed some.
        if (first) onEvent({ kind: 'changed' });
        first = false;
        return found;
      }, onEvent, onError);
    };
    let current: Disposable | undefined;
    let stopped = false;
    const fallBack = (error: unknown): void => {
      onError(error);
      if (stopped) return;
      current?.[Symbol.dispose]();
      current = poll();
    };
    try {
      current = source.watch?.(onEvent, fallBack) ?? poll();
    } catch (error) {
      fallBack(error);
    }
    return { [Symbol.dispose]: () => {
      stopped = true;
      current?.[Symbol.dispose]();
    } };
  }

  #ended(slot: BusSlot): void {
    // What the driver says is published.
    if (this.#onGone === 'unplug') slot.unplug().catch(() => {});
  }

  #isSelected({ address, found }: BusSlot): boolean {
    if (found.unusable !== undefined) return false;
    return address.kind === 'vfio-user' ? this.#isAllowed(address) : this.#selection.of(address) !== undefined;
  }

  /** By name: nobody connects to a socket otherwise. */
  #isAllowed(address: PciAddress): boolean {
    return this.#selection.allowed.some((selector) => compareAddresses(selector.address, address) === 0);
  }

  #obstacle(address: PciAddress): BusError | undefined {
    const slot = this.#slots.get(formatAddress(address));
    if (slot?.state === 'driven') return undefined;
    if (slot?.present !== true) return new BusError('ERR_BUS_GONE', `there is no device ${formatAddress(address)}`);
    const { unusable } = slot.found;
    return unusable === undefined ? undefined : new BusError('ERR_BUS_UNUSABLE', `${formatAddress(address)}: ${unusable.detail}`);
  }

  #sorted(): readonly BusSlot[] {
    return [...this.#slots.values()].sort((a, b) => compareAddresses(a.address, b.address));
  }

  #checkOpen(): void {
    this.#abort.signal.throwIfAborted();
  }
}

/** One after the other; what fails is thrown when all are done. */
async function allDone(works: readonly (() => Promise<void>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (const work of works) await work().catch((error: unknown) => { errors.push(error); });
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new BusError('ERR_BUS_PROBE', `${errors.length} devices were not let go of properly`, { cause: new AggregateError(errors) });
}
