/**
 * Composition: devices from their vdev text, ports connected in pairs on lcores, every emulated device served on its socket; at the
 * start and at run time. Nothing else is decided here.
 */
import { fileURLToPath } from 'node:url';
import { Quiescence, Window } from '@emudev/dma';
import { discoverDrivers, EmudevError, parseVdev, VdevBus, type DriverCatalog, type Emudev, type VdevDevice } from '@emudev/emudev';
import { Forwarding, LcorePool, parseRoutes, portsOf, routeText, type LcoreEvent, type Port, type Route, type StreamReport, type SwitchReport } from '@emudev/ethdev';
import type { PciDevice } from '@emudev/pci';
import { VfioUserServer, type SessionView } from '@emudev/vfio-user-server';
import { UsageError, type Plan } from './arguments.ts';
import { engineChoice } from './engine-choice.ts';
import { placeText, samePlace, serveAt, takePlace, type Place } from './place.ts';

export interface Served {
  readonly name: string;
  /** UNIX socket it listens on; undefined when it was handed a descriptor. */
  readonly path: string | undefined;
  readonly server: VfioUserServer;
  /** False for a card whose queues no back end in a pair serves: it can be plugged in, and never has link. */
  readonly connected: boolean;
}

/** What to plug in: all of it, or nothing. */
export interface PlugRequest {
  /** `name,key=value…` in probe order. `path=` and `fd=` of an emulated device say where it is served. */
  readonly vdevs: readonly string[];
  /** `A=B`, `A` or `A+B+C`. */
  readonly pairs?: readonly string[];
}

/** Drivers of this installation and of the folder the user is in. */
export function driverCatalog(): DriverCatalog {
  return discoverDrivers([fileURLToPath(new URL('..', import.meta.url)), process.cwd()]);
}

type Servable = VdevDevice & { readonly pci: PciDevice };
type Emulated = VdevDevice & { readonly emudev: Emudev };

const isPort = (device: VdevDevice): device is Port => 'datapath' in device;
const isServable = (device: VdevDevice): device is Servable => 'pci' in device;
const isEmulated = (device: VdevDevice): device is Emulated => 'emudev' in device;

export class Launcher implements AsyncDisposable {
  readonly #plan: Plan;
  readonly #window: Window;
  readonly #bus: VdevBus;
  readonly #forwarding: Forwarding;
  readonly #servers = new Map<string, { readonly place: Place; readonly server: VfioUserServer }>();
  readonly #undo: AsyncDisposableStack;
  /** Plugging, unplugging and the rest: one at a time, in the order they were asked for. */
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(plan: Plan, window: Window, bus: VdevBus, forwarding: Forwarding, undo: AsyncDisposableStack) {
    this.#plan = plan;
    this.#window = window;
    this.#bus = bus;
    this.#forwarding = forwarding;
    this.#undo = undo;
  }

