/**
 * The contract of an emulated PCI device and the parts one is made of: configuration space with its masks and capabilities,
 * base address registers, the MSI-X structures. Bytes only: no I/O, no Node API.
 *
 * @packageDocumentation
 */
export * from './device.ts';
export * from './migration.ts';
export * from './vfio.ts';
export * from './registers.ts';
export * from './limits.ts';
export { PciAccessError, PciLayoutError, PciRangeError } from './errors.ts';
export type { Bar } from './bar.ts';
export {
  extendedVendorCapability, msiCapability, msixCapability, pciExpressCapability, powerManagementCapability, rawCapability, serialNumberCapability, vendorCapability,
  type BarPlace, type Capability, type MsiOptions, type Placement,
} from './capability.ts';
export type { ConfigSpaceLayout } from './layout.ts';
export { ConfigSpace, type Command, type ConfigSpaceHooks, type MsiControl, type MsixControl, type PlacedCapability } from './config-space.ts';
export { MsixRegion, MSIX_ENTRY_BYTES, type MsixRegionOptions } from './msix.ts';
export { registers, storage, type Register, type RegisterMap, type RegionHandler } from './region-handler.ts';
export { BasicPciDevice, type BarSpec, type BasicPciDeviceSpec, type RegionSpec } from './basic-device.ts';
export { snapshotMigration, type Snapshot } from './snapshot-migration.ts';
