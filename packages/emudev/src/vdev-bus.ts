import { parseArgs } from './args.ts';
import type { Emudev } from './device.ts';
import type { DriverCatalog } from './discover.ts';
import { packageToInstall } from './discover.ts';
import { EmudevError } from './errors.ts';
import { describeDriver } from './help.ts';
import { parseVdev, type VdevText } from './kvargs.ts';
import { EmudevRegistry } from './registry.ts';
import type { ArgSchema, EmudevRegistryLike, VdevClass, VdevContext, VdevDevice } from './vdev.ts';

/** A driver whose argument type is its own business. */
export interface AnyVdevDriver {
  readonly name: string;
  readonly class: VdevClass;
  readonly summary: string;
  readonly args: object;
  probe(name: string, args: never, context: VdevContext): Promise<VdevDevice>;
}

export interface VdevBusOptions {
  /** Where emulated devices are registered; a new one by default. */
  readonly registry?: EmudevRegistryLike;
  /** Drivers that are imported when a device first names them. */
  readonly catalog?: DriverCatalog;
}

/** A device that the bus has probed. */
export interface ProbedDevice {
  readonly name: string;
  readonly driver: AnyVdevDriver;
  readonly device: VdevDevice;
}

/** Makes devices from text, in order, and closes them in reverse. */
export class VdevBus implements AsyncDisposable {
  readonly registry: EmudevRegistryLike;
  readonly #catalog: DriverCatalog | undefined;
  readonly #drivers = new Map<string, AnyVdevDriver>();
  readonly #devices: ProbedDevice[] = [];
  /** Names being probed: a second probe of one must not win the race. */
  readonly #probing = new Set<string>();

  constructor(options: VdevBusOptions = {}) {
    this.registry = options.registry ?? new EmudevRegistry();
    this.#catalog = options.catalog;
  }

  /** Adds a driver. EMUDEV_EXISTS for a second one of the name, or for a name that is another's instance name (net_tap1). */
  register(driver: AnyVdevDriver): this {
    for (const other of this.#drivers.keys()) {
      if (other === driver.name || isInstanceOf(driver.name, other) || isInstanceOf(other, driver.name)) {
        throw new EmudevError('EMUDEV_EXISTS', `driver ${driver.name} clashes with driver ${other}: a device name could mean either`);
      }
    }
    this.#drivers.set(driver.name, driver);
    return this;
  }

  /** Makes one device. Errors: EMUDEV_BAD_ARG, EMUDEV_EXISTS, EMUDEV_NODRIVER, and what the driver throws. */
  async probe(vdev: string | VdevText): Promise<ProbedDevice> {
    const { name, pairs } = typeof vdev === 'string' ? parseVdev(vdev) : vdev;
    if (this.#probing.has(name) || this.byName(name) !== undefined) {
      throw new EmudevError('EMUDEV_EXISTS', `there is a device ${name} already; give each --vdev its own name, as in ${name}_b`);
    }
    this.#probing.add(name);
    try {
      const driver = await this.#driverFor(name);
      const args = parseArgs(driver.args as ArgSchema<unknown>, pairs, name);
      const context: VdevContext = { registry: this.registry, findEmudev: (wanted): Emudev | undefined => this.registry.byName(wanted) };
      const probed: ProbedDevice = { name, driver, device: await driver.probe(name, args as never, context) };
      this.#devices.push(probed);
      return probed;
    } finally {
      this.#probing.delete(name);
    }
  }

  /** Probes in order. When one fails, those made by this call are closed again and its error is thrown. */
  async probeAll(vdevs: readonly (string | VdevText)[]): Promise<readonly ProbedDevice[]> {
    const made: ProbedDevice[] = [];
    try {
      for (const vdev of vdevs) made.push(await this.probe(vdev));
      return made;
    } catch (error) {
      // The first error is the one to report; what goes wrong while undoing it would only hide it.
      for (const probed of made.reverse()) await this.remove(probed.name).catch(() => undefined);
      throw error;
    }
  }

  byName(name: string): ProbedDevice | undefined {
    return this.#devices.find((probed) => probed.name === name);
  }

  list(): readonly ProbedDevice[] {
    return [...this.#devices];
  }

  /** Closes one device. EMUDEV_NOENT. */
  async remove(name: string): Promise<void> {
    const at = this.#devices.findIndex((probed) => probed.name === name);
    const [probed] = at === -1 ? [] : this.#devices.splice(at, 1);
    if (probed === undefined) throw new EmudevError('EMUDEV_NOENT', `there is no device ${name}`);
    await probed.device.close();
  }

  /** Closes all devices, last probed first, whatever fails on the way; then throws what failed. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (let last = this.#devices.at(-1); last !== undefined; last = this.#devices.at(-1)) {
      await this.remove(last.name).catch((error: unknown) => { failures.push(error); });
    }
    if (failures.length > 0) throw new AggregateError(failures, 'devices failed to close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What every driver (or one) takes; loads the catalog's drivers, and tells in a line which of them could not be. */
  async help(driverName?: string): Promise<string> {
    const names = driverName === undefined ? this.#knownNames() : [driverName];
    const parts: string[] = [];
    for (const name of names.toSorted()) {
      try {
        parts.push(describeDriver(await this.#load(name)));
      } catch (error) {
        if (driverName !== undefined) throw error;
        parts.push(`  ${name}  (cannot be loaded: ${error instanceof Error ? error.message : String(error)})`);
      }
    }
    return parts.join('\n');
  }

  #knownNames(): string[] {
    return [...new Set([...this.#drivers.keys(), ...(this.#catalog?.list().map((entry) => entry.driver) ?? [])])];
  }

  /** DPDK's rule: a device belongs to the driver whose name it begins with; the longest wins (net_iavf_be0 is not net_iavf's). */
  async #driverFor(deviceName: string): Promise<AnyVdevDriver> {
    const match = this.#knownNames()
      .filter((name) => deviceName.startsWith(name))
      .sort((a, b) => b.length - a.length)[0];
    if (match === undefined) {
      const known = this.#knownNames().toSorted().join(', ') || 'none';
      throw new EmudevError('EMUDEV_NODRIVER', `no driver for device ${deviceName}: install ${packageToInstall(deviceName)}; drivers here: ${known}`);
    }
    return this.#load(match);
  }

  async #load(name: string): Promise<AnyVdevDriver> {
    const present = this.#drivers.get(name);
    if (present !== undefined) return present;
    if (this.#catalog === undefined) throw new EmudevError('EMUDEV_NODRIVER', `no driver ${name}: install ${packageToInstall(name)}`);
    const driver = await this.#catalog.load(name);
    // Two probes may have awaited the same import.
    if (!this.#drivers.has(name)) this.register(driver);
    return driver;
  }
}

/** `net_tap1` is an instance name of `net_tap`. */
function isInstanceOf(name: string, driver: string): boolean {
  return name.startsWith(driver) && /^\d+$/.test(name.slice(driver.length));
}
