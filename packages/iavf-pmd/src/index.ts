/**
 * A driver for the Intel Adaptive Virtual Function (iavf), as a port like any other: behind a vfio-user socket (the other side of an emulated card), or
 * in this machine, bound to vfio-pci. `driver` is what the vdev bus loads for `net_iavf`, `pciDriver` is for a `PciBus`; `IavfPort` is the same without a bus.
 *
 * @packageDocumentation
 */
export { BufferPool, type BufferLease, type BufferPoolOptions, type Buffers } from './buffer-pool.ts';
export { deviceAt } from './device-at.ts';
export { driver, pciDriver, type IavfArgs, type IavfPortArgs } from './driver.ts';
export { IavfPort, type IavfPortOptions } from './port.ts';
export { BusTransport, type IavfMemory, type IavfTransport } from './transport.ts';
export { IavfError, type IavfErrorCode } from './errors.ts';
export { IAVF_EVENTS_CHANNEL, type IavfEvent } from './events.ts';
