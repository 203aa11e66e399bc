import type { DriverCatalog } from './discover.ts';
import { packageToInstall } from './discover.ts';
import { EmudevError } from './errors.ts';
import { suggestion } from './nearest.ts';
import type { VdevClass, VdevContext, VdevDevice } from './vdev.ts';

/** A driver whose argument type is its own business. */
export interface AnyVdevDriver {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly class: VdevClass;
  readonly summary: string;
  readonly args: object;
  /** As `VdevDriver.probe`; `args` is what `args` above has made of the text. */
  probe(name: string, args: never, context: VdevContext): Promise<VdevDevice>;
}

interface KnownName {
  /** A driver's name or alias. */
  readonly prefix: string;
  readonly driver: string;
  readonly class: VdevClass;
}

/** The drivers of a bus: those it was given, and those of the catalog, which are imported when a device first names them. */
export class DriverTable {
  readonly #catalog: DriverCatalog | undefined;
  readonly #drivers = new Map<string, AnyVdevDriver>();

  constructor(catalog: DriverCatalog | undefined) {
    this.#catalog = catalog;
  }

  /** EMUDEV_EXISTS for a name (or alias) that is another's, or that is another's instance name (net_tap1). */
  register(driver: AnyVdevDriver): void {
    const taken = [...this.#drivers.values()].flatMap(namesOf);
    for (const name of namesOf(driver)) {
      const other = taken.find((theirs) => theirs === name || isInstanceOf(name, theirs) || isInstanceOf(theirs, name));
      if (other !== undefined) throw new EmudevError('EMUDEV_EXISTS', `driver ${name} clashes with driver ${other}: a device name could mean either`);
    }
    this.#drivers.set(driver.name, driver);
  }

  names(): string[] {
    return [...new Set(this.#known().map((known) => known.driver))].toSorted();
  }

  /** The class of the driver that is asked first; undefined where there is none. Nothing is imported. */
  classOf(device: string): VdevClass | undefined {
    return this.#matches(device)[0]?.class;
  }

  /**
   * DPDK's rule: a device belongs to the driver whose name (or alias) it begins with. The longest match comes first (net_iavf_be0 is
   * not net_iavf's), the shorter ones are there for those that decline. EMUDEV_NODRIVER where none matches.
   */
  candidates(device: string): readonly string[] {
    const matches = this.#matches(device);
    if (matches.length > 0) return [...new Set(matches.map((match) => match.driver))];
    const known = this.names();
    throw new EmudevError('EMUDEV_NODRIVER', `no driver for device ${device}: install ${packageToInstall(device)}${suggestion(device.replace(/\d+$/, ''), known)}; drivers here: ${known.join(', ') || 'none'}`);
  }

  /** EMUDEV_NODRIVER: there is none of this name, or it cannot be imported. */
  async load(name: string): Promise<AnyVdevDriver> {
    const present = this.#drivers.get(name);
    if (present !== undefined) return present;
    if (this.#catalog === undefined) throw new EmudevError('EMUDEV_NODRIVER', `no driver ${name}: install ${packageToInstall(name)}${suggestion(name, this.names())}`);
    const driver = await this.#catalog.load(name);
    // Two probes may have awaited the same import.
    if (!this.#drivers.has(driver.name)) this.register(driver);
    return driver;
  }

  #matches(device: string): KnownName[] {
    const matching = (): KnownName[] => this.#known().filter(({ prefix }) => device.startsWith(prefix)).sort((a, b) => b.prefix.length - a.prefix.length);
    const found = matching();
    if (found.length > 0 || this.#catalog?.refresh === undefined) return found;
    // It may have been installed since.
    this.#catalog.refresh();
    return matching();
  }

  #known(): KnownName[] {
    const registered = [...this.#drivers.values()].flatMap((driver) => namesOf(driver).map((prefix) => ({ prefix, driver: driver.name, class: driver.class })));
    // Those loaded by now are in both: a manifest may know aliases that its module does not repeat.
    return [...registered, ...(this.#catalog?.list() ?? []).flatMap((entry) => [entry.driver, ...(entry.aliases ?? [])].map((prefix) => ({ prefix, driver: entry.driver, class: entry.class })))];
  }
}

const namesOf = (driver: AnyVdevDriver): string[] => [driver.name, ...(driver.aliases ?? [])];

/** `net_tap1` is an instance name of `net_tap`. */
function isInstanceOf(name: string, driver: string): boolean {
  return name.startsWith(driver) && /^\d+$/.test(name.slice(driver.length));
}
