/**
 * The memif port: frames to and from another process on the same host (DPDK, VPP, OVS-DPDK, or another of ours) through shared
 * memory, without a system call per frame. Either end may be the server.
 *
 * @packageDocumentation
 */
export { DRIVER_NAME, MemifPort, type MemifOptions, type MemifRole } from './port.ts';
export { driver, type MemifArgs } from './driver.ts';
export { MemifError, type MemifErrorCode } from './errors.ts';
export { MEMIF_CHANNEL, type MemifEvent } from './events.ts';
export * from './limits.ts';
export * from './messages.ts';
