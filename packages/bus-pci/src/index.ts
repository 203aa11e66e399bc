/**
 * The PCI bus of a user-space driver: PCI functions of the kernel, mediated devices (mdev) and vfio-user sockets.
 *
 * Reading order: `address.ts`, `selection.ts` (which devices are meant), `sysfs.ts`, `scan-*.ts` (which are there), `transport.ts` (an open device of any kind),
 * `vfio-user-transport.ts`, `kernel/` (the two kinds), `bus-device.ts` (what a driver gets), `bus-slot.ts` (what becomes of one device), `bus.ts`; `mdev-manager.ts`.
 * `@emudev/bus-pci/vfio-abi` has the structures of VFIO and iommufd.
 *
 * @packageDocumentation
 */
export { ADDRESS_KINDS, compareAddresses, formatAddress, parseAddress, parsePciFunction, parseUuid } from './address.ts';
export type { MdevAddress, PciAddress, PciFunctionAddress, VfioUserAddress } from './address.ts';
export type { PciResource } from './attributes.ts';
export { Bar } from './bar.ts';
export type { DirectRegisters } from './bar.ts';
export { PciBus } from './bus.ts';
export type { PciBusOptions, ProbeReport, ScanReport, WatchOptions } from './bus.ts';
export { BusDevice } from './bus-device.ts';
export type { BusDeviceOptions } from './bus-device.ts';
export { capabilityName } from '@emudev/vfio-user-client';
export type { BusDma, BusDmaBuffer, BusDmaOptions } from './bus-dma.ts';
export type { BusInterrupts } from './bus-interrupts.ts';
export type { BusEntry, BusSlotState } from './bus-slot.ts';
export type { DeviceSource, HotPlugEvent } from './device-source.ts';
export type { PciDriver } from './driver.ts';
export { bindPciFunction, unbindPciFunction } from './driver-binding.ts';
export type { BindingOptions } from './driver-binding.ts';
export { BusError } from './errors.ts';
export type { BusErrorCode } from './errors.ts';
export { BUS_CHANNEL } from './events.ts';
export type { BusEvent } from './events.ts';
export type { FoundDevice, PciIds, UnusableReason } from './found.ts';
export { pollDevices } from './hot-plug.ts';
export { matchesIds } from './id-table.ts';
export type { IdMatch } from './id-table.ts';
export type { BusInterrupt, InterruptListener, InterruptOptions } from './interrupt-listener.ts';
export { KernelSource } from './kernel/source.ts';
export type { KernelSourceOptions } from './kernel/source.ts';
export { MdevManager } from './mdev-manager.ts';
export type { MdevType } from './mdev-manager.ts';
export { findMsixTable, withoutMsixTable } from './msix-table.ts';
export type { MsixTable, RegionArea } from './msix-table.ts';
export { scanKernelPci } from './scan-kernel-pci.ts';
export { scanMdev } from './scan-mdev.ts';
export { scanVfioUser } from './scan-vfio-user.ts';
export { parseSelector, Selection } from './selection.ts';
export type { SelectionText, Selector } from './selection.ts';
export { Sysfs } from './sysfs.ts';
export type { SysfsOptions, SysfsPath } from './sysfs.ts';
export type { BusDeviceEnd, BusDmaMap, BusInterruptInfo, BusMapping, BusRegion, PciTransport } from './transport.ts';
export { VfioUserSource } from './vfio-user-source.ts';
export type { VfioUserSourceOptions } from './vfio-user-source.ts';
export { VFIO_PCI_DRIVER } from './vfio-node.ts';
export * from './limits.ts';
