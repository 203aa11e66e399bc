/** Everything a server says of its device, in questions that change nothing. */
import { fstatSync, readlinkSync } from 'node:fs';
import { ClientError } from '@emudev/vfio-user-client';
import type { FeatureOperation, MigrationCapabilities, Region, VfioUserClient } from '@emudev/vfio-user-client';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET,
} from '@emudev/vfio-user-protocol';
import { readConfig } from './config.ts';
import { MAX_LISTED_AREAS, MAX_LISTED_IO_FDS } from './limits.ts';
import { ConfigBytes } from './lspci/config-bytes.ts';
import { bits } from './lspci/fields.ts';
import { className, deviceName } from './lspci/naming.ts';
import { systemNames } from './lspci/pci-ids.ts';
import { printable } from './printable.ts';
import { irqName, regionName } from './regions.ts';
import { guessServer } from './server-kind.ts';

/** The keys of `info --json`. They stay; more may come. Strings of the server have their control characters escaped. */
export interface DeviceReport {
  readonly server: {
    readonly version: string;
    readonly looksLike: string;
    readonly maxMsgFds: number;
    readonly maxDataXferBytes: number;
    readonly maxDmaMaps: number;
    readonly pageSizes: number;
    readonly writeMultiple: boolean;
  };
  readonly device: { readonly flags: number; readonly resettable: boolean; readonly pci: boolean; readonly regionCount: number; readonly irqIndexCount: number };
  /** null: no configuration space, or an unreadable one. */
  readonly pci: null | {
    readonly vendorId: number; readonly deviceId: number; readonly subsystemVendorId: number; readonly subsystemId: number;
    readonly classCode: number; readonly revision: number;
    /** From the system's pci.ids. */
    readonly name: string; readonly className: string;
    readonly capabilities: readonly { readonly id: number; readonly offset: number; readonly extended: boolean }[];
  };
  readonly regions: readonly RegionReport[];
  readonly irqs: readonly { readonly index: number; readonly name: string; readonly count: number; readonly flags: number }[];
  /** null: the device cannot migrate. */
  readonly migration: MigrationCapabilities | null;
  readonly dirtyLogging: boolean;
}

export interface RegionReport {
  readonly index: number;
  readonly name: string;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** At most 64 are listed; `areaCount` is how many there are. */
  readonly areas: readonly { readonly offset: number; readonly sizeBytes: number }[];
  readonly areaCount: number;
  /** Where offset 0 of the region lies in the file. */
  readonly fileOffset: number;
  /** null: the server passed no file. */
  readonly file: null | { readonly name: string; readonly sizeBytes: number };
  readonly ioFds: readonly { readonly kind: string; readonly offset: number; readonly sizeBytes: number; readonly flags: number; readonly datamatch?: bigint }[];
  readonly ioFdCount: number;
}

