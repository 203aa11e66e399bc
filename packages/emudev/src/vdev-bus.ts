import { parseArgs } from './args.ts';
import type { Emudev } from './device.ts';
import type { DriverCatalog } from './discover.ts';
import { DriverTable, type AnyVdevDriver } from './driver-table.ts';
import { EmudevError } from './errors.ts';
import { describeDriver } from './help.ts';
import { checkDeviceName, parseVdev, type KeyValue, type VdevText } from './kvargs.ts';
import { EmudevRegistry } from './registry.ts';
import type { ArgSchema, EmudevRegistryLike, VdevClass, VdevContext, VdevDevice } from './vdev.ts';
import { publishVdev } from './vdev-events.ts';

/** What a bus works with. */
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

interface Underway {
  readonly what: 'probed' | 'removed';
  /** Settles with it. */
  readonly end: Promise<unknown>;
}

/**
 * Makes devices from text, in order, and closes them in reverse; at run time, too.
 *
 * | the device is … | probe           | remove                                            | found by other drivers |
 * | --------------- | --------------- | ------------------------------------------------- | ---------------------- |
 * | not there       | → being probed  | EMUDEV_NOENT                                      | no                     |
 * | being probed    | EMUDEV_EXISTS   | EMUDEV_BAD_STATE                                  | no                     |
 * | there           | EMUDEV_EXISTS   | → being removed; EMUDEV_BAD_STATE while it is used | yes                    |
 * | being removed   | EMUDEV_EXISTS   | the same end                                      | no                     |
 *
 * After `close` nothing can be probed: EMUDEV_BAD_STATE.
 */
export class VdevBus implements AsyncDisposable {
  readonly registry: EmudevRegistryLike;
  readonly #drivers: DriverTable;
  /** In the order in which their probes ended: a user comes after what it uses. */
  readonly #devices: ProbedDevice[] = [];
  readonly #underway = new Map<string, Underway>();
  /** Device, also one being probed, to the emulated devices it has found. */
  readonly #uses = new Map<string, Set<string>>();
  #closing: Promise<void> | undefined;

  constructor(options: VdevBusOptions = {}) {
    this.registry = options.registry ?? new EmudevRegistry();
    this.#drivers = new DriverTable(options.catalog);
  }

  /** Adds a driver. EMUDEV_EXISTS for a name or alias that is another driver's, or another's instance name (net_tap1). */
  register(driver: AnyVdevDriver): this {
    this.#drivers.register(driver);
    return this;
  }

