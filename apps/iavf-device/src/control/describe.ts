import { resolve } from 'node:path';
import { EmudevError, type ProbedDevice } from '@emudev/emudev';
import type { Launcher } from '../launcher.ts';

/** A device as `list` shows it. Fields that do not apply are left out. */
export interface DeviceDescription {
  readonly name: string;
  readonly driver: string;
  readonly class: string;
  /** Emulated devices: of the device class. */
  readonly state?: string;
  readonly consumer?: string;
  /** The socket it is served on. */
  readonly path?: string;
  /** Where a back end's other end is: a terminal, an address. */
  readonly place?: string;
  /** Who has it plugged in, as far as that is known. */
  readonly client?: string;
  /** Its back ends. */
  readonly users?: readonly string[];
  /** Ports. */
  readonly link?: 'up' | 'down';
  readonly connectedTo?: string;
}

export function describeDevice(launcher: Launcher, { name, driver, device }: ProbedDevice): DeviceDescription {
  const emudev = launcher.emudevs.get(name);
  const port = launcher.ports.get(name);
  const users = launcher.bus.usersOf(name);
  const path = launcher.served.find((served) => served.name === name)?.path;
  const client = launcher.session(name)?.peer?.name;
  const route = launcher.pairs.map((text) => text.split(/[=+]/)).find((ends) => ends.includes(name));
  return {
    name,
    driver: driver.name,
    class: driver.class,
    ...(emudev === undefined ? {} : { state: emudev.state, consumer: emudev.consumer }),
    ...(path === undefined ? {} : { path: resolve(path) }),
    ...(device.place === undefined ? {} : { place: device.place }),
    ...(client === undefined ? {} : { client }),
    ...(users.length === 0 ? {} : { users }),
    ...(port === undefined ? {} : { link: port.link().up ? ('up' as const) : ('down' as const) }),
    ...(route === undefined ? {} : { connectedTo: route.filter((end) => end !== name).join(', ') || name }),
  };
}

/** The switches: what became of frames and addresses at each of their ports, and with `addresses` what they know. */
export function describeSwitches(launcher: Launcher, addresses: boolean): readonly Readonly<Record<string, unknown>>[] {
  return launcher.switches.map((each) => ({
    ports: Object.fromEntries(each.ports.map(({ port, ...counters }) => [port, Object.fromEntries(Object.entries(counters).map(([counter, value]) => [counter, countOf(BigInt(value))]))])),
    ...(addresses ? { addresses: Object.fromEntries(each.addresses.map(({ mac, port, ageSeconds }) => [mac, `${port}, ${ageSeconds.toFixed(0)} s`])) } : {}),
  }));
}

export type Counters = Readonly<Record<string, number | string>>;

/** Counters by port, the extended ones where they are not zero. EMUDEV_NOENT for a port that is not there. */
export function portStatistics(launcher: Launcher, only: string | undefined): Readonly<Record<string, Counters>> {
  const ports = [...launcher.ports].filter(([name]) => only === undefined || name === only);
  if (only !== undefined && ports.length === 0) throw new EmudevError('EMUDEV_NOENT', `there is no port ${only}; there are ${[...launcher.ports.keys()].join(', ') || 'none'}`);
  return Object.fromEntries(ports.map(([name, port]) => {
    const extended = [...port.xstats()].filter(([, value]) => value !== 0n);
    return [name, Object.fromEntries([...Object.entries(port.stats()) as [string, bigint][], ...extended].map(([counter, value]) => [counter, countOf(value)]))];
  }));
}

/** JSON numbers are doubles: what one cannot hold is written as text. */
const countOf = (value: bigint): number | string => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value));