export async function survey(client: VfioUserClient): Promise<DeviceReport> {
  const { server, info } = client;
  const regions: RegionReport[] = [];
  for (let index = 0; index < info.numRegions; index++) {
    // Some servers refuse to talk of what they have not.
    const region = await unlessRefused(client.regionInfo(index));
    if (region !== undefined && region.sizeBytes > 0) regions.push(await describeRegion(client, region));
  }
  const irqs = [];
  for (let index = 0; index < info.numIrqs; index++) {
    const irq = await unlessRefused(client.irqInfo(index));
    if (irq !== undefined && irq.count > 0) irqs.push({ index, name: irqName(index), count: irq.count, flags: irq.flags });
  }
  return {
    server: {
      version: `0.${client.minor}`, looksLike: guessServer(client.minor, server), maxMsgFds: server.maxMsgFds, maxDataXferBytes: server.maxDataXferSize, maxDmaMaps: server.maxDmaMaps,
      pageSizes: server.pgsizes, writeMultiple: server.writeMultiple,
    },
    device: {
      flags: info.flags, resettable: (info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0, pci: (info.flags & VFIO_DEVICE_FLAGS_PCI) !== 0,
      regionCount: info.numRegions, irqIndexCount: info.numIrqs,
    },
    pci: await describePci(client),
    regions,
    irqs,
    migration: await migrationOf(client),
    dirtyLogging: await hasDirtyLogging(client),
  };
}

async function describeRegion(client: VfioUserClient, region: Region): Promise<RegionReport> {
  const { index, sizeBytes, readable, writable, areas, fileOffset } = region;
  const fd = client.regions.fileDescriptor(index);
  const ioFds = await ioFdsOf(client, index);
  return {
    index, name: regionName(index), sizeBytes, readable, writable,
    areas: areas.slice(0, MAX_LISTED_AREAS).map((area) => ({ offset: area.offset, sizeBytes: area.sizeBytes })), areaCount: areas.length, fileOffset,
    file: fd === undefined ? null : { name: fileName(fd), sizeBytes: fstatSync(fd).size },
    ioFds: ioFds.slice(0, MAX_LISTED_IO_FDS), ioFdCount: ioFds.length,
  };
}

/** A memfd is called `/memfd:name (deleted)` by the kernel; the name is the server's choice. */
function fileName(fd: number): string {
  const link = readlinkSync(`/proc/self/fd/${fd}`);
  return printable(link.replace(/^\/memfd:/, '').replace(/ \(deleted\)$/, ''), 256);
}

async function ioFdsOf(client: VfioUserClient, index: number): Promise<RegionReport['ioFds']> {
  const answer = await unlessRefused(client.regions.ioFds(index));
  if (answer === undefined) return [];
  using ioFds = answer;
  return ioFds.entries.map((entry) => ({
    kind: entry.kind, offset: entry.offset, sizeBytes: entry.sizeBytes, flags: entry.flags, ...(entry.kind === 'ioregionfd' ? {} : { datamatch: entry.datamatch }),
  }));
}

async function describePci(client: VfioUserClient): Promise<DeviceReport['pci']> {
  const bytes = (client.info.flags & VFIO_DEVICE_FLAGS_PCI) === 0 ? undefined : await readConfig(client).catch(() => undefined);
  if (bytes === undefined) return null;
  const config = new ConfigBytes(bytes);
  const names = systemNames();
  const [vendorId, deviceId] = [config.u16(0), config.u16(2)];
  return {
    vendorId, deviceId, subsystemVendorId: config.u16(0x2c), subsystemId: config.u16(0x2e), classCode: config.u32(8) >>> 8, revision: config.u8(8),
    name: printable(deviceName(names, 'names', vendorId, deviceId)), className: printable(className(names, 'names', config.u8(0x0b), config.u8(0x0a))),
    capabilities: [...listCapabilities(config)],
  };
}

/** Both lists, each offset once. */
function* listCapabilities(config: ConfigBytes): Generator<{ id: number; offset: number; extended: boolean }> {
  const seen = new Set<number>();
  const listed = bits(config.u16(6), 4, 1) === 1;
  for (let at = listed ? config.u8(0x34) & ~3 : 0; at >= 0x40 && !seen.has(at) && config.has(at, 2); at = config.u8(at + 1) & ~3) {
    seen.add(at);
    yield { id: config.u8(at), offset: at, extended: false };
  }
  for (let at = 0x100; at >= 0x100 && !seen.has(at) && config.has(at, 4);) {
    const header = config.u32(at);
    if (header === 0 || header === 0xffff_ffff) return;
    seen.add(at);
    yield { id: bits(header, 0, 16), offset: at, extended: true };
    at = bits(header, 20, 12) & ~3;
  }
}

async function migrationOf(client: VfioUserClient): Promise<MigrationCapabilities | null> {
  if (!await probe(client, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, ['get', 'set']) || !await probe(client, VFIO_DEVICE_FEATURE_MIGRATION, ['get'])) return null;
  return await unlessRefused(client.migration.capabilities()) ?? null;
}

async function hasDirtyLogging(client: VfioUserClient): Promise<boolean> {
  return await probe(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, ['set']) && await probe(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, ['set'])
    && await probe(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, ['get']);
}

function probe(client: VfioUserClient, feature: number, operations: readonly FeatureOperation[]): Promise<boolean> {
  return client.features.probe(feature, operations);
}

/** undefined where the server says no: it need not know every command. */
async function unlessRefused<T>(question: Promise<T>): Promise<T | undefined> {
  try {
    return await question;
  } catch (error) {
    if (error instanceof ClientError && (error.code === 'ERR_VFU_CLIENT_REFUSED' || error.code === 'ERR_VFU_CLIENT_SHORT')) return undefined;
    throw error;
  }
}
