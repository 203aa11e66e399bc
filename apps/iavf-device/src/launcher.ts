/**
 * Composition: devices from their vdev text, ports connected in pairs on lcores, every emulated device served on its socket.
 * Nothing else is decided here.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Quiescence, Window } from '@emudev/dma';
import { discoverDrivers, parseVdev, takeArgs, VdevBus, type DriverCatalog, type VdevClass, type VdevDevice } from '@emudev/emudev';
import { Forwarding, LcorePool, parsePairs, type EngineChoice, type EngineName, type EngineSpec, type LcoreEvent, type Port, type StreamReport } from '@emudev/ethdev';
import type { PciDevice } from '@emudev/pci';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { UsageError, type Plan } from './arguments.ts';

export interface Served {
  readonly name: string;
  /** UNIX socket it listens on; undefined when it was handed a descriptor. */
  readonly path: string | undefined;
  readonly server: VfioUserServer;
  /** False for a card that no back end drives: it can be plugged in, and never has link. */
  readonly connected: boolean;
}

/** Where an emulated device is served: keys of its vdev text that are the launcher's, not the driver's. */
interface Place {
  readonly path: string | undefined;
  readonly fd: number | undefined;
}

/** Drivers of this installation and of the folder the user is in. */
export function driverCatalog(): DriverCatalog {
  return discoverDrivers([fileURLToPath(new URL('..', import.meta.url)), process.cwd()]);
}

function classOf(catalog: DriverCatalog, device: string): VdevClass | undefined {
  return catalog.list().filter((d) => device.startsWith(d.driver)).sort((a, b) => b.driver.length - a.driver.length)[0]?.class;
}

function placeOf(name: string, taken: readonly (readonly [string, string | undefined])[]): Place {
  const [first, ...more] = taken;
  const value = first?.[1];
  if (first === undefined || more.length > 0 || value === undefined || value === '') throw new UsageError(`${name} needs one place to be served at: path=SOCKET or fd=NUMBER`);
  if (first[0] === 'path') return { path: value, fd: undefined };
  if (!/^\d+$/.test(value)) throw new UsageError(`${name}: fd=${value} is not a descriptor number`);
  return { path: undefined, fd: Number(value) };
}

/** `icmpecho` answers as the port it received on, `mac` sends from the port it transmits on. */
function engineChoice(name: EngineName): EngineChoice {
  const anyMac = Uint8Array.of(0x02, 0, 0, 0, 0, 1);
  if (name === 'icmpecho') return (rx: Port) => ({ name, mac: rx.info.mac ?? anyMac });
  if (name === 'mac') return (_rx: Port, tx: Port) => ({ name, source: tx.info.mac ?? anyMac, destination: Uint8Array.of(0x02, 0, 0, 0, 0, 0) });
  const spec: EngineSpec = { name };
  return spec;
}

function adopt(server: VfioUserServer, fd: number): void {
  try {
    server.adopt(fd);
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'EBADF') throw new UsageError(`descriptor ${fd} is not open: it must be inherited from whoever starts this process`);
    if (code === 'ERR_SERVER_SOCKET') throw new UsageError((error as Error).message);
    throw error;
  }
}

const isPort = (device: VdevDevice): device is Port => 'datapath' in device;
const isServable = (device: VdevDevice): device is VdevDevice & { readonly pci: PciDevice } => 'pci' in device;

export class Launcher implements AsyncDisposable {
  readonly served: readonly Served[];
  readonly ports: ReadonlyMap<string, Port>;
  readonly #undo: AsyncDisposableStack;
  readonly #forwarding: Forwarding;

  private constructor(served: readonly Served[], ports: ReadonlyMap<string, Port>, forwarding: Forwarding, undo: AsyncDisposableStack) {
    this.served = served;
    this.ports = ports;
    this.#forwarding = forwarding;
    this.#undo = undo;
  }

  /** Everything is up when it resolves: sockets listen. When it rejects nothing is left behind. */
  static async start(plan: Plan, catalog: DriverCatalog = driverCatalog()): Promise<Launcher> {
    await using undo = new AsyncDisposableStack();
    const window = undo.use(Window.open());
    window.selfTest();
    const bus = undo.use(new VdevBus({ catalog }));
    const places = new Map<string, Place>();
    /** Back-end port to its emulated device: what every back end's `emu=` says. */
    const backEnds = new Map<string, string | undefined>();
    for (const text of plan.vdevs) {
      const { name, pairs } = parseVdev(text);
      const { taken, rest } = classOf(catalog, name) === 'emudev' ? takeArgs(pairs, ['path', 'fd']) : { taken: [], rest: pairs };
      // Before the driver looks: a misspelt "path" is missed here, where its message names it.
      const place = classOf(catalog, name) === 'emudev' && bus.byName(name) === undefined ? placeOf(name, taken) : undefined;
      await bus.probe({ name, pairs: rest });
      backEnds.set(name, rest.find(([key]) => key === 'emu')?.[1]);
      if (place === undefined) continue;
      const [other] = [...places].find(([, { path, fd }]) => place.fd === undefined ? path !== undefined && resolve(path) === resolve(place.path!) : fd === place.fd) ?? [];
      if (other !== undefined) throw new UsageError(`${other} and ${name} cannot both be served at ${place.path ?? `descriptor ${place.fd}`}`);
      places.set(name, place);
    }
    if (places.size === 0 && plan.pairs.length === 0) throw new UsageError('nothing to do: no device to serve, no ports to connect (see --help)');
    const devices = bus.list();
    const ports = new Map(devices.flatMap(({ name, device }) => (isPort(device) ? [[name, device] as const] : [])));
    const pool = undo.use(await LcorePool.start(plan.lcores, { window, quiescence: Quiescence.of(window) }));
    const forwarding = new Forwarding(pool, { engine: engineChoice(plan.engine), ...(plan.burst === undefined ? {} : { burst: plan.burst }) });
    undo.defer(() => forwarding.stop());
    const pairs = parsePairs(plan.pairs.join(','), ports);
    await forwarding.start(pairs);
    const connected = new Set(pairs.flatMap(({ a, b }) => [backEnds.get(a.name), backEnds.get(b.name)]));
    const served: Served[] = [];
    for (const { name, device } of devices) {
      const place = places.get(name);
      if (place === undefined || !isServable(device)) continue;
      const server = undo.use(new VfioUserServer(device.pci, { window, truncation: plan.unsealedMemory === 'refuse' ? 'refuse' : 'seal' }));
      if (place.fd !== undefined) adopt(server, place.fd);
      else if (place.path !== undefined) await server.listen(place.path);
      served.push({ name, path: place.path, server, connected: connected.has(name) });
    }
    return new Launcher(served, ports, forwarding, undo.move());
  }

  report(): StreamReport[] {
    return this.#forwarding.report();
  }

  onEvent(observer: (event: LcoreEvent) => void): Disposable {
    return this.#forwarding.onEvent(observer);
  }

  /** Ends every session, stops every queue, closes every device and removes the sockets. */
  async close(): Promise<void> {
    await this.#undo.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
