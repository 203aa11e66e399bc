/** What is said of every device, whatever is known of it. */
import { formatAddress, type FoundDevice, type PciAddress, type PciIds } from '@emudev/bus-pci';
import type { Identity } from './identity.ts';

/** A device as `list --json` prints it. */
export interface ListedDevice {
  readonly address: string;
  readonly kind: PciAddress['kind'];
  /** null: it could not be asked, or was not. */
  readonly ids: PciIds | null;
  readonly usable: boolean;
  /** null where it is usable. */
  readonly why: string | null;
  readonly detail: string | null;
  readonly kernelDriver: string | null;
  readonly iommuGroup: number | null;
  readonly numaNode: number | null;
  readonly mdev: { readonly parent: string; readonly type: string } | null;
}

/** `asked`: what the device itself has said; undefined where it was not opened. */
export function describeFound(found: FoundDevice, asked: Identity | undefined): ListedDevice {
  const obstacle = found.unusable ?? asked?.unusable;
  return {
    address: formatAddress(found.address),
    kind: found.address.kind,
    ids: found.ids ?? asked?.ids ?? null,
    usable: obstacle === undefined,
    why: obstacle?.reason ?? null,
    detail: obstacle?.detail ?? null,
    kernelDriver: found.kernelDriver ?? null,
    iommuGroup: found.iommuGroup ?? null,
    numaNode: found.numaNode ?? null,
    mdev: found.mdev ?? null,
  };
}
