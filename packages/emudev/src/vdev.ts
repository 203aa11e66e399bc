/**
 * The vdev bus: devices named on the command line the DPDK way (`--vdev 'net_tap0,iface=dtap0'`). A driver is a package whose
 * package.json says `"emudev": { "driver": "net_tap", "class": "port" }` and whose main module has a `driver` export of this shape.
 */
import type { Emudev, EmudevProvider, ProviderPort } from './device.ts';

/** One argument key. `parse` throws an Error whose message says what a good value looks like. */
export interface ArgSpec<T> {
  readonly help: string;
  /** How the value is written in help texts, e.g. 'PATH', '1..16', 'on|off'. */
  readonly placeholder: string;
  readonly required?: boolean;
  readonly default?: T;
  /** The default as help texts write it: for a value that is no number, word, switch or MAC address, or one the driver works out. */
  readonly defaultText?: string;
  /** The value that `text` stands for. */
  parse(text: string): T;
  /** Makes one value of a key that is given again. Without it a second one is refused. */
  merge?(earlier: T, later: T): T;
}
/** The arguments of a driver: an `ArgSpec` for every key of its argument type. */
export type ArgSchema<A> = { readonly [K in keyof A]-?: ArgSpec<Exclude<A[K], undefined>> };

/** emudev: an emulated device. backend: the other half of one that is no network port, e.g. what a serial port is connected to. port: an ethdev port. */
export type VdevClass = 'emudev' | 'backend' | 'port';
/** All of them, for checks and help texts. */
export const VDEV_CLASSES: readonly VdevClass[] = ['emudev', 'backend', 'port'];

/** What a probing driver may use. */
export interface VdevContext {
  /**
   * Finds an emulated device that was probed earlier. Who has found one uses it: it cannot be removed before its user is.
   * undefined where there is none, or where it is still being probed, or going.
   */
  findEmudev(name: string): Emudev | undefined;
  readonly registry: EmudevRegistryLike;
}
/** The registry as drivers need it. Structural, so that a test needs no real registry. */
export interface EmudevRegistryLike {
  /** Reserves `name` for a device of this provider, and returns the provider's side of it. EMUDEV_EXISTS: the name is taken; EMUDEV_BAD_ARG: it is no device name; EMUDEV_RANGE: too many devices. */
  allocate(name: string, provider: EmudevProvider): ProviderPort;
  /** Frees the name of a device that is closed or was never configured. EMUDEV_NOENT: there is none; EMUDEV_BAD_STATE: it is in use. */
  release(name: string): void;
  /** The device of this name, in whatever state; undefined where there is none. */
  byName(name: string): Emudev | undefined;
}

/** What probing makes. A port is an ethdev `Port`; an emulated device also has `emudev`, and `pci` where a transport can serve it. */
export interface VdevDevice {
  readonly name: string;
  /** Where a person finds its other end: '/dev/pts/3', '127.0.0.1:5000'. */
  readonly place?: string;
  /** Standard input and output carry its bytes: what the program itself has to say belongs on standard error. */
  readonly ownsStdio?: boolean;
  /** Gives everything back. Called once, by the bus. */
  close(): Promise<void>;
}

/** What a driver package exports as `driver`. */
export interface VdevDriver<A = never, D extends VdevDevice = VdevDevice> {
  /** Matches every device name that begins with it; longest match wins. Must not be another driver's prefix plus digits. */
  readonly name: string;
  /** Further names it goes by, matched as `name` is; its package.json has them as `aliases`. */
  readonly aliases?: readonly string[];
  readonly class: VdevClass;
  readonly summary: string;
  readonly args: ArgSchema<A>;
  /**
   * Makes the device, or rejects and leaves nothing behind. Rejecting with EMUDEV_NOT_MINE says that another driver may try whose
   * name fits, too, e.g. where the arguments are right but the hardware behind them is another generation's.
   */
  probe(name: string, args: A, context: VdevContext): Promise<D>;
}