  /** Makes one device. Errors: EMUDEV_BAD_ARG, EMUDEV_EXISTS, EMUDEV_NODRIVER, EMUDEV_BAD_STATE (closed), and what the driver throws. */
  async probe(vdev: string | VdevText): Promise<ProbedDevice> {
    const { name, pairs } = typeof vdev === 'string' ? parseVdev(vdev) : vdev;
    checkDeviceName(name);
    if (this.#closing !== undefined) throw new EmudevError('EMUDEV_BAD_STATE', `${name}: the bus is closed`);
    const underway = this.#underway.get(name);
    if (underway !== undefined) throw new EmudevError('EMUDEV_EXISTS', `device ${name} is just being ${underway.what}; try again when that is over, or use another name`);
    if (this.byName(name) !== undefined) throw new EmudevError('EMUDEV_EXISTS', `there is a device ${name} already; give each --vdev its own name, as in ${name}_b`);
    const probed = await this.#during(name, 'probed', () => this.#probe(name, pairs));
    publishVdev({ event: 'added', device: name, driver: probed.driver.name, class: probed.driver.class });
    return probed;
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

  /** The device of this name; undefined where there is none, or while it is still being probed. */
  byName(name: string): ProbedDevice | undefined {
    return this.#devices.find((probed) => probed.name === name);
  }

  /** All probed devices, in the order in which their probes ended. */
  list(): readonly ProbedDevice[] {
    return [...this.#devices];
  }

  /** Devices, also ones being probed, that use the emulated device of this name. */
  usersOf(name: string): readonly string[] {
    return [...this.#uses].filter(([, used]) => used.has(name)).map(([user]) => user);
  }

  /** The class of the driver that a device of this name would be offered to first; undefined where there is none. Nothing is imported. */
  classOf(deviceName: string): VdevClass | undefined {
    return this.#drivers.classOf(deviceName);
  }

  /**
   * Closes one device; its name is free when that is over, whatever closing threw. EMUDEV_NOENT; EMUDEV_BAD_STATE while others use
   * it, or while it is being probed.
   */
  async remove(name: string): Promise<void> {
    const underway = this.#underway.get(name);
    if (underway?.what === 'removed') {
      await underway.end;
      return;
    }
    if (underway !== undefined) throw new EmudevError('EMUDEV_BAD_STATE', `device ${name} is just being probed`);
    const at = this.#devices.findIndex((probed) => probed.name === name);
    const probed = this.#devices[at];
    if (probed === undefined) throw new EmudevError('EMUDEV_NOENT', `there is no device ${name}`);
    const users = this.usersOf(name);
    if (users.length > 0) throw new EmudevError('EMUDEV_BAD_STATE', `device ${name} is used by ${users.join(', ')}: remove ${users.length === 1 ? 'it' : 'them'} first`);
    this.#devices.splice(at, 1);
    const report = { event: 'removed', device: name, driver: probed.driver.name, class: probed.driver.class } as const;
    try {
      await this.#during(name, 'removed', () => probed.device.close().finally(() => { this.#uses.delete(name); }));
    } catch (error) {
      publishVdev({ ...report, error });
      throw error;
    }
    publishVdev(report);
  }

  /** Closes all devices, last probed first, whatever fails on the way; then throws what failed. Waits for what is under way. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What every driver (or one) takes; loads the catalog's drivers, and tells in a line which of them could not be. */
  async help(driverName?: string): Promise<string> {
    const parts: string[] = [];
    for (const name of driverName === undefined ? this.#drivers.names() : [driverName]) {
      try {
        parts.push(describeDriver(await this.#drivers.load(name)));
      } catch (error) {
        if (driverName !== undefined) throw error;
        parts.push(`  ${name}  (cannot be loaded: ${messageOf(error)})`);
      }
    }
    return parts.join('\n');
  }

  async #during<T>(name: string, what: Underway['what'], operation: () => Promise<T>): Promise<T> {
    const end = operation().finally(() => { this.#underway.delete(name); });
    this.#underway.set(name, { what, end });
    return end;
  }

  async #probe(name: string, pairs: readonly KeyValue[]): Promise<ProbedDevice> {
    const declined: string[] = [];
    for (const candidate of this.#drivers.candidates(name)) {
      const driver = await this.#drivers.load(candidate);
      const args = parseArgs(driver.args as ArgSchema<unknown>, pairs, name);
      try {
        const probed: ProbedDevice = { name, driver, device: await driver.probe(name, args as never, this.#contextOf(name)) };
        this.#devices.push(probed);
        return probed;
      } catch (error) {
        this.#uses.delete(name);
        if (!(error instanceof EmudevError && error.code === 'EMUDEV_NOT_MINE')) throw error;
        declined.push(`${driver.name} declines (${error.message})`);
      }
    }
    throw new EmudevError('EMUDEV_NODRIVER', `no driver takes device ${name}: ${declined.join(', ')}`);
  }

  #contextOf(name: string): VdevContext {
    const uses = new Set<string>();
    this.#uses.set(name, uses);
    return {
      registry: this.registry,
      findEmudev: (wanted): Emudev | undefined => {
        // One being probed may still fail, one that goes is gone.
        if (this.#underway.has(wanted)) return undefined;
        const found = this.registry.byName(wanted);
        if (found !== undefined) uses.add(wanted);
        return found;
      },
    };
  }

  async #close(): Promise<void> {
    // No probe begins any more, so this ends.
    while (this.#underway.size > 0) await Promise.allSettled([...this.#underway.values()].map(({ end }) => end));
    const failures: unknown[] = [];
    for (const { name } of [...this.#devices].reverse()) {
      await this.remove(name).catch((error: unknown) => { failures.push(error); });
    }
    if (failures.length > 0) throw new AggregateError(failures, 'devices failed to close');
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
