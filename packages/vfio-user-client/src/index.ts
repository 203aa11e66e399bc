/**
 * Consumes a vfio-user device: attach, regions, interrupts, DMA. The server is not trusted: whatever it sends is checked, and
 * every failure is a `ClientError` with a stable `code`.
 *
 * @packageDocumentation
 */
export { VfioUserClient } from './client.ts';
export type { ConnectOptions } from './client.ts';
export type { Closed, CloseReason } from './connection.ts';
export type { DmaMapRequest } from './dma-maps.ts';
export type { DmaHandler } from './dma-server.ts';
export { ClientError } from './errors.ts';
export type { ClientErrorCode } from './errors.ts';
export { CHANNEL } from './events.ts';
export type { ClientEvent } from './events.ts';
export type { Region } from './region.ts';
export type { MapRegionOptions, MappedArea, RegionMapping } from './region-mapping.ts';
export * from './limits.ts';
