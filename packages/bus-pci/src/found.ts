/** What a scan finds. */
import type { PciAddress } from './address.ts';
import type { PciResource } from './attributes.ts';

/** What identifies the kind of a device. */
export interface PciIds {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  /** Class, subclass, programming interface: 0xCCSSPP. */
  readonly classCode: number;
}

/** Why a device that is there cannot be used. */
export type UnusableReason =
  /** No kernel driver is bound to it; it has to be `vfio-pci`. */
  | 'no-driver'
  /** Another kernel driver has it. */
  | 'not-vfio'
  /** A mediated device of another API than vfio-pci. */
  | 'api-mismatch'
  /** It is in no IOMMU group: VFIO does not reach it. */
  | 'no-iommu-group'
  /** There is no node below /dev/vfio for it, or for its group. */
  | 'no-node'
  /** Some file of it cannot be read, or says something malformed. */
  | 'unreadable'
  /** Nothing is at the path of a vfio-user socket, or it is no socket. */
  | 'no-socket';

/** A device that a scan has found. */
export interface FoundDevice {
  readonly address: PciAddress;
  /** Differs when another device has taken the place of one with the same address, where that can be seen. */
  readonly instance?: string;
  /** undefined: it can be used. */
  readonly unusable?: { readonly reason: UnusableReason; readonly detail: string };
  /** From sysfs; undefined where only the opened device can tell (mdev, vfio-user). */
  readonly ids?: PciIds;
  /** The kernel driver bound to it. */
  readonly kernelDriver?: string;
  /** Groups are numbered anew whenever one is made: no name of a device. */
  readonly iommuGroup?: number;
  /** undefined: any. */
  readonly numaNode?: number;
  /** Virtual functions that it can have, or has. */
  readonly virtualFunctions?: number;
  readonly resources?: readonly PciResource[];
  /** Parent device and type of a mediated device. */
  readonly mdev?: { readonly parent: string; readonly type: string };
}
