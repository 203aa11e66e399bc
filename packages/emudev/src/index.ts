/**
 * The emulated-device class: what a *provider* (an emudev driver: configuration space, registers, interrupts) and a *back end*
 * (the data path) of a device agree on, the life they lead, and the bus (`--vdev`) that makes them from text.
 *
 * - `device.ts`: the contract of both sides; `EmudevRegistry` is where devices are found.
 * - `vdev.ts`: the contract of a driver package; `VdevBus` probes, `discoverDrivers` finds drivers nobody listed.
 * - `vector.ts`: interrupts that any thread may raise; `doorbell.ts`: the three kinds of doorbell; `event-ring.ts`: records between threads.
 * - `attr-type.ts`: what attributes look like, here and as text.
 *
 * @packageDocumentation
 */
export * from './device.ts';
export * from './attr-type.ts';
export * from './vector.ts';
export * from './vdev.ts';
export * from './errors.ts';
export * from './limits.ts';
export { EmulatedPciDevice, emulatedVdev, type EmudevFamily, type EmulatedPciDeviceSpec, type EmulatedPciVdev } from './emulated-pci-device.ts';
export { Orders, type Order } from './orders.ts';
export { systemClock, type EmudevClock } from './clock.ts';
export { EmudevRegistry, type EmudevRegistryOptions } from './registry.ts';
export { createChannel, type ChannelOptions, type ProviderChannel } from './channel.ts';
export { EventConsumer, EventProducer, EventRing, type EventRingOptions } from './event-ring.ts';
export { FdDoorbell, TrapDoorbell, watchDoorbell, type WatchDoorbellOptions } from './doorbell.ts';
export { providerChecks, selfTestCheck } from './self-test.ts';
export { EMUDEV_DIAGNOSTICS, type EmudevDiagnostic } from './observers.ts';
export { checkDeviceName, formatVdev, parseKvargs, parseList, parseVdev, takeArgs, type KeyValue, type VdevText } from './kvargs.ts';
export { integerArg, listArg, macArg, oneOfArg, onOffArg, parseArgs, pathArg, sizeArg, stringArg, type ArgOptions } from './args.ts';
export { describeDriver, type DescribedDriver } from './help.ts';
export { VdevBus, type ProbedDevice, type VdevBusOptions } from './vdev-bus.ts';
export { type AnyVdevDriver } from './driver-table.ts';
export { VDEV_DIAGNOSTICS, type VdevDiagnostic } from './vdev-events.ts';
export { discoverDrivers, type DiscoveredDriver, type DriverCatalog } from './discover.ts';
