/**
 * Guest memory as part of one process-wide WebAssembly linear memory, the DMA window: mapping, IOVA translation with the
 * consumer's permissions, and the quiescence that lets a mapping go away under polling threads.
 *
 * @packageDocumentation
 */
export * from './limits.ts';
export * from './iotlb.ts';
export { DmaError } from './errors.ts';
export type { DmaErrorCode } from './errors.ts';
export { Window, attachWindow } from './window.ts';
export type { WindowMapRequest, WindowMapping, WindowOffset, WindowView } from './window.ts';
export { FreeRanges } from './free-ranges.ts';
export { IovaSpace } from './iova-space.ts';
export type { DmaEntry, PinnedRange } from './iova-space.ts';
export type { BounceArea } from './bounce-areas.ts';
export type { DmaMapRequest, RemoteMemory } from './map-request.ts';
export type { DirtyLog, IovaRange } from './dirty-log.ts';
export { UNSEALED_CHANNEL } from './check-file.ts';
export type { Truncation, UnsealedEvent } from './check-file.ts';
export { Quiescence, QuiescenceTimeoutError, QuiescentReader } from './quiescence.ts';
export type { ReaderCells } from './quiescence.ts';
export { MISS_CELL_BYTES, MissCell, MissDesk } from './misses.ts';
export type { Brought, MissCells, MissTarget, RemoteHandler } from './misses.ts';
export { WindowCache } from './window-cache.ts';
export { loadKernels } from './kernels.ts';
