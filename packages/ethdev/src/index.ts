/**
 * The network port class: ports and their data paths, bursts of frames, the polling threads (lcores) that move them, and the
 * forwarding engines in between. A port driver needs `port.ts`, `burst.ts` and, for convenience, `PortCounters` and the frame
 * ring; an application needs `LcorePool` and `Forwarding`.
 *
 * @packageDocumentation
 */
export * from './burst.ts';
export * from './port.ts';
export * from './limits.ts';
export { EthdevError, type EthdevErrorCode } from './errors.ts';
export { SoftwarePort } from './software-port.ts';
export { allocateBurst, type OwnedBurst } from './burst-memory.ts';
export { COUNTER_BYTES, addCounter, readCounter } from './counter.ts';
export * from './port-counters.ts';
export { checksumOf, foldSum, sumWindowWords, sumWords, updateChecksum } from './checksum.ts';
export { windowBytes, type WindowBytes } from './window-bytes.ts';
export { MAX_VIRTIO_FRAME_BYTES, VIRTIO_HEADER_BYTES } from './virtio-header/format.ts';
export { VirtioReceiver } from './virtio-header/receive.ts';
export { bytesToFinish, describeFrame, describeSegment, isSegmentable, isTso, loadFrame, payloadPerWrite, type TxFrame } from './virtio-header/transmit.ts';
export { FrameRingReader, FrameRingWriter, allocateFrameRing, copyInWindow, type FrameRingCells } from './frame-ring.ts';
export type { Engine, EngineName, EngineSpec } from './engines/engine.ts';
export { ENGINE_NAMES, createEngine } from './engines/create.ts';
export { LCORE_EVENTS_CHANNEL, Lcore, type LcoreEvent, type LcoreOptions, type LcoreResources, type Stream, type StreamSpec, type StreamStats } from './lcore.ts';
export { LcorePool, type LcorePoolOptions } from './lcore-pool.ts';
export { LearningSwitch, type SwitchAddress, type SwitchOptions, type SwitchPortStats } from './switch.ts';
export { Forwarding, type EngineChoice, type ForwardingOptions, type StreamReport, type SwitchReport } from './forwarding.ts';
export { parseRoutes, portsOf, routeText, type Pair, type Route, type SwitchedPorts } from './routes.ts';
