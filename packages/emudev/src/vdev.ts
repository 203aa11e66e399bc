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
  parse(text: string): T;
}
export type ArgSchema<A> = { readonly [K in keyof A]-?: ArgSpec<Exclude<A[K], undefined>> };

/** emudev: an emulated device. backend: the other half of one that is no network port, e.g. what a serial port is connected to. port: an ethdev port. */
export type VdevClass = 'emudev' | 'backend' | 'port';
export const VDEV_CLASSES: readonly VdevClass[] = ['emudev', 'backend', 'port'];

/** What a probing driver may use. */
export interface VdevContext {
  /** Finds an emulated device that was probed earlier on the command line. */
  findEmudev(name: string): Emudev | undefined;
  readonly registry: EmudevRegistryLike;
}
/** Structural, so that a test needs no real registry. */
export interface EmudevRegistryLike {
  allocate(name: string, provider: EmudevProvider): ProviderPort;
  release(name: string): void;
  byName(name: string): Emudev | undefined;
}

export interface VdevDevice {
  readonly name: string;
  close(): Promise<void>;
}

export interface VdevDriver<A = never, D extends VdevDevice = VdevDevice> {
  /** Matches every device name that begins with it; longest match wins. Must not be another driver's prefix plus digits. */
  readonly name: string;
  readonly class: VdevClass;
  readonly summary: string;
  readonly args: ArgSchema<A>;
  probe(name: string, args: A, context: VdevContext): Promise<D>;
}
