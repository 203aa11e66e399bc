/** What differs between the peers seen in the field, as data: whoever talks to one asks the profile, never "is this QEMU?". */
import type { DmaDialect } from './commands/dma-access.ts';
import { MAX_FDS_PER_MESSAGE } from './limits.ts';
import type { Version } from './version.ts';

/** The peers there is a profile of. */
export type PeerName = 'qemu' | 'cloud-hypervisor' | 'spdk' | 'libvfio-user' | 'spec';

/** How one kind of client behaves, for the server that talks to it. */
export interface PeerProfile {
  readonly name: PeerName;
  /** How it reads DMA_READ / DMA_WRITE; undefined: it does not serve them. */
  readonly dmaDialect: DmaDialect | undefined;
  /** Highest minor version it accepts in a reply. */
  readonly maxMinor: number;
  /** A VERSION reply without JSON breaks it. */
  readonly needsVersionJson: boolean;
  /** `write_multiple` may be announced to it. QEMU then queues all it sends, by a collision of its own flags. */
  readonly takesWriteMultiple: boolean;
  /** Understands an error reply that is only a header. False: it blocks for the success payload and reads zeroes as success. */
  readonly headerOnlyErrors: boolean;
  /** MIG_DATA_READ replies must be padded to the requested size. */
  readonly padsMigrationData: boolean;
  /** Most descriptors it can take in one message, whatever its VERSION says. */
  readonly maxFds: number;
  /** Can take a descriptor with a region info that has no room for its capabilities. False: that breaks it. */
  readonly fdOnShortRegionInfo: boolean;
  /** Attaches the region's descriptor to DMA_UNMAP too. */
  readonly fdOnUnmap: boolean;
  /** Sends requests before the replies to earlier ones have come. */
  readonly pipelines: boolean;
  /** Sizes BARs through the server's configuration space (else it sizes them itself from the region sizes). */
  readonly sizesBars: boolean;
}

/** Nothing special: the specification's word, and nothing that only some peers can take. */
export const SPEC: PeerProfile = {
  name: 'spec', dmaDialect: 'lvu', maxMinor: 2, needsVersionJson: false, takesWriteMultiple: true, headerOnlyErrors: true, padsMigrationData: false,
  maxFds: MAX_FDS_PER_MESSAGE, fdOnShortRegionInfo: false, fdOnUnmap: false, pipelines: true, sizesBars: true,
};
/** QEMU's `-device vfio-user-pci`, 10.1 and later. */
export const QEMU: PeerProfile = {
  name: 'qemu', dmaDialect: 'qemu', maxMinor: 0, needsVersionJson: true, takesWriteMultiple: false, headerOnlyErrors: true, padsMigrationData: false,
  maxFds: 16, fdOnShortRegionInfo: true, fdOnUnmap: false, pipelines: true, sizesBars: false,
};
/** Cloud Hypervisor's `--user-device`, and the Rust crate vfio_user that it is made with. */
export const CLOUD_HYPERVISOR: PeerProfile = {
  name: 'cloud-hypervisor', dmaDialect: undefined, maxMinor: 1, needsVersionJson: true, takesWriteMultiple: true, headerOnlyErrors: false, padsMigrationData: false,
  maxFds: 16, fdOnShortRegionInfo: true, fdOnUnmap: false, pipelines: false, sizesBars: true,
};
/** libvfio-user's sample client, and what is made after it. */
export const LIBVFIO_USER: PeerProfile = {
  name: 'libvfio-user', dmaDialect: 'lvu', maxMinor: 2, needsVersionJson: false, takesWriteMultiple: true, headerOnlyErrors: true, padsMigrationData: true,
  maxFds: MAX_FDS_PER_MESSAGE, fdOnShortRegionInfo: false, fdOnUnmap: false, pipelines: false, sizesBars: true,
};
/** SPDK's host library. It asks for region info with room for everything: no short answer ever reaches it. */
export const SPDK: PeerProfile = {
  name: 'spdk', dmaDialect: undefined, maxMinor: 2, needsVersionJson: false, takesWriteMultiple: true, headerOnlyErrors: true, padsMigrationData: false,
  maxFds: 7, fdOnShortRegionInfo: false, fdOnUnmap: true, pipelines: false, sizesBars: false,
};

/** For an option that selects one by name. */
export const PROFILES: Readonly<Record<PeerName, PeerProfile>> = {
  qemu: QEMU, 'cloud-hypervisor': CLOUD_HYPERVISOR, spdk: SPDK, 'libvfio-user': LIBVFIO_USER, spec: SPEC,
};

/**
 * The profile a client's VERSION request points to. A guess, for defaults only: QEMU proposes 0.0, the Rust crate 0.1 with JSON,
 * SPDK 0.1 without, libvfio-user's sample client (and the client of this project) 0.2.
 */
export function guessPeer(version: Version): PeerProfile {
  if (version.minor === 0) return QEMU;
  if (version.minor === 1) return version.capabilities === undefined ? SPDK : CLOUD_HYPERVISOR;
  return LIBVFIO_USER;
}
