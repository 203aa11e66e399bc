/**
 * Consumes a vfio-user device: attach, regions, interrupts, DMA, migration, dirty pages. The server is not trusted: whatever it
 * sends is checked, and every failure is a `ClientError` with a stable `code`.
 *
 * Reading order: `client.ts` (the face), `session.ts` (one connection), `requests.ts` (what is in flight), then the parts.
 *
 * @packageDocumentation
 */
export { VfioUserClient } from './client.ts';
export type { ConnectOptions } from './client.ts';
export type { Closed, CloseReason } from './connection.ts';
export { DirtyBitmap } from './dirty-bitmap.ts';
export type { DirtyLog } from './dirty-log.ts';
export type { Dma } from './dma.ts';
export { DmaAllocator } from './dma-allocator.ts';
export type { DmaAllocatorOptions, DmaBuffer, DmaMapper } from './dma-allocator.ts';
export type { DmaMapRequest } from './dma-maps.ts';
export type { DmaHandler } from './dma-server.ts';
export { ClientError } from './errors.ts';
export type { ClientErrorCode } from './errors.ts';
export { CHANNEL } from './events.ts';
export type { ClientEvent } from './events.ts';
export type { FeatureOperation, Features, GetFeatureOptions } from './features.ts';
export type { Interrupt, InterruptSubscription, SubscribeOptions } from './interrupt-subscription.ts';
export type { Interrupts, VectorChoice } from './interrupts.ts';
export type { IoFd, IoFds } from './io-fds.ts';
export { migrate } from './migrate.ts';
export type { Migrated, MigrateOptions } from './migrate.ts';
export type { Migration, MigrationCapabilities, MigrationState, SaveOptions } from './migration.ts';
export type { AnnouncedCapabilities } from './negotiation.ts';
export { capabilityName } from './capability-names.ts';
export { PciConfig } from './pci-config.ts';
export type { Bar, Capability, ConfigAccess, PciHeader } from './pci-config.ts';
export type { ReconnectEvent, ReconnectOptions } from './reconnect.ts';
export type { Region } from './region.ts';
export type { MapRegionOptions, MappedArea, RegionMapping } from './region-mapping.ts';
export type { Regions, RegionWrite, WriteOptions } from './regions.ts';
export type { CallOptions } from './requests.ts';
export * from './limits.ts';
