/** Where devices come from: one source per kind, `KernelSource` (PCI functions and mediated devices) and `VfioUserSource`. */
import type { PciAddress } from './address.ts';
import type { FoundDevice } from './found.ts';
import type { PciTransport } from './transport.ts';

/** Something that happened to the devices of a source; scan again to see what it means. */
export interface HotPlugEvent {
  readonly kind: 'added' | 'removed' | 'changed';
  /** undefined: something about all of them (a parent of mediated devices came or went). */
  readonly address?: PciAddress;
}

/** Finds devices of one or more kinds, and opens them. */
export interface DeviceSource {
  readonly kinds: readonly PciAddress['kind'][];
  /**
   * All devices, each with the reason if it cannot be used. Opens none. `wanted`: addresses that somebody has named; a source that has no list of its
   * devices looks there, too.
   */
  scan(signal?: AbortSignal, wanted?: readonly PciAddress[]): Promise<readonly FoundDevice[]>;
  /** ERR_BUS_UNUSABLE, ERR_BUS_BUSY, ERR_BUS_GONE; nothing stays open then. */
  open(address: PciAddress, signal?: AbortSignal): Promise<PciTransport>;
  /** Calls back on hot-plug events, in order, until disposed of. Throws, or tells `onError`, where the system does not announce any: then polling remains. */
  watch?(callback: (event: HotPlugEvent) => void, onError: (error: unknown) => void): Disposable;
}