  /** Everything is up when it resolves: sockets listen. When it rejects nothing is left behind. */
  static async start(plan: Plan, catalog: DriverCatalog = driverCatalog()): Promise<Launcher> {
    await using undo = new AsyncDisposableStack();
    const window = undo.use(Window.open());
    window.selfTest();
    const bus = undo.use(new VdevBus({ catalog }));
    const pool = undo.use(await LcorePool.start(plan.lcores.length, { window, quiescence: Quiescence.of(window) }, { idleLatencyUs: plan.idleLatencyUs, cpus: plan.lcores }));
    const forwarding = new Forwarding(pool, { engine: engineChoice(plan.engine), ...(plan.burst === undefined ? {} : { burst: plan.burst }) });
    undo.defer(() => forwarding.stop());
    const launcher = new Launcher(plan, window, bus, forwarding, undo.move());
    try {
      await launcher.#plug(plan);
      if (launcher.#servers.size === 0 && plan.pairs.length === 0 && plan.control === undefined) throw new UsageError('nothing to do: no device to serve, no ports to connect (see --help)');
      return launcher;
    } catch (error) {
      // The first error is the one that tells what went wrong.
      await launcher.close().catch(() => undefined);
      throw error;
    }
  }

  /** What is served, in the order it was plugged. */
  get served(): readonly Served[] {
    const polled = new Set<VdevDevice>(this.#forwarding.routes.flatMap(portsOf) as (Port & VdevDevice)[]);
    return [...this.#servers].map(([name, { place, server }]) => {
      const backEnds = this.#bus.usersOf(name).map((user) => this.#bus.byName(user)?.device);
      const { maxQueuePairs } = this.#emudev(name)?.info ?? { maxQueuePairs: 0 };
      const connected = maxQueuePairs === 0 || backEnds.some((device) => device !== undefined && polled.has(device));
      return { name, path: place.path, server, connected };
    });
  }

  get ports(): ReadonlyMap<string, Port> {
    return new Map(this.#bus.list().flatMap(({ name, device }) => (isPort(device) ? [[name, device] as const] : [])));
  }

  /** The emulated devices by name. */
  get emudevs(): ReadonlyMap<string, Emudev> {
    return new Map(this.#bus.list().flatMap(({ name, device }) => (isEmulated(device) ? [[name, device.emudev] as const] : [])));
  }

  /** Everything that is plugged, in probe order. */
  get bus(): Pick<VdevBus, 'list' | 'byName' | 'usersOf' | 'help'> {
    return this.#bus;
  }

  /** What is connected to what, as `--forward` writes it. */
  get pairs(): readonly string[] {
    return this.#forwarding.routes.map(routeText);
  }

  /** Counters and addresses of every switch. */
  get switches(): readonly SwitchReport[] {
    return this.#forwarding.switches();
  }

  session(name: string): SessionView | undefined {
    return this.#servers.get(name)?.server.session;
  }

  report(): StreamReport[] {
    return this.#forwarding.report();
  }

  onEvent(observer: (event: LcoreEvent) => void): Disposable {
    return this.#forwarding.onEvent(observer);
  }

  /**
   * Plugs devices in, and connects ports, while the others run. All of it, or nothing. Resolves when every socket listens.
   * Errors: what `VdevBus.probe`, `Forwarding.connect` and `VfioUserServer.listen` throw, UsageError for a place.
   */
  plug(request: string | PlugRequest): Promise<void> {
    const wanted = typeof request === 'string' ? { vdevs: [request] } : request;
    return this.#exclusive(async () => {
      for (const text of wanted.vdevs) {
        // At run time nobody hands a descriptor over: a number would be one of ours.
        const { name, pairs } = parseVdev(text);
        if (this.#bus.classOf(name) === 'emudev' && pairs.some(([key]) => key === 'fd')) throw new UsageError(`${name}: fd= is for the command line; at run time a device is served at path=SOCKET`);
      }
      await this.#plug(wanted);
    });
  }

  /**
   * Takes devices out while the others run: pairs are disconnected, sockets removed, devices closed, their names are free again.
   * EMUDEV_BAD_STATE while a client has one plugged in, or a device needs it that is to stay (a back end, a port it is connected
   * to). With `force` the client's connection is cut (QEMU 11.1 may abort then), back ends are unplugged, too, and
   * pairs disconnected. EMUDEV_NOENT. Either refuses before anything is done; what fails on the way is thrown at the end.
   */
  unplug(names: string | readonly string[], options: { readonly force?: boolean } = {}): Promise<void> {
    const wanted = typeof names === 'string' ? [names] : [...new Set(names)];
    return this.#exclusive(() => this.#unplug(wanted, options.force ?? false));
  }

  /** Stops and starts an emulated device; its guest stays connected. EMUDEV_NOENT, EMUDEV_UNSUPPORTED: it is no emulated device. */
  restart(name: string): Promise<void> {
    return this.#exclusive(async () => {
      const emudev = this.emudev(name);
      if (emudev.state === 'started') await emudev.stop();
      await start(emudev);
    });
  }

