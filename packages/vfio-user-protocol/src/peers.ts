/** What differs between the clients seen in the field, as data: a server asks the profile, it never asks "is this QEMU?". */
import type { DmaDialect } from './commands/dma-access.ts';
import type { Version } from './version.ts';

export interface PeerProfile {
  readonly name: 'qemu' | 'cloud-hypervisor' | 'libvfio-user' | 'spdk';
  /** How it reads DMA_READ / DMA_WRITE; undefined: it does not serve them. */
  readonly dmaDialect: DmaDialect | undefined;
  /** Highest minor version it accepts in a reply. */
  readonly maxMinor: number;
  /** A VERSION reply without JSON breaks it. */
  readonly needsVersionJson: boolean;
  /** Understands an error reply that is only a header. False: it blocks for the success payload and reads zeroes as success. */
  readonly headerOnlyErrors: boolean;
  /** MIG_DATA_READ replies must be padded to the requested size. */
  readonly padsMigrationData: boolean;
  /** Attaches the region's descriptor to DMA_UNMAP too. */
  readonly fdOnUnmap: boolean;
  /** Sends requests before the replies to earlier ones have come. */
  readonly pipelines: boolean;
  /** Sizes BARs through the server's configuration space (else it sizes them itself from the region sizes). */
  readonly sizesBars: boolean;
}

export const QEMU: PeerProfile = {
  name: 'qemu', dmaDialect: 'qemu', maxMinor: 0, needsVersionJson: true, headerOnlyErrors: true, padsMigrationData: false,
  fdOnUnmap: false, pipelines: true, sizesBars: false,
};
export const CLOUD_HYPERVISOR: PeerProfile = {
  name: 'cloud-hypervisor', dmaDialect: undefined, maxMinor: 1, needsVersionJson: true, headerOnlyErrors: false, padsMigrationData: false,
  fdOnUnmap: false, pipelines: false, sizesBars: true,
};
export const LIBVFIO_USER: PeerProfile = {
  name: 'libvfio-user', dmaDialect: 'lvu', maxMinor: 2, needsVersionJson: false, headerOnlyErrors: true, padsMigrationData: true,
  fdOnUnmap: false, pipelines: false, sizesBars: true,
};
export const SPDK: PeerProfile = {
  name: 'spdk', dmaDialect: undefined, maxMinor: 2, needsVersionJson: false, headerOnlyErrors: true, padsMigrationData: false,
  fdOnUnmap: true, pipelines: false, sizesBars: false,
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
