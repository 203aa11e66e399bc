/**
 * The vfio-user wire: every message and structure, encoded, decoded and validated; framing with passed descriptors; version
 * negotiation; what differs between peers. Bytes only: no I/O, no Node API.
 *
 * Names: `decodeX(payload)` reads a request and throws a `ProtocolError` with consequence 'reply'; `decodeXReply` (and
 * `decodeDeviceInfo`, `decodeRegionInfo`, `decodeIrqInfo`, `decodeRegionIoFds`, the answers of the GET commands) reads a reply and
 * throws one with consequence 'close', as do `decodeHeader` and `decodeVersion`. `encodeX` returns a payload, `newX` a whole message. A decoder never reads past its input and never
 * throws anything else. Data it returns are views of the payload. `describeMessage` is for people: it judges nothing and never throws.
 *
 * @packageDocumentation
 */
export * from './commands.ts';
export * from './constants.ts';
export * from './describe.ts';
export * from './errors.ts';
export * from './framing.ts';
export * from './header.ts';
export * from './limits.ts';
export * from './peers.ts';
export * from './version.ts';
export * from './commands/device-feature.ts';
export * from './commands/device-get-info.ts';
export * from './commands/device-get-irq-info.ts';
export * from './commands/device-get-region-info.ts';
export * from './commands/device-get-region-io-fds.ts';
export * from './commands/device-set-irqs.ts';
export * from './commands/dma-access.ts';
export * from './commands/dma-map.ts';
export * from './commands/dma-unmap.ts';
export * from './commands/mig-data.ts';
export * from './commands/region-access.ts';
export * from './commands/region-write-multi.ts';