  /** Has a device reset itself; its guest's driver has to find out. EMUDEV_NOENT, EMUDEV_UNSUPPORTED: it is no emulated device, or has no reset of its own. */
  reset(name: string): Promise<void> {
    return this.#exclusive(() => this.emudev(name).reset());
  }

  /** Connects two ports (`A=B`), loops one back (`A`), or puts ports on a switch (`A+B+C`). Throws EthdevError. */
  connect(pair: string): Promise<void> {
    return this.#exclusive(async () => {
      for (const each of parseRoutes(pair, this.ports)) await this.#forwarding.connect(each);
    });
  }

  /** Disconnects a pair or a switch, named as `connect` names it, in any order, or by one of its ports. EMUDEV_NOENT: there is none. */
  disconnect(pair: string): Promise<void> {
    return this.#exclusive(async () => {
      const named = pair.split(/[=+]/).map((port) => port.trim());
      const found = this.#forwarding.routes.find((route) => {
        const ports = portsOf(route).map((port) => port.name);
        return named.length === 1 ? ports.includes(named[0]!) : named.toSorted().join() === ports.toSorted().join();
      });
      if (found === undefined) throw new EmudevError('EMUDEV_NOENT', `${pair} is not connected; there are ${this.pairs.join(', ') || 'no pairs'}`);
      await this.#forwarding.disconnect(found);
    });
  }

  /** An emulated device by name. EMUDEV_NOENT, EMUDEV_UNSUPPORTED: the device is none. */
  emudev(name: string): Emudev {
    if (this.#bus.byName(name) === undefined) throw new EmudevError('EMUDEV_NOENT', `there is no device ${name}; there are ${[...this.emudevs.keys()].join(', ') || 'none'}`);
    const emudev = this.#emudev(name);
    if (emudev === undefined) throw new EmudevError('EMUDEV_UNSUPPORTED', `${name} is no emulated device; there are ${[...this.emudevs.keys()].join(', ') || 'none'}`);
    return emudev;
  }

  /** Ends every session, stops every queue, closes every device and removes the sockets. */
  close(): Promise<void> {
    this.#closing ??= this.#last.then(async () => {
      const failures: unknown[] = [];
      // A virtual machine sees its device go before what is behind it.
      for (const name of [...this.#servers.keys()].reverse()) await this.#closeServer(name).catch((error: unknown) => { failures.push(error); });
      await this.#undo.disposeAsync().catch((error: unknown) => { failures.push(error); });
      if (failures.length > 0) throw failures[0];
    });
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #exclusive<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) return Promise.reject(new EmudevError('EMUDEV_BAD_STATE', 'the process is about to end'));
    const result = this.#last.then(operation);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #plug({ vdevs, pairs = [] }: PlugRequest): Promise<void> {
    await using stack = new AsyncDisposableStack();
    // The first error is the one to report; what goes wrong while undoing it would only hide it.
    const undo = (step: () => Promise<void>): void => { stack.defer(() => step().catch(() => undefined)); };
    const places = new Map<string, Place>();
    const emulated: Emudev[] = [];
    for (const text of vdevs) {
      const { name, pairs: all } = parseVdev(text);
      const isEmudev = this.#bus.classOf(name) === 'emudev' && this.#bus.byName(name) === undefined;
      const { place, rest } = isEmudev ? takePlace(name, all) : { place: undefined, rest: all };
      if (place !== undefined) this.#assertFree(name, place, places);
      const { device } = await this.#bus.probe({ name, pairs: rest });
      undo(() => this.#bus.remove(name));
      if (place !== undefined) places.set(name, place);
      if (isEmulated(device)) emulated.push(device.emudev);
    }
    for (const route of parseRoutes(pairs.join(','), this.ports)) {
      await this.#forwarding.connect(route);
      undo(() => this.#forwarding.disconnect(route));
    }
    // After all are probed: a back end may have wanted to configure it.
    for (const emudev of emulated) await start(emudev);
    for (const [name, place] of places) {
      undo(() => this.#closeServer(name));
      await this.#serve(name, place);
    }
    stack.move();
  }

  #assertFree(name: string, place: Place, planned: ReadonlyMap<string, Place>): void {
    const taken = [...planned, ...[...this.#servers].map(([other, served]) => [other, served.place] as const)];
    const [other] = taken.find(([, theirs]) => samePlace(theirs, place)) ?? [];
    if (other !== undefined) throw new UsageError(`${other} and ${name} cannot both be served at ${placeText(place)}`);
  }

  async #serve(name: string, place: Place): Promise<void> {
    const device = this.#bus.byName(name)?.device;
    if (device === undefined || !isServable(device)) throw new EmudevError('EMUDEV_UNSUPPORTED', `${name}: its driver makes no PCI function to be served`);
    const server = new VfioUserServer(device.pci, { window: this.#window, truncation: this.#plan.unsealedMemory === 'refuse' ? 'refuse' : 'seal' });
    this.#servers.set(name, { place, server });
    await serveAt(server, place);
  }

  async #closeServer(name: string): Promise<void> {
    const served = this.#servers.get(name);
    this.#servers.delete(name);
    await served?.server.close();
  }

  async #unplug(names: readonly string[], force: boolean): Promise<void> {
    const missing = names.find((name) => this.#bus.byName(name) === undefined);
    if (missing !== undefined) throw new EmudevError('EMUDEV_NOENT', `there is no device ${missing}; there are ${this.#bus.list().map((probed) => probed.name).join(', ') || 'none'}`);
    const going = this.#withUsers(names);
    const routes = this.#forwarding.routes.filter((route) => portsOf(route).some(({ name }) => going.includes(name)));
    const users = going.filter((name) => !names.includes(name));
    const open = routes.filter((route: Route) => portsOf(route).some(({ name }) => !names.includes(name)));
    const busy = going.filter((name) => this.session(name) !== undefined);
    if (!force && busy.length > 0) {
      throw new EmudevError('EMUDEV_BAD_STATE', `${busy.join(', ')} ${busy.length === 1 ? 'is' : 'are'} plugged into a virtual machine: take it out there first (QEMU: device_del), or cut the connection by force`);
    }
    if (!force && (users.length > 0 || open.length > 0)) {
      const why = [...users, ...open.map((route) => `the connection ${routeText(route)}`)].join(', ');
      throw new EmudevError('EMUDEV_BAD_STATE', `${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} used by ${why}: unplug that together with it, or all by force`);
    }
    const failures: unknown[] = [];
    const attempt = async (step: Promise<void>): Promise<void> => {
      await step.catch((error: unknown) => { failures.push(error); });
    };
    for (const route of routes) await attempt(this.#forwarding.disconnect(route));
    for (const each of going) await attempt(this.#closeServer(each));
    for (const each of going) await attempt(this.#bus.remove(each));
    if (failures.length > 0) throw failures[0];
  }

  /** Every device after those that use it. */
  #withUsers(names: readonly string[]): string[] {
    const all = new Set<string>();
    const visit = (each: string): void => {
      for (const user of this.#bus.usersOf(each)) visit(user);
      all.add(each);
    };
    for (const name of names) visit(name);
    return [...all];
  }

  #emudev(name: string): Emudev | undefined {
    const device = this.#bus.byName(name)?.device;
    return device !== undefined && isEmulated(device) ? device.emudev : undefined;
  }
}

/** Where nobody else has: a back end may configure and start its device itself. */
async function start(emudev: Emudev): Promise<void> {
  if (emudev.state === 'allocated') await emudev.configure({});
  if (emudev.state === 'configured' || emudev.state === 'stopped') await emudev.start();
}
